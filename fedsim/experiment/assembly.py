"""Put a run together from its settings: scenes, cars, network, federation."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from logging import Logger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedsim.algorithms import Algorithm
from fedsim.classes import ClassTable
from fedsim.data.augment import Frame, augmentation
from fedsim.data.car_scenes import CarScenes
from fedsim.data.datasets import default_root
from fedsim.data.partition.dealt import Dealt
from fedsim.data.partition.schemes import Shard
from fedsim.data.scene_set import SceneSet
from fedsim.distributed.world import World
from fedsim.errors import SettingsError
from fedsim.evaluation.views import PLAIN, Size, View
from fedsim.experiment.algorithm_trial import check_algorithm
from fedsim.experiment.checks import check_cars, check_crop, warnings
from fedsim.experiment.compilation_trial import compile_network, largest_batch
from fedsim.experiment.dealing import alpha_of, cars_of, deal, source_of
from fedsim.experiment.identity import config, current_versions
from fedsim.experiment.loss_trial import find_losses
from fedsim.experiment.network_trial import check_network
from fedsim.experiment.precision_trial import check_precision
from fedsim.experiment.starting import Start, find_start
from fedsim.experiment.watched import watch
from fedsim.federation.attacks import Attack, Mislabelled, hostile_cars
from fedsim.federation.averaging import AVERAGES, Averaging
from fedsim.federation.batchnorm import NORM_RULES
from fedsim.federation.federation import Car, Federation, Fleet, Method, Schedule, make_kept
from fedsim.federation.learning_rate import Curve
from fedsim.federation.local_training import MEASURED_BATCHES, LocalTraining
from fedsim.federation.local_work import Epochs, LocalWork, PartOfEpoch, Steps, Together, Turn, count_batches
from fedsim.federation.memories import make_memories
from fedsim.federation.optimizers import SGD, Adam
from fedsim.federation.own_scoring import score_own_test
from fedsim.federation.participation import place_cars
from fedsim.federation.precision import Precision
from fedsim.federation.scoring import Score, score
from fedsim.federation.state import State
from fedsim.losses.class_weights import class_counts, class_weights
from fedsim.losses.criterion import Criterion
from fedsim.losses.terms import Losses, resolve_options
from fedsim.models import build_model, check_image_size, check_single_scene
from fedsim.models.card import ModelCard
from fedsim.models.flat import FlatModel
from fedsim.models.frozen import freeze
from fedsim.own_code import is_own
from fedsim.report.words import describe_start
from fedsim.seeds import OwnDraws, seed_torch
from fedsim.settings.declared import AUX_WEIGHT
from fedsim.settings.fields import Settings
from fedsim.settings.methods import Methods
from fedsim.settings.viewing import check_view, read_view


@dataclass(frozen=True)
class Experiment:
    """The parts of a run, on one rank."""

    settings: Settings  # with every default resolved
    dealt: Dealt
    federation: Federation
    criterion: Criterion  # that models are scored by: cross entropy, whatever they train with
    start: Start | None = None  # the weights that the network has taken over
    view: View = PLAIN  # of the pictures that are scored

    def environment(self) -> dict[str, Any]:
        """Return what decides the result beside the settings: versions, machine, data, partition."""
        world, fleet = self.federation.world, self.federation.fleet
        return {
            "versions": current_versions(),
            "platform": platform.platform(),
            "device": str(world.device), "accelerators": [own.kind for own in world.hardware if own.is_gpu],
            "backend": world.backend, "backend_reason": world.backend_reason,
            "ranks": world.size, "threads": world.threads, "precision": self.federation.training.precision.name,
            "data": self.dealt.fingerprints,
            "parameters": self.federation.model.parameters.numel(),
            "statistics": self.federation.model.statistics.numel(),
            "start": self.start and {**self.start.facts, "sha256": self.start.digest},
            "partition": [{"car": number, "name": car.name, "images": car.images, "rank": home} for number, (car, home)
                          in enumerate(zip(fleet.cars, fleet.homes, strict=True))],
        }

    def score(self, state: State) -> Score:
        """Score a state, with the statistics that belong to it. Every rank calls it."""
        found = score(self.federation, state, self.dealt.eval_set, self.criterion, self.view)
        scenes, cars = self.dealt.own_test_set, [shard.name for shard in self.dealt.shards]
        if scenes is None:
            return found
        return replace(found, own_test=score_own_test(self.federation, state, scenes, cars, self.criterion, self.view))

    def model_card(self) -> dict[str, str]:
        """Return what a reader of the weights must know to use them, as metadata of their file."""
        settings, size = self.settings, self.settings.input_size()
        assert size is not None, "defaults are resolved"
        return ModelCard(settings.model, settings.width, settings.norm, size, self.dealt.train_set.classes,
                         config(settings), options=settings.model_option).metadata()


@dataclass(frozen=True)
class Duty:
    """The work of a car, the same for all cars."""

    work: LocalWork  # of a round
    batch_size: int  # scenes that the network computes at once
    accumulate: int  # batches of a step
    measured_batches: int  # for the statistics of BatchNorm, when they are measured


def assemble(settings: Settings, methods: Methods, world: World, log: Logger) -> Experiment:
    """Put together all that a run needs, on every rank, and tell `log` about it.

    methods: made from the settings by `compatible.check`. Raises UserError, the same on all ranks.
    """
    cars = world.together(lambda: cars_of(settings, world.size))
    algorithm = methods.algorithm
    check_cars(settings, methods.aggregator, cars)
    if cars < world.size and not algorithm.pooled:
        raise SettingsError(f"{cars} cars on {world.size} ranks: every rank plays at least one car; "
                            f"start {cars} ranks, or raise --cars to {world.size}")
    source = world.together(lambda: source_of(settings, cars))
    size, view = settings.input_size() or source.image_size, read_view(vars(settings))
    trained_size = settings.crop_size() or size
    check_crop(settings, size)
    check_view(view, settings.model, size)
    start = world.together(lambda: _find_start(settings, source.classes, size))

    def build() -> nn.Module:
        return _change_start(settings, make_module(settings, len(source.classes), size), start)

    shown = view.sizes(size) if is_own(settings.model) else view.sizes(size)[-1:]
    module = world.together(
        lambda: _try_network(settings, build, len(source.classes), (*shown, trained_size), world, log))
    losses = world.together(lambda: find_losses(settings, len(source.classes), world.device))
    dealt = deal(settings, source, cars, world, log)
    shards = dealt.shards
    if algorithm.pooled:
        shards = [Shard("all cars", np.sort(np.concatenate([shard.indices for shard in shards])))]
    duty = _make_duty(settings, algorithm, [len(shard.indices) for shard in dealt.shards])
    if _has_single_scene(settings, duty, shards):
        alone = next((shard.name for shard in shards if len(shard.indices) == 1), None)
        world.together(lambda: check_single_scene(settings.model, build(), trained_size, alone))
    for warning in dealt.warnings():
        log.warning("%s", warning)
    federation, criterion = _make_federation(settings, methods, world, dealt.train_set, shards, module, duty, losses)
    log.info(f"{len(shards)} car(s) on {world.size} rank(s), {world.device.type} with {world.threads} thread(s) per "
             f"rank, {world.backend} ({world.backend_reason}); {settings.model} with "
             f"{federation.model.parameters.numel():,} parameters")
    if start is not None:
        log.info("%s", describe_start(start.facts))
    _compile(settings, federation, trained_size, log)
    for warning in warnings(federation):
        log.warning("%s", warning)
    root = Path(settings.data_root) if settings.data_root else default_root(settings.data)
    resolved = replace(settings, **_resolve(settings, methods, federation, losses), cars=cars,
                       eval_split=settings.scored().split,
                       image_size=f"{size[0]}x{size[1]}", alpha=alpha_of(settings),
                       data_root=str(root.resolve()) if root else None)
    return Experiment(resolved, dealt, federation, criterion, start, view)


def _make_federation(settings: Settings, methods: Methods, world: World, train_set: SceneSet, shards: list[Shard],
                     module: nn.Module, duty: Duty, losses: Losses) -> tuple[Federation, Criterion]:
    """Return the federation, and the loss that its model is scored by."""
    algorithm = watch(methods.algorithm, settings.algo, world)
    homes = place_cars([len(shard.indices) for shard in shards], world.size)
    mine = [car for car, home in enumerate(homes) if home == world.rank]
    criterion = _make_criterion(settings, world, train_set, [shards[car] for car in mine], losses)
    attack = _draw_attack(settings, len(shards))
    weighting, rule = settings.weighting or algorithm.weighting, NORM_RULES[settings.batchnorm or "recalibrate"]

    def scenes_of(car: int) -> CarScenes:
        kind = Mislabelled if attack and attack.flips_labels_of(car) else CarScenes
        return kind(train_set, shards[car].indices, world.device)

    model = FlatModel(module, world.device, rule.own_affine)
    method = Method(algorithm, methods.aggregator, methods.server, rule, settings.clip_norm, attack)
    schedule = Schedule(
        rounds=settings.rounds, lr=settings.lr,
        participation=settings.participation, seed=settings.seed, car_failures=settings.car_failures,
        on_divergence=settings.on_divergence,
        curve=Curve(settings.lr_schedule, settings.warmup, settings.lr_floor), average=_make_average(settings))
    fleet = Fleet(
        cars=tuple(Car(shard.name, len(shard.indices)) for shard in shards), homes=tuple(homes),
        weights=tuple(len(shard.indices) if weighting == "images" else 1 for shard in shards),
        scenes={car: scenes_of(car) for car in mine})
    training = _make_training(settings, algorithm, duty, criterion, len(train_set.classes))
    if ":" in settings.algo:
        length = training.optimizer.step_length(settings.lr, 2, methods.algorithm.damping)
        world.together(lambda: check_algorithm(methods.algorithm, model.theta.clone(), settings.algo, length,
                                               methods.aggregator.robust))
    memories = make_memories(make_kept(algorithm, training, model.theta, model.parameters), mine, folder=None)
    return Federation(world, model, training, method, schedule, fleet, memories), Criterion(criterion.weights)


def _resolve(settings: Settings, methods: Methods, federation: Federation, losses: Losses) -> dict[str, Any]:
    """Return what the settings left open, as it was decided."""
    algorithm, attack = federation.method.algorithm, federation.method.attack
    return methods.resolve(settings) | {
        "threads": federation.world.threads,
        "momentum_across_rounds": federation.training.across_rounds,
        "class_weights": _weighing(settings, losses),
        "loss_option": resolve_options(losses, settings.loss_option),
        "weighting": None if algorithm.pooled or algorithm.personal else settings.weighting or algorithm.weighting,
        "batchnorm": (settings.batchnorm or "recalibrate") if settings.norm == "batch" else None,
        "attack": attack.name if attack else None}


def _make_average(settings: Settings) -> Averaging | None:
    """Return the average over rounds; None if nobody asked for it."""
    average = settings.average()
    return None if average is None else AVERAGES[average[0]](average[1])


def _draw_attack(settings: Settings, cars: int) -> Attack | None:
    """Draw the hostile cars; None if there are none."""
    if not settings.attackers:
        return None
    return Attack(settings.attack or "sign-flip", hostile_cars(settings.seed, cars, settings.attackers), settings.seed)


def _find_start(settings: Settings, classes: ClassTable, size: tuple[int, int]) -> Start | None:
    """Return the weights that the network takes over; None if it starts with fresh ones. Raises UserError."""
    if settings.init is None:
        return None
    return find_start(settings.init, lambda number: make_module(settings, number, size), classes.names)


def _try_network(settings: Settings, build: Callable[[], nn.Module], classes: int, sizes: Sequence[Size],
                 world: World, log: Logger) -> nn.Module:
    """Return the network, which is the same at all sizes, after a trial at each of them. Raises SettingsError.

    The last size is that of training.
    """
    measures = settings.average_weights is not None or NORM_RULES[settings.batchnorm or "recalibrate"].recalibrates
    module = [check_network(settings.model, build, classes, size, world.device, measures, settings.aux_weight)
              for size in dict.fromkeys(sizes)][-1]
    slower = check_precision(settings.precision or "float32", settings.model, build, sizes[-1], world.device)
    if slower:
        log.warning("%s", slower)
    return module


def _compile(settings: Settings, federation: Federation, size: Size, log: Logger) -> None:
    """If the user asks for it, let the federation train with a compiled network, and tell what that gains."""
    if not settings.compile:
        return
    training = federation.training
    batch = largest_batch(training, [car.images for car in federation.fleet.cars])
    gain = federation.world.together(
        lambda: compile_network(settings.model, federation.model, training, batch, size))
    (log.info if gain.pays else log.warning)("%s", gain.said)


def _change_start(settings: Settings, module: nn.Module, start: Start | None) -> nn.Module:
    """Give a fresh network the weights to start from, freeze what stays as it is, and return the network."""
    if start is not None:
        start.give(module)
    freeze(module, settings.freeze)
    return module


def make_module(settings: Settings, classes: int, size: tuple[int, int]) -> nn.Module:
    """Return the untrained network. Its weights depend on the seed alone. Raises SettingsError."""
    check_image_size(settings.model, size)
    seed_torch(settings.seed, "initial weights")  # for functions that take no generator, such as torch.randn_like
    try:
        with OwnDraws(settings.seed, "initial weights"):
            return build_model(settings.model, classes, settings.width, settings.norm, settings.model_option)
    except RuntimeError as error:  # torch's allocator raises it
        if "memory" not in str(error):
            raise
        raise SettingsError(f"--model {settings.model} does not fit into the memory of this machine; take a smaller "
                            "one, or a smaller --width") from error


def _make_criterion(settings: Settings, world: World, train_set: SceneSet, shards: list[Shard],
                    losses: Losses) -> Criterion:
    """Return what cars train with. Its class weights come from counts that every car takes of its own labels."""
    classes = len(train_set.classes)
    counts = torch.zeros(2, classes, dtype=torch.int64)
    for shard in shards:
        counts += torch.from_numpy(class_counts(train_set.histograms[shard.indices]))
    world.sum_(counts)
    weights = torch.from_numpy(class_weights(_weighing(settings, losses), counts.numpy())).to(world.device)
    return Criterion(weights, settings.label_smoothing, losses)


def _weighing(settings: Settings, losses: Losses) -> str:
    """Return the way to weigh classes: by default the usual one, if one of the losses can weigh them."""
    usual = "sqrt-median-frequency" if any(loss.takes_weights for _, loss in losses) else "none"
    return settings.class_weights or usual


def _make_duty(settings: Settings, algorithm: Algorithm, scenes: list[int]) -> Duty:
    """Return the work of a car. If the algorithm pools the scenes, one car does the work of all cars of the federation.

    scenes: the numbers of scenes of the federation's cars.
    """
    batch_size, cars = settings.batch_size, len(scenes) if algorithm.pooled else 1
    if settings.local_steps is None:
        least, most = settings.epochs()
        work: LocalWork = Epochs(int(least), int(most)) if least == int(least) else PartOfEpoch(least)
    else:
        work = Steps(settings.local_steps * (1 if algorithm.wide else cars))
    if algorithm.pooled and algorithm.wide:
        together = Together(work, tuple(scenes), batch_size * settings.accumulate)
        return Duty(together, batch_size * cars, settings.accumulate, MEASURED_BATCHES)
    return Duty(work, batch_size, settings.accumulate, MEASURED_BATCHES * cars)


def _has_single_scene(settings: Settings, duty: Duty, shards: list[Shard]) -> bool:
    """Return whether a batch of a car may have a single scene. The steps of `Together` differ from round to round."""
    rounds = settings.rounds if isinstance(duty.work, Together) else 1
    turns = [Turn(settings.seed, number, car, len(shard.indices), duty.batch_size * duty.accumulate)
             for number in range(1, rounds + 1) for car, shard in enumerate(shards)]
    sizes = {size for turn in turns for size in duty.work.sizes(turn)}
    return any(size // count_batches(size, duty.batch_size) == 1 for size in sizes)


def _momentum_rule(settings: Settings, algorithm: Algorithm) -> str:
    """Return what momentum cars start a round with. Cars that never communicate can only go on with their own."""
    rule = settings.momentum_across_rounds
    return "own" if algorithm.personal and rule != "none" else rule


def _make_training(settings: Settings, algorithm: Algorithm, duty: Duty, criterion: Criterion,
                   classes: int) -> LocalTraining:
    optimizer = (SGD(settings.momentum, settings.weight_decay, settings.nesterov) if settings.optimizer == "sgd"
                 else Adam(settings.weight_decay, decoupled=settings.optimizer == "adamw"))
    return LocalTraining(duty.work, duty.batch_size, optimizer, criterion, augmentation(
        settings.augment, Frame(settings.crop_size(), settings.scales(), settings.colour_jitter)),
                         settings.seed, _momentum_rule(settings, algorithm), classes, duty.measured_batches,
                         AUX_WEIGHT if settings.aux_weight is None else settings.aux_weight, settings.clip_gradient,
                         duty.accumulate, Precision(settings.precision or "float32"))
