"""Partitions by drive, at random, by classes, by size, or with conditions.

Each scene goes to exactly one car, and each car gets at least one scene. `skew` measures how unequal the cars are.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from fedsim.data.partition import PARTITIONS, by_class
from fedsim.data.perturbations import PERTURBATIONS, SEVERITIES, Perturbation
from fedsim.data.scene_set import SceneSet
from fedsim.errors import SettingsError
from fedsim.seeds import stream

LONGEST_LIST = 100  # characters of a car's name that lists its drives


def no_scenes() -> np.ndarray:
    """Return an empty list of scenes, (0,) int64."""
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Shard:
    """The scenes of one car."""

    name: str  # of the car, unique in its partition
    indices: np.ndarray  # (n,) int64 into the scene set, ascending; the car trains on them
    condition: str | None = None  # the perturbation of its pictures, such as "fog:3"
    own_test: np.ndarray = field(default_factory=no_scenes)  # (m,) likewise; no car trains on them
    left_out: np.ndarray = field(default_factory=no_scenes)  # (k,) likewise; too close to those for training

    def give_all_back(self) -> "Shard":
        """Return the same car with all of its scenes to train on."""
        return Shard(self.name, np.sort(np.concatenate([self.indices, self.own_test, self.left_out])), self.condition)


def partition(scheme: str, scene_set: SceneSet, cars: int, seed: int, alpha: float | None) -> list[Shard]:
    """Deal the scenes to `cars` cars. A pure function of its arguments.

    drive: each car gets one drive. Fewer cars than drives get whole drives each, more cars get stretches of drives.
    condition: as drive, and each car has a kind of perturbation and a severity of its own.
    iid: at random, equal sizes within one.
    dirichlet: equal sizes within one; each car prefers some classes to others.
    classes: equal sizes within one; each car prefers `alpha` of the classes. Both are preferences only, because scenes
    of a road hold nearly every class.
    quantity: at random; each car gets one scene, and the others in proportion to rank^(-1/alpha).

    The smaller `alpha`, the more unequal the cars. Schemes without a DEFAULT_ALPHA do not read it.
    Raises SettingsError.
    """
    if scheme not in PARTITIONS:
        raise SettingsError(f"--partition is {scheme!r}; valid are {', '.join(PARTITIONS)}")
    scenes = len(scene_set)
    if not 1 <= cars <= scenes:
        raise SettingsError(f"--cars is {cars}, but there are {scenes} training scenes and every car "
                            f"needs at least one; take 1 to {scenes} cars")
    random = stream(seed, "partition", scheme)
    if scheme == "drive":
        return _name_shards(_split_by_drive(scene_set.drives, cars))
    if scheme == "condition":
        return _assign_conditions(_name_shards(_split_by_drive(scene_set.drives, cars)), random)
    if scheme == "iid":
        return _number_shards(scheme, np.array_split(random.permutation(scenes), cars))
    if scheme == "quantity":
        sizes = random.permutation(_power_law_sizes(scenes, cars, _check_positive(scheme, alpha)))
        return _number_shards(scheme, np.split(random.permutation(scenes), np.cumsum(sizes)[:-1]))
    histograms = scene_set.histograms[:, scene_set.histograms.any(0)]  # without classes that no scene shows
    classes = histograms.shape[1]
    if scheme == "dirichlet":
        wanted = by_class.tastes(cars, classes, _check_positive(scheme, alpha), random)
    else:
        wanted = by_class.favourites(cars, classes, _check_whole(scheme, alpha, classes), random)
    owner = by_class.assign_scenes(histograms, wanted, random)
    return _number_shards(scheme, [np.flatnonzero(owner == car) for car in range(cars)])


def _check_positive(scheme: str, alpha: float | None) -> float:
    if alpha is None or not 0 < alpha < math.inf:
        raise SettingsError(f"--alpha is {alpha}; --partition {scheme} needs a number above 0, e.g. "
                            "--alpha 0.1 for unequal cars or --alpha 100 for nearly equal ones")
    return alpha


def _check_whole(scheme: str, alpha: float | None, classes: int) -> int:
    if alpha is None or alpha not in range(1, classes + 1):
        raise SettingsError(f"--alpha is {alpha}; --partition {scheme} needs how many classes a car favours, a whole "
                            f"number from 1 to the {classes} of the training scenes")
    return int(alpha)


def _number_shards(scheme: str, parts: Iterable[np.ndarray]) -> list[Shard]:
    """Return shards that are named by the scheme and their number."""
    return [Shard(f"{scheme}-{car:02d}", np.sort(part)) for car, part in enumerate(parts)]


def _name_shards(parts: Iterable[tuple[str, np.ndarray]]) -> list[Shard]:
    """Return shards with unique names that may stand on a screen and in the name of a file.

    Drives have the names of folders and files, which allow more characters. A drive may also have the name that a
    stretch of another one gets.
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


