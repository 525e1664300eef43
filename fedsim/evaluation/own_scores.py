"""The scores of cars' models on held-out scenes of their own and of other cars, and how evenly cars are served."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class OwnScores:
    """The mIoU of every car's model on the held-out scenes of every car.

    cars: the names of S cars; table: (S, S) float64, a row for the model of each of them, a column for the scenes of
    each; NaN where a car has no such scenes. The rows are equal if the cars share a model.
    """

    cars: Sequence[str]
    table: np.ndarray

    @classmethod
    def of_one(cls, cars: Sequence[str], mious: np.ndarray) -> "OwnScores":
        """Return the scores of a model that all cars share. mious: (S,), NaN for a car without held-out scenes."""
        return cls(cars, np.tile(mious, (len(mious), 1)))

    @property
    def own(self) -> np.ndarray:
        """The mIoU of each car's model on its own held-out scenes, (S,); NaN for a car that has none."""
        return self.table.diagonal()

    @property
    def mean(self) -> float:
        """The mean of `own` over the cars that have such scenes."""
        return float(np.nanmean(self.own))

    @property
    def worst(self) -> int:
        """The car whose own mIoU is the lowest."""
        return int(np.nanargmin(self.own))

    @property
    def worst_miou(self) -> float:
        """The lowest of `own`."""
        return float(np.nanmin(self.own))

    @property
    def deviation(self) -> float:
        """The standard deviation of `own` over cars (with n, because these are all cars there are)."""
        return float(np.nanstd(self.own))

    @property
    def jain(self) -> float:
        """Jain's index of fairness of `own`: (Σ x)² / (n Σ x²), 1 if all are equal and 1/n if one car has all.

        Jain, Chiu, Hawe 1984, DEC-TR-301. It is 1 if all are 0.
        """
        there = self.own[~np.isnan(self.own)]
        squares = len(there) * float(np.square(there).sum())
        return float(there.sum()) ** 2 / squares if squares else 1.0

    @property
    def others(self) -> float | None:
        """The mean mIoU of a car's model on the held-out scenes of another car, over all such pairs; None without one.

        A model that all cars share has about its own mean here.
        """
        pairs = self.table[~np.eye(len(self.table), dtype=bool)]
        pairs = pairs[~np.isnan(pairs)]
        return float(pairs.mean()) if pairs.size else None
