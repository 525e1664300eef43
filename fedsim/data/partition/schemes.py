"""Which car has which scenes: by drive, at random, with a skew of classes or sizes, or under conditions of its own.

Every scene goes to exactly one car and every car gets at least one. How unequal a partition is, `skew` measures.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from fedsim.data.partition import PARTITIONS, by_class
from fedsim.data.perturbations import PERTURBATIONS, SEVERITIES, Perturbation
from fedsim.data.scene_set import SceneSet
from fedsim.errors import SettingsError
from fedsim.seeds import stream

LONGEST_LIST = 100  # characters of a name that lists a car's drives


@dataclass(frozen=True, eq=False)
class Shard:
    """A car's scenes."""

    name: str  # of the car, unique in its partition
    indices: np.ndarray  # (n,) int64 into the scene set, ascending
    condition: str | None = None  # that the car drives under, such as "fog:3"


def partition(scheme: str, scene_set: SceneSet, cars: int, seed: int, alpha: float | None) -> list[Shard]:
    """Deal the scenes to `cars` cars; a pure function of its arguments.

    drive: a car is a drive where there are as many; fewer cars share out whole drives, more cars get stretches of a
    drive. condition: as drive, and every car has a kind of perturbation and a severity of its own. iid: at random,
    sizes within one. dirichlet, classes: sizes within one, classes unequal; a car favours all classes unequally, or
    `alpha` of them. That is a preference: scenes of a road hold nearly every class. quantity: at random, sizes in
    proportion to rank^(-1/alpha) above one scene each. The smaller `alpha`, the more unequal the cars; schemes
    without a DEFAULT_ALPHA don't read it. Raises SettingsError.
    """
    if scheme not in PARTITIONS:
        raise SettingsError(f"--partition is {scheme!r}; valid are {', '.join(PARTITIONS)}")
    scenes = len(scene_set)
    if not 1 <= cars <= scenes:
        raise SettingsError(f"--cars is {cars}, but there are {scenes} training scenes and every car "
                            f"needs at least one; take 1 to {scenes} cars")
    random = stream(seed, "partition", scheme)
    if scheme == "drive":
        return _named(_by_drive(scene_set.drives, cars))
    if scheme == "condition":
        return _under_conditions(_named(_by_drive(scene_set.drives, cars)), random)
    if scheme == "iid":
        return _numbered(scheme, np.array_split(random.permutation(scenes), cars))
    if scheme == "quantity":
        sizes = random.permutation(_power_law(scenes, cars, _positive(scheme, alpha)))
        return _numbered(scheme, np.split(random.permutation(scenes), np.cumsum(sizes)[:-1]))
    seen = scene_set.histograms[:, scene_set.histograms.any(0)]
    classes = seen.shape[1]
    if scheme == "dirichlet":
        wanted = by_class.tastes(cars, classes, _positive(scheme, alpha), random)
    else:
        wanted = by_class.favourites(cars, classes, _whole(scheme, alpha, classes), random)
    owner = by_class.assign_scenes(seen, wanted, random)
    return _numbered(scheme, [np.flatnonzero(owner == car) for car in range(cars)])


def _positive(scheme: str, alpha: float | None) -> float:
    if alpha is None or not 0 < alpha < math.inf:
        raise SettingsError(f"--alpha is {alpha}; --partition {scheme} needs a number above 0, e.g. "
                            "--alpha 0.1 for unequal cars or --alpha 100 for nearly equal ones")
    return alpha


def _whole(scheme: str, alpha: float | None, classes: int) -> int:
    if alpha is None or alpha not in range(1, classes + 1):
        raise SettingsError(f"--alpha is {alpha}; --partition {scheme} needs how many classes a car favours, a whole "
                            f"number from 1 to the {classes} of the training scenes")
    return int(alpha)


def _numbered(scheme: str, parts: Iterable[np.ndarray]) -> list[Shard]:
    return [Shard(f"{scheme}-{car:02d}", np.sort(part)) for car, part in enumerate(parts)]


def _named(parts: Iterable[tuple[str, np.ndarray]]) -> list[Shard]:
    """Shards whose names may stand on a screen and in the name of a file, no two alike.

    Drives are named by folders and files, which allow more; and one may be called as a stretch of another is.
    """
    shards: dict[str, Shard] = {}
    for drive, indices in parts:
        name = "".join(letter if letter.isprintable() and letter not in "/\\" else "_" for letter in drive)
        unique, number = name, 1
        while unique in shards:
            number += 1
            unique = f"{name}-{number}"
        shards[unique] = Shard(unique, indices)
    return list(shards.values())


def _by_drive(drives: tuple[str, ...], cars: int) -> Iterator[tuple[str, np.ndarray]]:
    numbers = {drive: number for number, drive in enumerate(dict.fromkeys(drives))}
    codes = np.array([numbers[drive] for drive in drives])
    ends = np.cumsum(np.bincount(codes))
    members = dict(zip(numbers, np.split(np.argsort(codes, kind="stable"), ends[:-1]), strict=True))
    return _share_out(members, cars) if cars < len(members) else _cut(members, cars)


def _share_out(members: dict[str, np.ndarray], cars: int) -> Iterator[tuple[str, np.ndarray]]:
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
        name = "+".join(hand)
        if len(name) > LONGEST_LIST:
            name = f"{hand[0]}+{len(hand) - 1} drives"
        yield name, np.sort(np.concatenate([members[drive] for drive in hand]))


def _cut(members: dict[str, np.ndarray], cars: int) -> Iterator[tuple[str, np.ndarray]]:
    """Drives into stretches of time, one a car.

    Never alternating scenes: neighbours look alike, and cars that shared them would hardly differ.
    """
    stretches = dict.fromkeys(members, 1)
    for _ in range(cars - len(members)):
        longest = max(members, key=lambda drive: len(members[drive]) / stretches[drive])
        stretches[longest] += 1
    for drive, indices in members.items():
        for i, stretch in enumerate(np.array_split(indices, stretches[drive])):
            yield drive if stretches[drive] == 1 else f"{drive}-{_letters(i)}", stretch


def _letters(i: int) -> str:
    """a, b, … z, aa, ab, … for 0, 1, …"""
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("a") + i % 26)


def _under_conditions(shards: list[Shard], random: np.random.Generator) -> list[Shard]:
    """Each car with a condition of its own, which its name tells too."""
    names, cars = list(PERTURBATIONS), len(shards)
    kinds, severities = _in_turn(len(names), cars, random), _in_turn(SEVERITIES, cars, random)
    conditions = [Perturbation(names[kind], severity + 1) for kind, severity in zip(kinds, severities, strict=True)]
    return [replace(shard, name=f"{shard.name}-{own.kind}-{own.severity}", condition=str(own))
            for shard, own in zip(shards, conditions, strict=True)]


def _in_turn(values: int, cars: int, random: np.random.Generator) -> list[int]:
    """One of 0 to values - 1 for every car, none a second time before all have had their turn."""
    rounds = math.ceil(cars / values)
    return np.concatenate([random.permutation(values) for _ in range(rounds)])[:cars].tolist()


def _power_law(scenes: int, cars: int, alpha: float) -> np.ndarray:
    """Sizes (cars,) in descending order: one each, the rest in shares ∝ rank^(-1/alpha), by largest remainder."""
    shares = np.arange(1.0, cars + 1) ** (-1 / alpha)
    exact = (scenes - cars) * shares / shares.sum()
    sizes = np.floor(exact).astype(np.int64)
    left = scenes - cars - sizes.sum()
    sizes[np.argsort(sizes - exact, kind="stable")[:left]] += 1
    return sizes + 1
