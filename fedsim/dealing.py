"""The scenes of a run, from its settings: which data set, and which car has which scenes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from logging import Logger
from pathlib import Path

from fedsim.errors import SettingsError
from fedsim.scenes import cache, open_source
from fedsim.scenes.conditions import Conditioned
from fedsim.scenes.partition import DEFAULT_ALPHA, PARTITIONS, Shard, partition
from fedsim.scenes.perturbations import Perturbation
from fedsim.scenes.scene_set import SceneSet, Source
from fedsim.scenes.skew import close_in_time
from fedsim.scenes.split_file import left_out, read_cars, read_split
from fedsim.settings import Settings
from fedsim.world import World

MAX_STREET_DRIVES = 16  # more cars than that share drives, cut in time: drawing a thousand drives takes minutes
CLOSE = 5.0  # seconds: neighbouring frames of a drive look alike for about as long


@dataclass(frozen=True)
class Dealt:
    """Scenes to train on, dealt to cars, and scenes to score on."""

    source: Source
    train_set: SceneSet
    eval_set: SceneSet
    eval_split: str
    shards: list[Shard]  # one a car

    def warnings(self) -> Iterator[str]:
        """What is unsound about the split of scenes into training and scoring, and what no car trains on."""
        name = self.source.name
        if missing := left_out(self.shards, self.train_set):
            yield f"{missing} of {len(self.train_set)} training scenes are in no car's hands"
        shared = sorted(set(self.train_set.drives) & set(self.eval_set.drives))
        if self.eval_split == "train" or not shared:
            return
        near = len(close_in_time(self.train_set, self.eval_set, CLOSE))
        how_near = (f"{near} of its {len(self.eval_set)} scenes lie within {CLOSE:g} seconds of a training scene"
                    if near else "neighbouring frames may stand on both sides")
        yield (f"{name}'s {self.eval_split} split shares drives with train ({', '.join(shared)}): {how_near}, so "
               "scores tell little about unseen drives")


def cars_of(settings: Settings, ranks: int) -> int:
    """How many cars there are: as asked for, as a split file has them, or by default 4, or as many as ranks.

    Raises UserError.
    """
    if settings.partition not in PARTITIONS:
        cars = len(read_cars(Path(settings.partition)))
        if settings.cars not in (None, cars):
            raise SettingsError(f"--cars is {settings.cars}, but {settings.partition} has {cars} cars: leave --cars "
                                "out")
        return cars
    return settings.cars or max(4, ranks)


def alpha_of(settings: Settings) -> float | None:
    """The skew of the partition, its default where none is given; None where it has no such number."""
    return settings.alpha if settings.alpha is not None else DEFAULT_ALPHA.get(settings.partition)


def source_of(settings: Settings, cars: int) -> Source:
    """The data set of the settings. Raises UserError."""
    root = Path(settings.data_root) if settings.data_root else None
    return open_source(settings.data, root, min(cars, MAX_STREET_DRIVES), settings.classes)


def deal(settings: Settings, source: Source, cars: int, world: World, log: Logger) -> Dealt:
    """Load the scenes and deal them to so many cars, on every rank. Raises UserError, the same on all ranks.

    Scenes are read once on each machine.
    """
    def load(source: Source, split: str) -> SceneSet:
        read = partial(cache.load, source, split, settings.input_size(), log.info)
        return world.together(read, first_on_each_node=True)

    train_set, eval_set = load(source, "train"), load(source, settings.eval_split)
    shards = world.together(lambda: _shards(settings, train_set, cars))
    conditions = {train_set.names[index]: Perturbation.parse(shard.condition)
                  for shard in shards if shard.condition for index in shard.indices}
    if conditions:
        train_set = load(Conditioned(source, conditions, settings.seed), "train")
    return Dealt(source, train_set, eval_set, settings.eval_split, shards)


def _shards(settings: Settings, train_set: SceneSet, cars: int) -> list[Shard]:
    if settings.partition in PARTITIONS:
        return partition(settings.partition, train_set, cars, settings.seed, alpha_of(settings))
    return read_split(Path(settings.partition), train_set)
