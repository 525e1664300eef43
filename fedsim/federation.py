"""What a federation is made of: its fixed parts, its state between rounds, what a round reports."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from fedsim.algorithms.base import Algorithm
from fedsim.local import LocalTraining
from fedsim.scenes.car_scenes import CarScenes
from fedsim.vector import FlatModel
from fedsim.world import World


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
    recalibrate: bool  # BatchNorm statistics from the new theta; else from the cars' running averages
    seed: int

    @property
    def total_weight(self) -> int:
        """Of all cars, whether they take part or not."""
        return sum(self.weights)

    def learning_rate(self, round_number: int) -> float:
        """Of a round, whichever car takes part in it. Rounds count from 1."""
        if not self.cosine:
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (round_number - 1) / self.rounds))

    def step_length(self, chosen: list[int], lr: float) -> float | None:
        """The mean over the round's cars of how far local steps go along a unit gradient; None if unknown."""
        steps = (self.training.steps(self.cars[car].images) for car in chosen)
        lengths = [self.training.optimizer.step_length(lr, count) for count in steps]
        known = [length for length in lengths if length is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class State:
    """What a round starts from and ends with. Tensors are replaced, never written to."""

    round: int
    shared: Any  # of the algorithm; equal on every rank
    statistics: Tensor  # (2, c) BatchNorm means and variances; equal on every rank
    initial_memory: Any  # of a car that has not taken part yet
    memories: dict[int, Any]  # car -> memory, for this rank's cars that have taken part
    own_statistics: dict[int, Tensor]  # car -> (2, c), where cars keep models of their own; else empty
    mean_dual: Tensor | None  # (d,) float64 Σ p_i y_i over all cars, for the record; None without duals
    pictures: int = 0  # seen by all cars since the start
    sequential_steps: int = 0  # gradient steps taken one after another since the start

    def memory(self, car: int) -> Any:
        return self.memories.get(car, self.initial_memory)

    def digest(self) -> str:
        """sha256 of theta's bytes (float32, little-endian), the statistics' after them."""
        digest = hashlib.sha256()
        for tensor in (self.shared.theta, self.statistics):
            digest.update(tensor.cpu().contiguous().numpy().astype("<f4").tobytes())
        return digest.hexdigest()


class CarReport(NamedTuple):
    """What a car tells of its round. Field order is the order of columns on the wire."""

    steps: float
    loss: float  # mean over the round's steps
    drift: float  # ‖w - theta‖
    dual_norm: float  # ‖y‖; 0 without duals
    finite: float  # 1 if loss, contribution and statistics are


class Residuals(NamedTuple):
    """How far an algorithm with duals is from a solution: there, all but the penalty are 0."""

    penalty: float  # rho
    primal: float  # sqrt of the mean ‖w_i - theta‖² over the round's cars
    dual: float  # rho ‖theta - theta before‖
    mean_dual: float  # ‖Σ p_i y_i‖ over all cars


@dataclass(frozen=True)
class RoundResult:
    """A round's state and what there is to record of it; the same on every rank but for the seconds."""

    state: State
    lr: float
    reports: dict[int, CarReport]  # the round's cars
    step_losses: dict[int, list[float]]  # car -> loss of every local step
    residuals: Residuals | None  # None without duals
    bytes_up: int  # what the round's cars would send and receive in a real federation
    bytes_down: int
    seconds: dict[str, float]
