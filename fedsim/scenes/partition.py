"""Which car has which scenes: by drive, at random, or with a skew of classes.

Every scene goes to exactly one car and every car gets at least one. How unequal a partition is, `skew` tells.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedsim.errors import SettingsError
from fedsim.scenes.scene_set import SceneSet
from fedsim.seeds import stream

PARTITIONS = ("drive", "iid", "dirichlet")
DEFAULT_ALPHA = 0.5  # of dirichlet, where none is given

# How firmly a scene goes where its classes are wanted. A scene of a road holds nearly every class, so scenes
# differ far less than the one-label pictures Dirichlet partitions were made for. With CamVid's 367 training
# scenes and 4 cars, the skew at alpha 0.1 is 0.003 bits with sharpness 1 and 0.010 with 4; dealt at random it
# is 0.0005, a car a drive 0.020.
SHARPNESS = 4


@dataclass(frozen=True, eq=False)
class Shard:
    """A car's scenes."""

    name: str  # of the car, unique in its partition
    indices: np.ndarray  # (n,) int64 into the scene set, ascending


def partition(scheme: str, scene_set: SceneSet, cars: int, seed: int, alpha: float | None) -> list[Shard]:
    """Deal the scenes to `cars` cars; a pure function of its arguments.

    drive: a car is a drive where there are as many; fewer cars share out whole drives, more cars get
    stretches of a drive. iid: at random, sizes within one. dirichlet: sizes within one, classes the more
    unequal the smaller `alpha` > 0, which the other schemes do not read. Raises SettingsError.
    """
    if not 1 <= cars <= len(scene_set):
        raise SettingsError(f"--cars is {cars}, but there are {len(scene_set)} training scenes and every car "
                            f"needs at least one; take 1 to {len(scene_set)} cars")
    if scheme == "drive":
        return _by_drive(scene_set.drives, cars)
    if scheme == "iid":
        order = stream(seed, "partition", "iid").permutation(len(scene_set))
        return _numbered("iid", np.array_split(order, cars))
    if scheme == "dirichlet":
        if alpha is None or not 0 < alpha < math.inf:
            raise SettingsError(f"--alpha is {alpha}; --partition dirichlet needs a number above 0, e.g. "
                                "--alpha 0.1 for unequal cars or --alpha 100 for nearly equal ones")
        histograms = class_histograms(scene_set.labels, len(scene_set.classes))
        owner = _by_class(histograms, cars, alpha, stream(seed, "partition", "dirichlet"))
        return _numbered("dirichlet", [np.flatnonzero(owner == car) for car in range(cars)])
    raise SettingsError(f"--partition is {scheme!r}; valid are {', '.join(PARTITIONS)}")


def class_histograms(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labelled pixels of every scene by class: labels (N, h, w) uint8 -> (N, classes) int64."""
    return np.stack([np.bincount(label.ravel(), minlength=256)[:classes] for label in labels])


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Divergence of two distributions (C,), given as counts or shares, in bits: 0 if equal, 1 if disjoint.

    JS = ½ KL(p‖m) + ½ KL(q‖m), m = ½ (p + q).   Lin 1991, doi:10.1109/18.61115.
    """
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    return (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2


def skew(shards: list[Shard], histograms: np.ndarray) -> float:
    """Mean divergence of a car's classes from the pool's, in bits; histograms: as from class_histograms."""
    pool = histograms.sum(0)
    return float(np.mean([jensen_shannon(histograms[shard.indices].sum(0), pool) for shard in shards]))


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> float:
    seen = p > 0
    return float((p[seen] * np.log2(p[seen] / q[seen])).sum())


def _numbered(scheme: str, parts: list[np.ndarray]) -> list[Shard]:
    return [Shard(f"{scheme}-{car:02d}", np.sort(part)) for car, part in enumerate(parts)]


def _by_drive(drives: tuple[str, ...], cars: int) -> list[Shard]:
    members = {drive: np.flatnonzero(np.array(drives) == drive) for drive in dict.fromkeys(drives)}
    if cars < len(members):
        return list(_share_out(members, cars))
    return list(_cut(members, cars))


def _share_out(members: dict[str, np.ndarray], cars: int) -> Iterator[Shard]:
    """Whole drives to fewer cars: the longest drive first, to the car that has the fewest scenes."""
    hands: list[list[str]] = [[] for _ in range(cars)]
    sizes = [0] * cars
    for drive in sorted(members, key=lambda drive: -len(members[drive])):
        car = sizes.index(min(sizes))
        hands[car].append(drive)
        sizes[car] += len(members[drive])
    place = {drive: i for i, drive in enumerate(members)}
    for hand in hands:
        hand.sort(key=place.__getitem__)
    for hand in sorted(hands, key=lambda hand: place[hand[0]]):
        yield Shard("+".join(hand), np.sort(np.concatenate([members[drive] for drive in hand])))


def _cut(members: dict[str, np.ndarray], cars: int) -> Iterator[Shard]:
    """Drives into stretches of time, one a car.

    Never alternating scenes: neighbours look alike, and cars that shared them would hardly differ.
    """
    stretches = dict.fromkeys(members, 1)
    for _ in range(cars - len(members)):
        longest = max(members, key=lambda drive: len(members[drive]) / stretches[drive])
        stretches[longest] += 1
    for drive, indices in members.items():
        for i, stretch in enumerate(np.array_split(indices, stretches[drive])):
            yield Shard(drive if stretches[drive] == 1 else f"{drive}-{_letters(i)}", stretch)


def _letters(i: int) -> str:
    """a, b, … z, aa, ab, … for 0, 1, …"""
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("a") + i % 26)


def _by_class(histograms: np.ndarray, cars: int, alpha: float, random: np.random.Generator) -> np.ndarray:
    """The car of every scene (N,), from pixels by scene and class (N, C).

    Car i wants classes in the shares q_i ~ Dirichlet(alpha), as in Hsu, Qi & Brown 2019 (arXiv:1909.06335,
    §3). There a picture has one class; here scene n has shares h_n, and what it is worth to the car is
    a_in = Σ_c q_ic h_nc / h_c, with h the shares of the pool. It goes to car i with a probability in
    proportion to a_in^SHARPNESS as long as there is room: log-weights plus Gumbel noise (Yellott 1977) are
    served from the highest down, so what fills a car up at last is what nobody cared for.
    """
    scenes = len(histograms)
    present = histograms[:, histograms.any(0)]
    shares = present / np.maximum(present.sum(1, keepdims=True), 1)
    wanted = random.dirichlet(np.full(shares.shape[1], alpha), cars)
    worth = wanted @ (shares / shares.mean(0)).T
    scores = SHARPNESS * np.log(np.maximum(worth, 1e-12)) + random.gumbel(size=(cars, scenes))
    room = [len(part) for part in np.array_split(np.arange(scenes), cars)]
    owner = np.full(scenes, -1)
    for place in np.argsort(-scores, axis=None, kind="stable").tolist():
        car, scene = divmod(place, scenes)
        if owner[scene] < 0 and room[car]:
            owner[scene] = car
            room[car] -= 1
    return owner
