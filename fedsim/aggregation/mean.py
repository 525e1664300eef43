"""The weighted mean, exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:  # the command line lists aggregators, and torch takes seconds to import
    from pathlib import Path

    from torch import Tensor

    from fedsim.distributed.world import World


@dataclass(frozen=True)
class Mean:
    """Σ weight · contribution / Σ weight.

    McMahan, Moore, Ramage, Hampson, Agüera y Arcas 2017, "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", AISTATS, arXiv:1602.05629. A single car can move it anywhere.
    """

    name: ClassVar[str] = "mean"
    minimum: ClassVar[int] = 1
    robust: ClassVar[bool] = False

    def gather(self, like: Sequence[Tensor], owners: Sequence[int], world: World, folder: Path | None) -> MeanOfParts:
        return MeanOfParts(like, world)


class MeanOfParts:
    """A sum for each part; contributions are not kept, so there is nothing to put into files."""

    def __init__(self, like: Sequence[Tensor], world: World) -> None:
        from fedsim.aggregation.exact_sum import ExactSum

        self.world = world
        self.sums = [ExactSum(part) for part in like]

    def add(self, slot: int, parts: Sequence[Tensor], weight: int) -> bool:
        return all([own.add(part, weight) for own, part in zip(self.sums, parts, strict=True)])

    def combine(self) -> tuple[list[Tensor], int]:
        totals = [own.total(self.world) for own in self.sums]
        # Without any weight the totals are zeros, and stay so.
        return [total / (weight or 1) for total, weight in totals], totals[0][1]