def _split_by_drive(drives: tuple[str, ...], cars: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the scenes of each car. drives: the drive of each scene."""
    position = {drive: index for index, drive in enumerate(dict.fromkeys(drives))}
    drive_of_scene = np.array([position[drive] for drive in drives])
    ends = np.cumsum(np.bincount(drive_of_scene))
    members = dict(zip(position, np.split(np.argsort(drive_of_scene, kind="stable"), ends[:-1]), strict=True))
    return _share_out(members, cars) if cars < len(members) else _cut(members, cars)


def _share_out(members: dict[str, np.ndarray], cars: int) -> Iterator[tuple[str, np.ndarray]]:
    """Give whole drives to fewer cars: the longest drive first, to the car that has the fewest scenes."""
    drives_of_cars: list[list[str]] = [[] for _ in range(cars)]
    sizes = [0] * cars
    for drive in sorted(members, key=lambda drive: -len(members[drive])):
        car = sizes.index(min(sizes))
        drives_of_cars[car].append(drive)
        sizes[car] += len(members[drive])
    position = {drive: index for index, drive in enumerate(members)}
    for drives in drives_of_cars:
        drives.sort(key=position.__getitem__)
    for drives in sorted(drives_of_cars, key=lambda drives: position[drives[0]]):
        name = "+".join(drives)
        if len(name) > LONGEST_LIST:
            name = f"{drives[0]}+{len(drives) - 1} drives"
        yield name, np.sort(np.concatenate([members[drive] for drive in drives]))


def _cut(members: dict[str, np.ndarray], cars: int) -> Iterator[tuple[str, np.ndarray]]:
    """Cut drives into stretches of time, one for each car.

    A car never gets alternating scenes: neighbouring scenes look alike, so the cars would hardly differ.
    """
    stretches = dict.fromkeys(members, 1)
    for _ in range(cars - len(members)):
        longest = max(members, key=lambda drive: len(members[drive]) / stretches[drive])
        stretches[longest] += 1
    for drive, indices in members.items():
        for i, stretch in enumerate(np.array_split(indices, stretches[drive])):
            yield drive if stretches[drive] == 1 else f"{drive}-{_letters(i)}", stretch


def _letters(i: int) -> str:
    """Return a, b, … z, aa, ab, … for 0, 1, …"""
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("a") + i % 26)


def _assign_conditions(shards: list[Shard], random: np.random.Generator) -> list[Shard]:
    """Give each car a condition of its own, which becomes part of its name."""
    names, cars = list(PERTURBATIONS), len(shards)
    kinds, severities = _draw_in_turn(len(names), cars, random), _draw_in_turn(SEVERITIES, cars, random)
    conditions = [Perturbation(names[kind], severity + 1) for kind, severity in zip(kinds, severities, strict=True)]
    return [replace(shard, name=f"{shard.name}-{condition.kind}-{condition.severity}", condition=str(condition))
            for shard, condition in zip(shards, conditions, strict=True)]


def _draw_in_turn(values: int, cars: int, random: np.random.Generator) -> list[int]:
    """Draw one of 0 to values - 1 for each car. No value comes again before all have come."""
    rounds = math.ceil(cars / values)
    return np.concatenate([random.permutation(values) for _ in range(rounds)])[:cars].tolist()


def _power_law_sizes(scenes: int, cars: int, alpha: float) -> np.ndarray:
    """Return sizes (cars,) in descending order: one scene each, the others in shares ∝ rank^(-1/alpha), rounded."""
    shares = np.arange(1.0, cars + 1) ** (-1 / alpha)
    exact = (scenes - cars) * shares / shares.sum()
    sizes = np.floor(exact).astype(np.int64)
    left = scenes - cars - sizes.sum()
    sizes[np.argsort(sizes - exact, kind="stable")[:left]] += 1
    return sizes + 1
