"""Local-only training, the lower yardstick of a federation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsim.algorithms.base import Algorithm, Local, Shared

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LocalOnly(Algorithm):
    """Training without communication: each car continues from its own model.

    The mean of the cars' models is computed only for the digest in the record. No car and no score uses it.

    >>> algorithm = LocalOnly()
    >>> shared = Shared(theta=5.0)
    >>> algorithm.start(shared, memory=3.0)  # the car's own model, not theta
    3.0
    >>> sent, memory = algorithm.contribute(Local(w=2.0, steps=5, images=10, step_length=0.5), shared, memory=3.0)
    >>> memory
    2.0
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
