"""What a federation is made of: its fixed parts, its state between rounds, what a round reports."""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsim.aggregation import Aggregator, Mean
from fedsim.algorithms.base import Algorithm, Local
from fedsim.algorithms.server_optimizers import Plain, ServerOptimizer
from fedsim.data.car_scenes import CarScenes
from fedsim.distributed.world import World
from fedsim.federation.attacks import Attack
from fedsim.federation.batchnorm import NORM_RULES, NormRule
from fedsim.federation.contributions import to_parts
from fedsim.federation.divergence import Watch
from fedsim.federation.local_training import LocalTraining
from fedsim.federation.memories import CarStates, make_car_states, memory_bytes
from fedsim.models.flat import FlatModel, Norms


class Car(NamedTuple):
    """A simulated vehicle, as every rank knows it: its scenes are known to its own rank alone."""

    name: str
    images: int


@dataclass(frozen=True)
class Federation:
    """What stays the same from round to round."""

    world: World
    model: FlatModel  # this rank's, played by its cars in turn
    algorithm: Algorithm
    training: LocalTraining
    cars: tuple[Car, ...]
    homes: tuple[int, ...]  # the rank of every car
    scenes: dict[int, CarScenes]  # car -> its scenes, for this rank's cars
    rounds: int
    lr: float
    cosine: bool  # learning rate falls along half a cosine over the rounds; else it is constant
    participation: float
    weights: tuple[int, ...]  # of every car in every mean: its scenes, or 1
    seed: int
    norms: NormRule = NORM_RULES["recalibrate"]
    aggregator: Aggregator = field(default_factory=Mean)
    server: ServerOptimizer = field(default_factory=Plain)
    clip_norm: float | None = None  # longest move that a contribution may have
    attack: Attack | None = None
    car_failures: float = 0.0  # probability that a car of the round never answers
    on_divergence: str = "warn"  # or stop, or rollback
    folder: Path | None = None  # for what cars keep and send, where it does not fit in memory

    @cached_property
    def states(self) -> CarStates:
        """Where this rank's cars keep their memories. Raises UserError where that is not possible."""
        return make_car_states(self.algorithm.init_memory(self.model.theta), list(self.scenes), self.folder)

    @property
    def total_weight(self) -> int:
        """Of all cars, whether they take part or not."""
        return sum(self.weights)

    @property
    def has_own_models(self) -> bool:
        """Whether every car has a model, or norms, of its own."""
        return self.algorithm.personal or (self.norms.own_statistics and bool(self.model.norms))

    def learning_rate(self, round_number: int) -> float:
        """Of a round, whichever car takes part in it. Rounds count from 1."""
        if not self.cosine:
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (round_number - 1) / self.rounds))

    def step_length(self, lr: float) -> float | None:
        """How far a round's local steps go along a unit gradient, the mean over all cars; None if unknown.

        Over all cars and all numbers of epochs they may draw, not those of one round: a penalty that followed the draw
        would change every round, and what cars remember of different penalties has no common solution.
        """
        least, most = self.training.epochs
        batches = Counter(self.training.batches(car.images) for car in self.cars)
        total = 0.0
        for epochs in range(least, most + 1):
            for count, cars in batches.items():
                length = self.training.optimizer.step_length(lr, epochs * count)
                if length is None:
                    return None
                total += cars * length
        return total / len(self.cars) / (most - least + 1)

    @cached_property
    def contribution_like(self) -> Any:
        """A contribution of the algorithm's, for its shape: that of a car that did not move."""
        theta = self.model.theta.clone()
        shared = self.algorithm.begin_round(self.algorithm.init_shared(theta), 1.0)
        return self.algorithm.contribute(Local(theta, 1, 1, 1.0), shared, self.algorithm.init_memory(theta))[0]

    def bytes_kept(self) -> int:
        """What this rank's cars keep between rounds, and send in one where contributions are not summed at once."""
        keep = memory_bytes(self.algorithm.init_memory(self.model.theta))
        sent = sum(part.numel() * part.itemsize for part in to_parts(self.contribution_like))
        return len(self.scenes) * (keep + (sent if self.aggregator.robust else 0))

    def memory(self, state: "State", car: int) -> Any:
        """What a car of this rank keeps."""
        if car not in state.memories:
            return state.initial_memory
        return self.states.load(state.memories[car], self.model.device)


@dataclass(frozen=True)
class State:
    """What a round starts from and ends with. Tensors are replaced, never written to."""

    round: int
    shared: Any  # of the algorithm; equal on every rank, but for what it keeps from cars
    server: Any  # of the server optimiser; the coordinator's is the one that counts
    norms: Norms  # of the global model; equal on every rank
    initial_norms: Norms  # of a car that keeps its own and has not taken part yet
    initial_memory: Any  # of a car that has not taken part yet
    memories: dict[int, Any]  # car -> handle of its memory, for this rank's cars that have taken part
    own_norms: dict[int, Norms]  # car -> its own, where cars keep them; else empty
    mean_dual: Tensor | None  # (d,) float64 Σ p_i y_i over all cars, for the record; None without duals
    watch: Watch = field(default_factory=Watch)
    lr_factor: float = 1.0  # less than 1 after rounds that were rolled back
    pictures: int = 0  # seen by all cars since the start
    sequential_steps: int = 0  # gradient steps taken one after another since the start

    def global_vector(self) -> Tensor:
        """(d + e,) the global model's parameters."""
        return torch.cat([self.shared.theta, self.norms.affine])

    def digest(self) -> str:
        """sha256 of the global vector's bytes (float32, little-endian), the statistics' after them."""
        digest = hashlib.sha256()
        for tensor in (self.global_vector(), self.norms.statistics):
            digest.update(tensor.cpu().contiguous().numpy().astype("<f4").tobytes())
        return digest.hexdigest()


class CarReport(NamedTuple):
    """What a car tells of its round. Field order is the order of columns on the wire."""

    steps: float
    loss: float  # mean over the round's steps
    drift: float  # ‖w - theta‖
    dual_norm: float  # ‖y‖; 0 without duals
    finite: float  # 1 if loss, contribution and statistics are
    gradient_norm: float  # mean over the round's steps of the loss's, before the correction
    weight_norm: float  # ‖w‖ at the end of local training


class Residuals(NamedTuple):
    """How far an algorithm with duals is from a solution: there, all but the penalty are 0."""

    penalty: float  # rho
    primal: float | None  # sqrt of the mean ‖w_i - theta‖² over the cars that answered; None if none did
    dual: float  # rho ‖theta - theta before‖
    mean_dual: float  # ‖Σ p_i y_i‖ over all cars


@dataclass(frozen=True)
class RoundResult:
    """A round's state and what there is to record of it; the same on every rank but for the seconds."""

    state: State
    lr: float
    reports: dict[int, CarReport]  # of the cars that answered
    failed: list[int]  # cars that trained and never answered
    step_losses: dict[int, list[float]]  # car -> loss of every local step
    train_class_iou: dict[int, list[float]]  # car -> IoU of what it predicted while it trained; NaN: class has none
    local_seconds: dict[int, float]  # car -> wall time of its local training
    step: float  # ‖theta - theta before‖
    residuals: Residuals | None  # None without duals
    bytes_up: int  # what the round's cars would send and receive in a real federation
    bytes_down: int
    seconds: dict[str, float]
    trouble: str | None = None  # what the guard has to say
