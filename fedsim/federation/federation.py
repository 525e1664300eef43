"""The fixed parts of a federation: its method, its schedule and its fleet."""

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from fedsim.aggregation import Aggregator, Mean
from fedsim.algorithms.base import Algorithm, Local
from fedsim.algorithms.server_optimizers import Plain, ServerOptimizer
from fedsim.data.car_scenes import CarScenes
from fedsim.distributed.world import World
from fedsim.federation.attacks import Attack
from fedsim.federation.batchnorm import NORM_RULES, NormRule
from fedsim.federation.bundles import to_tensors
from fedsim.federation.local_training import LocalTraining
from fedsim.federation.local_work import count_batches
from fedsim.federation.memories import Memories, memory_bytes
from fedsim.federation.state import State
from fedsim.models.flat import FlatModel


class Car(NamedTuple):
    """A simulated vehicle, as every rank knows it. Only the rank that plays it has its scenes."""

    name: str
    images: int


@dataclass(frozen=True)
class Method:
    """The way a federation learns: the algorithm, and the rules around it."""

    algorithm: Algorithm
    aggregator: Aggregator = field(default_factory=Mean)
    server: ServerOptimizer = field(default_factory=Plain)
    norms: NormRule = NORM_RULES["recalibrate"]
    clip_norm: float | None = None  # the longest move that a contribution may have; None sets no bound
    attack: Attack | None = None


@dataclass(frozen=True)
class Schedule:
    """The course of a run over its rounds. Rounds count from 1."""

    rounds: int
    lr: float
    cosine: bool  # the learning rate falls along half a cosine over the rounds; else it is constant
    participation: float  # share of the cars that train in a round
    seed: int
    car_failures: float = 0.0  # probability that a car of the round never answers
    on_divergence: str = "warn"  # or "stop" or "rollback"

    def learning_rate(self, number: int) -> float:
        """Return the learning rate of a round, which is the same for all cars."""
        if not self.cosine:
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (number - 1) / self.rounds))


@dataclass(frozen=True)
class Fleet:
    """The cars of a federation, and the rank that plays each of them."""

    cars: tuple[Car, ...]
    homes: tuple[int, ...]  # the rank of every car
    weights: tuple[int, ...]  # every car's weight in every mean: the number of its scenes, or 1
    scenes: dict[int, CarScenes]  # car -> its scenes, for this rank's cars

    @property
    def total_weight(self) -> int:
        """The sum of the weights of all cars, also of those that take no part in a round."""
        return sum(self.weights)


@dataclass(frozen=True)
class Federation:
    """Everything that stays the same from round to round."""

    world: World
    model: FlatModel  # this rank's; its cars use it in turn
    training: LocalTraining
    method: Method
    schedule: Schedule
    fleet: Fleet
    memories: Memories  # those of this rank's cars

    @property
    def has_own_models(self) -> bool:
        """True if every car has a model of its own, or norms of its own."""
        return self.method.algorithm.personal or (self.method.norms.own_statistics and bool(self.model.norms))

    def step_length(self, lr: float) -> float | None:
        """Return how far a round's local steps go along a unit gradient, or None if the optimiser has no such length.

        It is the mean over all cars and over all numbers of steps that they may take, and not that of one round's
        draw. A penalty that followed the draw would change in every round, and memories that belong to different
        penalties have no common solution.
        """
        choices = [(self.training.work.choices(batches), cars) for batches, cars in Counter(
            count_batches(car.images, self.training.batch_size) for car in self.fleet.cars).items()]
        total, draws = 0.0, len(choices[0][0])
        for draw in range(draws):
            for steps, cars in choices:
                length = self.training.optimizer.step_length(lr, steps[draw])
                if length is None:
                    return None
                total += cars * length
        return total / len(self.fleet.cars) / draws

    @cached_property
    def contribution_like(self) -> Any:
        """The contribution of a car that did not move, as a pattern for types and shapes."""
        algorithm, theta = self.method.algorithm, self.model.theta.clone()
        shared = algorithm.begin_round(algorithm.init_shared(theta), 1.0)
        shared, memory = algorithm.receive(shared, algorithm.init_memory(theta), 1.0)
        return algorithm.contribute(Local(theta, 1, 1, 1.0), shared, memory)[0]

    def bytes_kept(self) -> int:
        """Return the bytes that this rank stores for its cars: memories, and a robust rule's contributions."""
        keep = memory_bytes(self.method.algorithm.init_memory(self.model.theta))
        sent = sum(tensor.numel() * tensor.itemsize for tensor in to_tensors(self.contribution_like))
        return len(self.fleet.scenes) * (keep + (sent if self.method.aggregator.robust else 0))

    def memory(self, state: State, car: int) -> Any:
        """Return the memory of a car of this rank."""
        if car not in state.memories:
            return state.initial_memory
        return self.memories.load(state.memories[car], self.model.device)
