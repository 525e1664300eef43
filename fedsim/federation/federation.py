"""The fixed parts of a federation: its method, its schedule and its fleet."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor

from fedsim.aggregation import Aggregator, Mean
from fedsim.algorithms.base import Algorithm, Local
from fedsim.algorithms.server_optimizers import Plain, ServerOptimizer
from fedsim.data.car_scenes import CarScenes
from fedsim.distributed.world import World
from fedsim.federation.attacks import Attack
from fedsim.federation.averaging import Averaging
from fedsim.federation.batchnorm import NORM_RULES, NormRule
from fedsim.federation.bundles import join, split, to_tensors
from fedsim.federation.learning_rate import CONSTANT, Curve
from fedsim.federation.local_training import LocalTraining
from fedsim.federation.local_work import count_batches
from fedsim.federation.memories import Memories, memory_bytes
from fedsim.federation.optimizers import SGD, Momentum, read_unit_velocity
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
    participation: float  # share of the cars that train in a round
    seed: int
    car_failures: float = 0.0  # probability that a car of the round never answers
    on_divergence: str = "warn"  # or "stop" or "rollback"
    curve: Curve = CONSTANT  # of the learning rate over the rounds
    average: Averaging | None = None  # of the global model over the rounds, beside it

    def learning_rate(self, number: int) -> float:
        """Return the learning rate of a round, which is the same for all cars."""
        return self.lr * self.curve.share(number, self.rounds)


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

    def step_length(self, lr: float, state: State) -> float | None:
        """Return how far a round's local steps go along a unit gradient, or None if the optimiser has no such length.

        state: before the round, whose momentum makes the steps longer.

        The length is the mean over all cars and over all numbers of steps that they may take, and not that of one
        round's draw. A penalty that followed the draw would change in every round, and memories that belong to
        different penalties have no common solution.
        """
        choices = [(self.training.work.choices(batches), cars) for batches, cars in Counter(
            count_batches(car.images, self.training.step_scenes) for car in self.fleet.cars).items()]
        total, draws = 0.0, len(choices[0][0])
        for draw in range(draws):
            for steps, cars in choices:
                unit = self._unit_velocity(state, steps[draw])
                length = self.training.optimizer.step_length(lr, steps[draw], unit=unit)
                if length is None:
                    return None
                total += cars * length
        return total / len(self.fleet.cars) / draws

    def _unit_velocity(self, state: State, steps: int) -> float:
        """Return the velocity that unit gradients would have given a car of so many steps a round.

        If cars keep their own, it is that of a car that has taken part in its share of the rounds.
        """
        optimizer = self.training.optimizer
        if self.training.across_rounds == "own" and isinstance(optimizer, SGD):
            return optimizer.unit_after(self.schedule.participation * state.round * steps)
        return read_unit_velocity(state.momentum)

    @cached_property
    def contribution_like(self) -> Any:
        """The contribution of a car that did not move, as a pattern for types and shapes."""
        algorithm, theta = self.method.algorithm, self.model.theta.clone()
        shared = algorithm.begin_round(algorithm.init_shared(theta), 1.0)
        shared, memory = algorithm.receive(shared, algorithm.init_memory(theta), 1.0)
        return algorithm.contribute(Local(theta, 1, 1, 1.0), shared, memory)[0]

    @cached_property
    def sent_like(self) -> Any:
        """All that a car sends, as a pattern for types and shapes: the contribution, and momentum that is averaged."""
        if self.training.across_rounds != "average":
            return self.contribution_like
        return join(self.contribution_like, self.training.optimizer.make_momentum(self.model.theta))

    def bytes_kept(self) -> int:
        """Return the bytes of what this rank's cars keep."""
        return len(self.fleet.scenes) * memory_bytes(self.memories.initial_memory)

    def bytes_stored(self) -> int:
        """Return the bytes of the contributions that this rank stores for a robust rule."""
        sent = sum(tensor.numel() * tensor.itemsize for tensor in to_tensors(self.sent_like))
        return len(self.fleet.scenes) * sent if self.method.aggregator.robust else 0

    def kept(self, state: State, car: int) -> Any:
        """Return what a car of this rank keeps: the algorithm's memory, and its momentum if cars keep their own."""
        if car not in state.memories:
            return state.initial_memory
        return self.memories.load(state.memories[car], self.model.device)

    def recall(self, state: State, car: int) -> tuple[Any, Momentum | None]:
        """Return the algorithm's memory of a car of this rank, and the car's own momentum if cars keep it."""
        kept = self.kept(state, car)
        if self.training.across_rounds != "own":
            return kept, None
        memory, momentum = split(kept, *self._kept_like)
        return memory, momentum

    def memory(self, state: State, car: int) -> Any:
        """Return the algorithm's memory of a car of this rank."""
        return self.recall(state, car)[0]

    @cached_property
    def _kept_like(self) -> tuple[Any, Momentum]:
        return (self.method.algorithm.init_memory(self.model.theta),
                self.training.optimizer.make_momentum(self.model.parameters))


def make_kept(algorithm: Algorithm, training: LocalTraining, theta: Tensor, parameters: Tensor) -> Any:
    """Return what every car keeps before its first round.

    theta: (d,) untrained, which an algorithm may keep; parameters: (d + e,) all that a car trains.
    """
    memory = algorithm.init_memory(theta)
    return memory if training.across_rounds != "own" else join(memory, training.optimizer.make_momentum(parameters))
