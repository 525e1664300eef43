"""The scenes that are held out from each car: the last of every stretch of a drive, which no car trains on."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from fedsim.data.partition import CLOSE
from fedsim.data.partition.schemes import Shard
from fedsim.data.scene_set import SceneSet
from fedsim.errors import SettingsError

NAMED = 3  # cars that a sentence names


def hold_out_own(shards: Sequence[Shard], scenes: SceneSet, share: float) -> list[Shard]:
    """Hold the last scenes of every car out of training. A pure function of its arguments.

    A stretch is a part of a drive that ends where no car goes on: the scenes of a car that has the drive, or a part of
    it, by itself, and the whole drive if its scenes are dealt at random. The last `share` of each stretch, rounded
    down, are held out. No car trains on scenes of the same drive within CLOSE seconds of them.

    share: above 0, below 1. Raises SettingsError if no scene is held out, or if a car has nothing left to train on.
    """
    held = np.zeros(len(scenes), bool)
    for stretch in _stretches(_owners(shards, len(scenes)), scenes.drive_numbers):
        held[stretch[len(stretch) - math.floor(share * len(stretch) + 1e-9):]] = True
    if not held.any():
        raise SettingsError(f"--own-test {share:g} holds out no scene: no car has {math.ceil(1 / share)} scenes of a "
                            "drive, one after the other; take a larger share, or fewer cars")
    trained = ~held & ~near_in_time(scenes, held)
    left = [replace(shard, indices=own[trained[own]], own_test=own[held[own]], left_out=own[~trained[own] & ~held[own]])
            for shard in shards for own in [shard.indices]]
    if bare := [shard.name for shard in left if not len(shard.indices)]:
        raise SettingsError(f"--own-test {share:g} leaves {len(bare)} of {len(shards)} cars nothing to train on, first "
                            f"{bare[0]!r}: its scenes are held out, or lie within {CLOSE:g} seconds of such ones; take "
                            "a smaller share, or fewer cars")
    return left


def near_in_time(scenes: SceneSet, marked: np.ndarray) -> np.ndarray:
    """Return which scenes lie within CLOSE seconds of a marked scene of their drive, (N,) bool; marked ones do too.

    marked: (N,) bool. In a drive whose times are not all known, neighbours count as CLOSE seconds apart.
    """
    near = np.zeros(len(scenes), bool)
    for drive in range(len(scenes.drive_names)):
        members = np.flatnonzero(scenes.drive_numbers == drive)
        times = [scenes.times[index] for index in members]
        known = [time for time in times if time is not None]
        clock = np.array(known) if len(known) == len(times) else CLOSE * np.arange(len(times))
        marks = np.sort(clock[marked[members]])
        if len(marks):
            after = np.searchsorted(marks, clock).clip(max=len(marks) - 1)
            apart = np.minimum(np.abs(marks[after] - clock), np.abs(marks[(after - 1).clip(min=0)] - clock))
            near[members] = apart <= CLOSE
    return near


def warn_of_gaps(shards: Sequence[Shard], scenes: SceneSet) -> Iterator[str]:
    """Yield warnings on training scenes that no car has, and on the scenes that are held out from cars."""
    held, trained = np.zeros(len(scenes), bool), np.zeros(len(scenes), bool)
    for shard in shards:
        held[shard.own_test] = trained[shard.indices] = True
    gap = near_in_time(scenes, held) & ~held & ~trained
    if count := int((~held & ~trained & ~gap).sum()):
        yield f"{count} of {len(scenes)} training scenes belong to no car"
    if not held.any():
        return
    if count := int(gap.sum()):
        yield (f"{count} of {len(scenes)} training scenes belong to no car: they lie within {CLOSE:g} seconds of "
               "scenes that are held out from a car")
    if without := [shard.name for shard in shards if not len(shard.own_test)]:
        named = ", ".join(map(repr, without[:NAMED])) + (" and others" if len(without) > NAMED else "")
        yield f"{len(without)} of {len(shards)} cars have no scenes of their own that are held out: {named}"
    if count := int((near_in_time(scenes, trained) & held).sum()):
        yield (f"{count} of {int(held.sum())} scenes that are held out from cars lie within {CLOSE:g} seconds of a "
               "training scene, so scores on them tell little")


def _owners(shards: Sequence[Shard], scenes: int) -> np.ndarray:
    """Return the car of each scene, (N,) int64; -1 for a scene that no car has."""
    owners = np.full(scenes, -1)
    for car, shard in enumerate(shards):
        owners[shard.indices] = car
    return owners


def _stretches(owners: np.ndarray, drives: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the scenes (n,) of each stretch in order of time. owners, drives: (N,) numbers of cars and of drives."""
    for drive in range(drives.max() + 1):
        members = np.flatnonzero((drives == drive) & (owners >= 0))
        last = {car: place for place, car in enumerate(owners[members])}
        # A stretch ends where all cars that have come up to there have had their last scene.
        furthest = np.maximum.accumulate(np.array([last[car] for car in owners[members]], np.int64))
        yield from np.split(members, np.flatnonzero(furthest == np.arange(len(members)))[:-1] + 1)
