"""A federation from its settings: scenes, cars, model, algorithm."""

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fedsim
from fedsim.algorithms import ALGORITHMS, Algorithm, FedADMM
from fedsim.errors import SettingsError
from fedsim.federation import Car, Federation
from fedsim.local import LocalTraining
from fedsim.loss import CrossEntropy, class_counts, class_weights
from fedsim.models import build_model, check_image_size, check_single_scene
from fedsim.optimizers import SGD, Adam
from fedsim.participation import place_cars
from fedsim.scenes import cache, open_source
from fedsim.scenes.car_scenes import CarScenes
from fedsim.scenes.partition import DEFAULT_ALPHA, Shard, partition
from fedsim.scenes.scene_set import SceneSet, Source
from fedsim.seeds import seed_torch
from fedsim.settings import Settings
from fedsim.vector import FlatModel
from fedsim.world import World

MAX_STREET_DRIVES = 16  # more cars than that share drives, cut in time: drawing a thousand drives takes minutes


@dataclass(frozen=True)
class Experiment:
    """All that a run needs."""

    settings: Settings  # with every default resolved
    source: Source
    train_set: SceneSet
    eval_set: SceneSet
    shards: list[Shard]
    federation: Federation
    criterion: CrossEntropy

    def environment(self) -> dict[str, Any]:
        """What besides the settings decides the result: versions, machine, data, partition."""
        world = self.federation.world
        return {
            "versions": {"fedsim": fedsim.__version__, "python": platform.python_version(),
                         "torch": torch.__version__, "numpy": np.__version__},
            "platform": platform.platform(),
            "device": str(world.device), "backend": world.backend, "backend_reason": world.why,
            "ranks": world.size, "threads": world.threads,
            "data": {"train": self.train_set.fingerprint, self.settings.eval_split: self.eval_set.fingerprint},
            "parameters": self.federation.model.parameters.numel(),
            "statistics": self.federation.model.statistics.numel(),
            "partition": [{"car": car, "name": shard.name, "rank": self.federation.homes[car],
                           "scenes": [self.train_set.names[index] for index in shard.indices]}
                          for car, shard in enumerate(self.shards)],
        }

    def model_card(self) -> dict[str, str]:
        """What a reader of the weights must know to use them."""
        return {"fedsim": fedsim.__version__, "classes": json.dumps(self.train_set.classes.names),
                "input": "each scene standardised by its own mean and deviation per channel",
                "settings": json.dumps(config(self.settings))}


def assemble(settings: Settings, world: World, say: Callable[[str], None]) -> Experiment:
    """Everything a run needs, on every rank. Raises UserError, the same on all ranks."""
    cars = settings.cars or (world.size if world.size > 1 else 4)
    algorithm = make_algorithm(settings)
    if cars < world.size and not algorithm.pooled:
        raise SettingsError(f"{cars} cars on {world.size} ranks: every rank plays at least one car; "
                            f"start {cars} ranks, or raise --cars to {world.size}")
    source = open_source(settings.data, Path(settings.data_root) if settings.data_root else None,
                         min(cars, MAX_STREET_DRIVES))
    size = settings.input_size() or source.image_size
    module = world.together(lambda: _module(settings, len(source.classes), size))
    train_set, eval_set = (world.together(partial(cache.load, source, split, size, say), first_on_each_node=True)
                           for split in ("train", settings.eval_split))
    if settings.partition == "dirichlet" and settings.alpha is None:
        settings = replace(settings, alpha=DEFAULT_ALPHA)
    shards = world.together(lambda: partition(settings.partition, train_set, cars, settings.seed, settings.alpha))
    if algorithm.pooled:
        shards = [Shard("all cars", np.sort(np.concatenate([shard.indices for shard in shards])))]
    if any(len(shard.indices) % settings.batch_size == 1 % settings.batch_size for shard in shards):
        world.together(lambda: check_single_scene(settings.model, module, size))
    if overlap := sorted(set(train_set.drives) & set(eval_set.drives)) if settings.eval_split != "train" else []:
        say(f"WARNING: {settings.data}'s {settings.eval_split} split shares drives with train ({', '.join(overlap)}): "
            "neighbouring frames may stand on both sides, so scores tell little about unseen drives")
    homes = place_cars([len(shard.indices) for shard in shards], world.size)
    mine = [car for car, home in enumerate(homes) if home == world.rank]
    criterion = _criterion(settings, world, train_set, [shards[car] for car in mine])
    weighting = settings.weighting or algorithm.weighting
    model = FlatModel(module, world.device)
    federation = Federation(
        world=world, model=model, algorithm=algorithm,
        training=_training(settings, criterion),
        cars=tuple(Car(shard.name, len(shard.indices)) for shard in shards),
        homes=tuple(homes),
        scenes={car: CarScenes(train_set, shards[car].indices, world.device) for car in mine},
        rounds=settings.rounds, lr=settings.lr, cosine=settings.lr_schedule == "cosine",
        participation=settings.participation,
        weights=tuple(len(shard.indices) if weighting == "images" else 1 for shard in shards),
        recalibrate=settings.batchnorm == "recalibrate", seed=settings.seed)
    say(f"{len(shards)} car(s) on {world.size} rank(s), {world.device.type} with {world.threads} thread(s) a rank, "
        f"{world.backend} ({world.why}); {settings.model} with {model.parameters.numel():,} parameters")
    resolved = replace(settings, cars=cars, weighting=weighting, image_size=f"{size[0]}x{size[1]}",
                       threads=world.threads, rho=settings.rho or ("auto" if settings.algo == "admm" else None),
                       data_root=settings.data_root and str(Path(settings.data_root).resolve()))
    return Experiment(resolved, source, train_set, eval_set, shards, federation, criterion)


def make_algorithm(settings: Settings) -> Algorithm:
    """The algorithm with its options."""
    if settings.algo == "admm":
        return FedADMM(rho=settings.penalty())
    return ALGORITHMS[settings.algo]()


def _module(settings: Settings, classes: int, size: tuple[int, int]) -> nn.Module:
    """The untrained network; its weights depend on the seed alone."""
    check_image_size(settings.model, size)
    seed_torch(settings.seed, "initial weights")
    return build_model(settings.model, classes, settings.width)


def _criterion(settings: Settings, world: World, train_set: SceneSet, shards: list[Shard]) -> CrossEntropy:
    """The loss, its class weights from counts that every car takes of its own labels."""
    classes = len(train_set.classes)
    counts = torch.zeros(2, classes, dtype=torch.int64)
    for shard in shards:
        counts += torch.from_numpy(class_counts(train_set.labels[shard.indices], classes))
    world.sum_(counts)
    return CrossEntropy(torch.from_numpy(class_weights(settings.class_weights, counts.numpy())).to(world.device))


def _training(settings: Settings, criterion: CrossEntropy) -> LocalTraining:
    optimizer = (SGD(settings.momentum, settings.weight_decay) if settings.optimizer == "sgd"
                 else Adam(settings.weight_decay))
    return LocalTraining(settings.local_epochs, settings.batch_size, optimizer, criterion, settings.flips,
                         settings.seed)


def config(settings: Settings) -> dict[str, Any]:
    """The settings as a preset that repeats the run, wherever it goes."""
    return {name: value for name, value in asdict(settings).items() if value is not None and name != "out"}
