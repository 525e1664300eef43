"""Local-only training: the lower yardstick of a federation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsim.algorithms.base import Algorithm, Local, Shared

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LocalOnly(Algorithm):
    """Cars never communicate: each goes on from its own model.

    The mean of their models is formed for the record's digest alone; no car and no score ever sees it.
    """

    name = "local"
    title = "cars alone"
    paper = "–"
    personal = True
    sends_model = True

    def init_memory(self, theta: Tensor) -> Tensor:
        return theta  # w_i

    def start(self, shared: Shared, memory: Tensor) -> Tensor:
        return memory

    def contribute(self, local: Local, shared: Shared, memory: Tensor) -> tuple[Tensor, Tensor]:
        return local.w, local.w

    def update(self, shared: Shared, mean: Tensor, participation: float) -> Shared:
        return Shared(mean)
