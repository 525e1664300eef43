"""The scenes of a run, from its settings: the data set, and which car has which scenes."""

from collections.abc import Sequence
from functools import partial
from logging import Logger
from pathlib import Path

from fedsim.data import cache
from fedsim.data.conditions import Conditioned
from fedsim.data.datasets import open_source
from fedsim.data.partition import DEFAULT_ALPHA, PARTITIONS
from fedsim.data.partition.dealt import Dealt
from fedsim.data.partition.held_out import check_drive, scored_scenes, trained_scenes
from fedsim.data.partition.own_test import hold_out_own
from fedsim.data.partition.schemes import Shard, partition
from fedsim.data.partition.split_file import read_cars, read_named_cars, read_split, scenes_of
from fedsim.data.perturbations import Perturbation
from fedsim.data.scene_set import SceneSet, Source
from fedsim.distributed.world import World
from fedsim.errors import DataError, SettingsError
from fedsim.settings.fields import Settings

DEFAULT_CARS = 4
MAX_STREET_DRIVES = 16  # more cars share drives, cut in time, because drawing a thousand drives takes minutes


def cars_of(settings: Settings, ranks: int) -> int:
    """Return the number of cars: the setting, else the split file's, else the default, or as many as ranks if more.

    Raises UserError.
    """
    if settings.partition not in PARTITIONS:
        cars = len(read_cars(Path(settings.partition)))
        if settings.cars not in (None, cars):
            raise SettingsError(f"--cars is {settings.cars}, but {settings.partition} has {cars} cars: leave --cars "
                                "out, or name another --partition")
        return cars
    return settings.cars or max(_default_cars(settings), ranks)


def _default_cars(settings: Settings) -> int:
    """Return the default number of cars: if a drive is held out, not more than there are other drives."""
    if settings.hold_out_drive is None:
        return DEFAULT_CARS
    others = {*source_of(settings, DEFAULT_CARS - 1).drives("train")} - {settings.hold_out_drive}
    return min(DEFAULT_CARS, len(others))


def alpha_of(settings: Settings) -> float | None:
    """Return the skew of the partition, or its default; None if the partition has no such number."""
    return settings.alpha if settings.alpha is not None else DEFAULT_ALPHA.get(settings.partition)


def source_of(settings: Settings, cars: int) -> Source:
    """Open the data set of the settings. Raises UserError."""
    root = Path(settings.data_root) if settings.data_root else None
    held_out = settings.hold_out_drive
    drives = min(cars + (held_out is not None), MAX_STREET_DRIVES)
    if settings.data == "streets" and settings.partition not in PARTITIONS:
        drives = _drives_in(Path(settings.partition), held_out)
    return open_source(settings.data, root, drives, settings.classes)


def _drives_in(split: Path, held_out: str | None) -> int:
    """Return the least number of training drives of streets that have all scenes of a split file, and a drive."""
    from fedsim.data.datasets.streets.drives import drives_of  # here, because it imports Pillow

    named = {scene.rpartition("/")[0] for car in read_cars(split) for scene in scenes_of(car)} | {held_out}
    known = drives_of("train", MAX_STREET_DRIVES)
    return max((count for count, drive in enumerate(known, start=1) if drive.name in named), default=1)


def deal(settings: Settings, source: Source, cars: int, world: World, log: Logger) -> Dealt:
    """Load the scenes and deal them to `cars` cars, on every rank. Raises UserError, the same on all ranks.

    Scenes are read once on each machine.
    """
    def load(source: Source, split: str) -> SceneSet:
        read = partial(cache.load, source, split, settings.input_size(), log.info)
        # On each machine one rank reads or verifies the scenes before the others map them.
        first = world.together(lambda: read() if world.place.local_rank == 0 else None)
        scenes = world.together(lambda: first or read(verify=False))
        fingerprint = world.broadcast_text(scenes.fingerprint)
        world.together(lambda: _check_same(scenes, fingerprint, source, split))
        return scenes

    scored, drive = settings.scored(), settings.hold_out_drive
    world.together(lambda: check_scenes(settings, source))
    whole = load(source, "train")
    train_set = trained_scenes(whole, drive)
    eval_set = scored_scenes(lambda split: whole if split == "train" else load(source, split), scored)
    shards = world.together(lambda: _shards(settings, whole, train_set, cars))
    conditions = {train_set.names[index]: Perturbation.parse(shard.condition)
                  for shard in shards if shard.condition for index in shard.give_all_back().indices}
    train_source = Conditioned(source, conditions, settings.seed) if conditions else source
    if conditions:
        train_set = trained_scenes(load(train_source, "train"), drive)
    return Dealt(source, train_source, train_set, eval_set, scored, shards)


def check_scenes(settings: Settings, source: Source) -> None:
    """Check that the data set has the scenes that the settings train on and score. Opens no picture. Raises UserError.

    What is missing is found before anything is read.
    """
    for split in ("train", settings.scored().on_disk):
        source.count(split)
    check_drive(source, settings.hold_out_drive)


def _check_same(scenes: SceneSet, fingerprint: str, source: Source, split: str) -> None:
    """Raise DataError if this rank has other scenes than the coordinator."""
    if scenes.fingerprint != fingerprint:
        raise DataError(f"the ranks have different scenes of {source.name}'s split {split}: it changed while they "
                        "started, or their machines hold different copies; give all machines the same files, and start "
                        "again")


def _shards(settings: Settings, whole: SceneSet, train_set: SceneSet, cars: int) -> list[Shard]:
    """Return the cars' scenes, those that are held out from each car too."""
    if settings.partition in PARTITIONS:
        shards = partition(settings.partition, train_set, cars, settings.seed, alpha_of(settings))
    else:
        path, drive = Path(settings.partition), settings.hold_out_drive
        if drive is not None:
            _check_held_out(path, drive, whole.names, {*whole.names} - {*train_set.names})
        shards = read_split(path, train_set)
    if settings.own_test is None:  # the file says which scenes are held out from each car, if any
        return shards
    complete = [shard.give_all_back() for shard in shards]
    return hold_out_own(complete, train_set, settings.own_test) if settings.own_test else complete


def _check_held_out(path: Path, drive: str, names: Sequence[str], held_out: set[str]) -> None:
    """Raise DataError if a split file gives scenes that are held out to a car. names: of all training scenes."""
    pairs = [(scene, car["name"]) for car in read_named_cars(path, names) for scene in scenes_of(car)
             if scene in held_out]
    if pairs:
        scene, car = pairs[0]
        raise DataError(f"{path} has {len(pairs)} scene(s) of drive {drive}, first {scene!r} of car {car!r}, but "
                        f"--hold-out-drive {drive} means that no car trains on them; take them out of the file, or "
                        "hold out another drive")
