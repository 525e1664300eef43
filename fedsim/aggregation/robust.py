"""Robust aggregators, which a few hostile or broken cars cannot move far.

All cars count the same unless a rule says otherwise. A car reports its own number of samples, so an attacker could
use weights to gain influence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar

from fedsim.options import check, option

if TYPE_CHECKING:  # the command line lists aggregators and their options, and torch takes seconds to import
    from pathlib import Path

    from torch import Tensor

    from fedsim.aggregation.stored import StoredContributions
    from fedsim.distributed.world import World


class _Rule:
    """The common part of robust aggregators."""

    robust: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self)

    def minimum(self, chosen: int) -> int:
        return min(3, chosen)  # of two that differ, nobody can tell which one is hostile

    def withstands(self, weights: Sequence[int], chosen: int) -> int:
        return (len(weights) - 1) // 2

    def gather(self, like: Sequence[Tensor], owners: Sequence[int], chosen: int, world: World,
               folder: Path | None) -> StoredContributions:
        least = self.minimum(chosen)
        assert not owners or len(owners) >= least, f"{len(owners)} contributions, of which {least} are needed"
        from fedsim.aggregation.stored import StoredContributions

        return StoredContributions(self.combine, like, owners, chosen, world, folder)

    def combine(self, stored: StoredContributions) -> list[Tensor]:
        """Return the combined parts, valid only at the coordinator. Every rank calls it."""
        raise NotImplementedError


class _ByWeights(_Rule):
    """A rule that gives contributions weights by their part 0. All parts are combined with these weights."""

    def combine(self, stored: StoredContributions) -> list[Tensor]:
        from fedsim.aggregation.rules import combination

        weights = self.weigh(stored)
        stored.world.broadcast_(weights)  # so that ranks send only the contributions in use
        used = weights.nonzero().flatten()
        return stored.by_columns(used.tolist(), lambda u: combination(u, weights[used]))

    def weigh(self, stored: StoredContributions) -> Tensor:
        """Return weights (n,) that add up to 1, valid only at the coordinator. Every rank calls it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Median(_Rule):
    """Coordinatewise median.

    Yin, Chen, Ramchandran, Bartlett 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical
    Rates", ICML, arXiv:1803.01498, Algorithm 1.
    """

    name: ClassVar[str] = "median"

    def combine(self, stored: StoredContributions) -> list[Tensor]:
        from fedsim.aggregation.rules import median

        return stored.by_columns(range(stored.count), median)


@dataclass(frozen=True)
class TrimmedMean(_Rule):
    """Coordinatewise mean without the extremes. Yin et al. 2018, as for the median; `fraction` is their beta.

    The number of contributions dropped at each end is that share of all cars of the round. It does not shrink if some
    of them never answer, because the hostile cars may be among those that do.
    """

    name: ClassVar[str] = "trimmed-mean"
    fraction: float = option(0.2, "Share of the cars that trimmed-mean drops at each end.", name="trim_fraction",
                             at_least=0, below=0.5)

    def minimum(self, chosen: int) -> int:
        return 2 * self.count_dropped(chosen) + 1

    def withstands(self, weights: Sequence[int], chosen: int) -> int:
        return self.count_dropped(chosen)

    def count_dropped(self, chosen: int) -> int:
        """Return how many contributions are dropped at each end in a round of `chosen` cars."""
        # In floating point 0.29 * 100 is below 29, and 3 / 7 * 7 may be below 3. The bound keeps one at least.
        return min(int(self.fraction * chosen + 1e-9), (chosen - 1) // 2)

    def combine(self, stored: StoredContributions) -> list[Tensor]:
        from fedsim.aggregation.rules import trimmed_mean

        dropped = self.count_dropped(stored.chosen)
        return stored.by_columns(range(stored.count), lambda u: trimmed_mean(u, dropped))


@dataclass(frozen=True)
class Krum(_ByWeights):
    """The contribution with the smallest sum of squared distances to its n - hostile - 2 nearest others.

    Blanchard, El Mhamdi, Guerraoui, Stainer 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient
    Descent", NeurIPS, arXiv:1703.02757. The lowest slot wins a tie. With the smallest number of contributions there is
    always a tie, between the two that are nearest to each other.
    """

    name: ClassVar[str] = "krum"
    hostile: int = option(1, "Hostile cars that krum and multi-krum expect, the paper's f.", name="krum_hostile",
                          at_least=0)

    def minimum(self, chosen: int) -> int:
        return self.hostile + 3

    @property
    def guaranteed(self) -> int:
        """The smallest number of contributions for which the paper's theorem holds."""
        return 2 * self.hostile + 3

    def withstands(self, weights: Sequence[int], chosen: int) -> int:
        return self.hostile if len(weights) >= self.guaranteed else 0

    def count_averaged(self, answers: int) -> int:
        """Return how many of the contributions are averaged."""
        return 1

    def weigh(self, stored: StoredContributions) -> Tensor:
        from fedsim.aggregation.rules import krum_scores, lowest, squared_distances

        squared = stored.over_pairs(squared_distances)
        return lowest(krum_scores(squared, self.hostile), self.count_averaged(stored.count))


@dataclass(frozen=True)
class MultiKrum(Krum):
    """The plain mean of the n - hostile - 2 contributions with Krum's best scores: the most that the proof allows."""

    name: ClassVar[str] = "multi-krum"

    def count_averaged(self, answers: int) -> int:
        return answers - self.hostile - 2


@dataclass(frozen=True)
class GeometricMedian(_ByWeights):
    """The point with the smallest Σ weight · distance to the contributions, iterated to convergence.

    Pillutla, Kakade, Harchaoui 2022, "Robust Aggregation for Federated Learning", IEEE Transactions on Signal
    Processing 70, arXiv:1912.13445 (RFA). As in the paper, cars have the same weights as in the mean. It withstands
    hostile cars as long as their weights add up to less than half.
    """

    name: ClassVar[str] = "geometric-median"

    def withstands(self, weights: Sequence[int], chosen: int) -> int:
        heaviest = accumulate(sorted(weights, reverse=True))
        return sum(2 * together < sum(weights) for together in heaviest)

    def weigh(self, stored: StoredContributions) -> Tensor:
        from fedsim.aggregation.rules import geometric_median, inner_products, medoid, squared_distances

        q = stored.shares()
        origin = medoid(stored.over_pairs(squared_distances), q)
        return geometric_median(stored.over_pairs(lambda u: inner_products(u, origin)), q, origin)
