"""The weighted mean of contributions, computed exactly."""

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

    A single hostile car can move it anywhere. McMahan, Moore, Ramage, Hampson, Agüera y Arcas 2017,
    "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS, arXiv:1602.05629.
    """

    name: ClassVar[str] = "mean"
    robust: ClassVar[bool] = False

    def minimum(self, chosen: int) -> int:
        return 1

    def withstands(self, weights: Sequence[int], chosen: int) -> int:
        return 0

    def gather(self, like: Sequence[Tensor], owners: Sequence[int], chosen: int, world: World,
               folder: Path | None) -> MeanOfParts:
        return MeanOfParts(like, len(owners), world)


class MeanOfParts:
    """An exact sum for each part of a contribution. Contributions are not stored, so it needs no files."""

    def __init__(self, like: Sequence[Tensor], cars: int, world: World) -> None:
        from fedsim.aggregation.exact_sum import ExactSum

        self.world = world
        self.sums = [ExactSum(part, cars) for part in like]

    def add(self, slot: int, parts: Sequence[Tensor], weight: int) -> bool:
        return all([own.add(part, weight) for own, part in zip(self.sums, parts, strict=True)])

    def combine(self) -> tuple[list[Tensor], int]:
        from fedsim.aggregation.totals import totals

        found = totals(self.sums, self.world)
        # If all weights are 0, the totals are zeros; dividing by 1 keeps them.
        return [total.div_(weight or 1) for total, weight in found], found[0][1]
