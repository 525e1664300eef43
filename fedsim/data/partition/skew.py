"""Measures of how unequal cars are, and of how close in time splits are."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedsim.data.partition import CLOSE
from fedsim.data.partition.schemes import Shard
from fedsim.data.scene_set import Pictures, SceneSet

SCENES_AT_ONCE = 64  # bounds memory: 8 bytes a pixel of one channel


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Return the Jensen-Shannon divergence of two distributions in bits: 0 if equal, 1 if disjoint.

    p, q: counts or shares by class (C,).

    JS = ½ KL(p‖m) + ½ KL(q‖m), m = ½ (p + q).   Lin 1991, doi:10.1109/18.61115.
    """
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    return (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2


def skew(shards: Sequence[Shard], histograms: np.ndarray) -> float:
    """Return the mean divergence of a car's classes from the pool's, in bits.

    histograms: (N, C) pixels by scene and class.
    """
    cars = _by_car(shards, histograms)
    pool = cars.sum(0)
    return float(np.mean([jensen_shannon(car, pool) for car in cars]))


def missing_classes(shards: Sequence[Shard], histograms: np.ndarray) -> list[list[int]]:
    """Return for each car the classes that other cars have and it lacks.

    histograms: (N, C) pixels by scene and class.
    """
    has = _by_car(shards, histograms) > 0
    return [np.flatnonzero(has.any(0) & ~car).tolist() for car in has]


def sole_owner(shards: Sequence[Shard], histograms: np.ndarray) -> dict[int, int]:
    """Return {class: car} for the classes that only one car has.

    histograms: (N, C) pixels by scene and class.
    """
    has = _by_car(shards, histograms) > 0
    return {int(label): int(has[:, label].argmax()) for label in np.flatnonzero(has.sum(0) == 1)}


@dataclass(frozen=True)
class ColourStatistics:
    """The mean and the standard deviation of pixels in grey levels, each (red, green, blue)."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, images: Pictures, indices: np.ndarray) -> "ColourStatistics":
        """Compute them for the scenes `indices` of pictures (N, 3, H, W) uint8, exactly, from sums of integers."""
        levels = np.zeros((images.shape[1], 256), np.int64)
        for start in range(0, len(indices), SCENES_AT_ONCE):
            some = images[indices[start:start + SCENES_AT_ONCE]]
            for channel, counts in enumerate(levels):
                counts += np.bincount(some[:, channel].ravel(), minlength=256)
        grey = np.arange(256)
        count, totals, squares = int(levels[0].sum()), (levels @ grey).tolist(), (levels @ grey ** 2).tolist()
        return cls(tuple(total / count for total in totals),
                   tuple(math.sqrt(count * square - total ** 2) / count
                         for total, square in zip(totals, squares, strict=True)))

    def distance(self, other: "ColourStatistics") -> float:
        """Return the Fréchet distance of Gaussians with independent channels, in grey levels: 0 if equal.

        d² = Σ_c (μ_c - ν_c)² + (σ_c - τ_c)².   Dowson & Landau 1982, doi:10.1016/0047-259X(82)90077-X.
        """
        return math.dist(self.mean + self.deviation, other.mean + other.deviation)


def close_in_time(train: SceneSet, other: SceneSet, seconds: float = CLOSE) -> list[tuple[str, str, float]]:
    """Find the scenes of `other` that lie within `seconds` of a training scene of the same drive.

    Returns (name of the scene, name of the nearest training scene, seconds between them), in the order of `other`.
    Scenes of unknown time are left out.
    """
    known = _known_times(train)
    near = []
    for drive, (scenes, clock) in _known_times(other).items():
        if drive not in known:
            continue
        theirs, ticks = known[drive]
        after = np.searchsorted(ticks, clock).clip(max=len(ticks) - 1)
        before = (after - 1).clip(min=0)
        nearest = np.where(clock - ticks[before] <= np.abs(ticks[after] - clock), before, after)
        apart = np.abs(ticks[nearest] - clock)
        near += [(scenes[i], theirs[nearest[i]], float(apart[i])) for i in np.flatnonzero(apart <= seconds)]
    return [(other.names[i], train.names[j], apart) for i, j, apart in sorted(near)]


def _known_times(scenes: SceneSet) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return for each drive its scenes of known time (n,), in order of time, and their times (n,)."""
    known = defaultdict(list)
    for index, (drive, time) in enumerate(zip(scenes.drives, scenes.times, strict=True)):
        if time is not None:
            known[drive].append((time, index))
    return {drive: (np.array([index for _, index in pairs]), np.array([time for time, _ in pairs]))
            for drive, pairs in ((drive, sorted(pairs)) for drive, pairs in known.items())}


def _by_car(shards: Sequence[Shard], histograms: np.ndarray) -> np.ndarray:
    """Sum pixels by car and class: (cars, C)."""
    return np.stack([histograms[shard.indices].sum(0) for shard in shards])


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> float:
    seen = p > 0
    return float((p[seen] * np.log2(p[seen] / q[seen])).sum())
