"""The scenes of a run, from its settings: the data set, and which car has which scenes."""

from functools import partial
from logging import Logger
from pathlib import Path

from fedsim.data import cache
from fedsim.data.conditions import Conditioned
from fedsim.data.datasets import open_source
from fedsim.data.partition import DEFAULT_ALPHA, PARTITIONS
from fedsim.data.partition.dealt import Dealt
from fedsim.data.partition.schemes import Shard, partition
from fedsim.data.partition.split_file import read_cars, read_split
from fedsim.data.perturbations import Perturbation
from fedsim.data.scene_set import SceneSet, Source
from fedsim.distributed.world import World
from fedsim.errors import DataError, SettingsError
from fedsim.settings.fields import Settings

MAX_STREET_DRIVES = 16  # more cars share drives, cut in time, because drawing a thousand drives takes minutes


def cars_of(settings: Settings, ranks: int) -> int:
    """Return the number of cars: the setting, else the split file's, else 4, or as many as ranks if these are more.

    Raises UserError.
    """
    if settings.partition not in PARTITIONS:
        cars = len(read_cars(Path(settings.partition)))
        if settings.cars not in (None, cars):
            raise SettingsError(f"--cars is {settings.cars}, but {settings.partition} has {cars} cars: leave --cars "
                                "out, or name another --partition")
        return cars
    return settings.cars or max(4, ranks)


def alpha_of(settings: Settings) -> float | None:
    """Return the skew of the partition, or its default; None if the partition has no such number."""
    return settings.alpha if settings.alpha is not None else DEFAULT_ALPHA.get(settings.partition)


def source_of(settings: Settings, cars: int) -> Source:
    """Open the data set of the settings. Raises UserError."""
    root = Path(settings.data_root) if settings.data_root else None
    drives = min(cars, MAX_STREET_DRIVES)
    if settings.data == "streets" and settings.partition not in PARTITIONS:
        drives = _drives_in(Path(settings.partition))
    return open_source(settings.data, root, drives, settings.classes)


def _drives_in(split: Path) -> int:
    """Return the least number of training drives of streets that have all scenes of a split file."""
    from fedsim.data.datasets.streets.drives import drives_of  # here, because it imports Pillow

    named = {scene.rpartition("/")[0] for car in read_cars(split) for scene in car["scenes"]}
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

    # A split that is missing is found before anything is read.
    world.together(lambda: [source.count(split) for split in ("train", settings.eval_split)])
    train_set, eval_set = load(source, "train"), load(source, settings.eval_split)
    shards = world.together(lambda: _shards(settings, train_set, cars))
    conditions = {train_set.names[index]: Perturbation.parse(shard.condition)
                  for shard in shards if shard.condition for index in shard.indices}
    train_source = Conditioned(source, conditions, settings.seed) if conditions else source
    if conditions:
        train_set = load(train_source, "train")
    return Dealt(source, train_source, train_set, eval_set, settings.eval_split, shards)


def _check_same(scenes: SceneSet, fingerprint: str, source: Source, split: str) -> None:
    """Raise DataError if this rank has other scenes than the coordinator."""
    if scenes.fingerprint != fingerprint:
        raise DataError(f"the ranks have different scenes of {source.name}'s split {split}: it changed while they "
                        "started, or their machines hold different copies; give all machines the same files, and start "
                        "again")


def _shards(settings: Settings, train_set: SceneSet, cars: int) -> list[Shard]:
    if settings.partition in PARTITIONS:
        return partition(settings.partition, train_set, cars, settings.seed, alpha_of(settings))
    return read_split(Path(settings.partition), train_set)
