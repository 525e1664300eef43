"""Federations with a known minimiser, in float64, played through the loop that trains networks.

There are two problems. Quadratics: car i has f_i(w) = ½ (w - b_i)ᵀ A_i (w - b_i), a "model" is one parameter vector and
a "batch" is (A_i, b_i). Least squares: a linear model with mean squared error on a car's own rows.
"""

from dataclasses import dataclass
from typing import Any

import federations
import numpy as np
import torch
from torch import Tensor, nn

from fedsim.algorithms import Algorithm
from fedsim.data.augment import Unchanged
from fedsim.distributed.devices import Place
from fedsim.distributed.world import World
from fedsim.federation.federation import Car, Federation
from fedsim.federation.learning_rate import Curve
from fedsim.federation.local_training import LocalTraining
from fedsim.federation.local_work import Epochs, LocalWork
from fedsim.federation.optimizers import SGD
from fedsim.federation.participation import place_cars
from fedsim.federation.rounds import initial_state, run_round
from fedsim.federation.state import CarReport, RoundResult, State
from fedsim.models.flat import FlatModel

SOLO = World(Place(), torch.device("cpu"), "gloo", "alone", 1)
UNEQUAL = (1, 2, 3, 4, 5)


class Point(nn.Module):
    """A model that returns its parameter vector."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(theta.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        return self.w


@dataclass(frozen=True)
class Bowl:
    """A car's quadratic, which replaces its scenes. Every batch is the whole f_i; `images` is only its weight."""

    matrix: Tensor  # (d, d)
    centre: Tensor  # (d,)
    images: int = 1

    def __len__(self) -> int:
        return self.images

    def batch(self, positions: np.ndarray, augment: object) -> tuple[Tensor, "Bowl"]:
        return torch.empty(0, dtype=torch.float64), self

    def gradient(self, w: Tensor) -> Tensor:
        return self.matrix @ (w - self.centre)


def half_square(w: Tensor, bowl: Bowl) -> Tensor:
    gap = w - bowl.centre
    return 0.5 * gap @ bowl.matrix @ gap


@dataclass(frozen=True)
class Rows:
    """A car's rows of a linear regression: f_i(w) = mean (x·w - y)², a quadratic too."""

    inputs: Tensor  # (n, d)
    targets: Tensor  # (n, 1)

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, positions: np.ndarray, augment: object) -> tuple[Tensor, Tensor]:
        return self.inputs[positions], self.targets[positions]

    @property
    def matrix(self) -> Tensor:
        return 2 * self.inputs.T @ self.inputs / len(self)

    @property
    def centre(self) -> Tensor:
        return torch.linalg.lstsq(self.inputs, self.targets).solution[:, 0]

    def gradient(self, w: Tensor) -> Tensor:
        return 2 * self.inputs.T @ (self.inputs @ w - self.targets[:, 0]) / len(self)


def bowls(cars: int = 5, dimension: int = 4, images: tuple[int, ...] | None = None) -> list[Bowl]:
    """Make cars that disagree: curvatures in 0.5..4, centres of norm about 4."""
    draw = torch.Generator().manual_seed(7)
    made = []
    for car in range(cars):
        basis, _ = torch.linalg.qr(torch.randn(dimension, dimension, generator=draw, dtype=torch.float64))
        curvature = 0.5 + 3.5 * torch.rand(dimension, generator=draw, dtype=torch.float64)
        centre = 2 * torch.randn(dimension, generator=draw, dtype=torch.float64)
        made.append(Bowl(basis @ torch.diag(curvature) @ basis.T, centre, images[car] if images else 1))
    return made


def regressions(cars: int = 5, dimension: int = 4) -> list[Rows]:
    """Make cars that disagree on a slope, with 8, 9, … rows each."""
    draw = torch.Generator().manual_seed(11)
    made = []
    for car in range(cars):
        inputs = torch.randn(8 + car, dimension, generator=draw, dtype=torch.float64)
        slope = 2 * torch.randn(dimension, 1, generator=draw, dtype=torch.float64)
        noise = 0.1 * torch.randn(8 + car, 1, generator=draw, dtype=torch.float64)
        made.append(Rows(inputs, inputs @ slope + noise))
    return made


def shares(cars: list, weighting: str) -> Tensor:
    """Return the cars' shares p_i."""
    weights = torch.tensor([len(car) if weighting == "images" else 1 for car in cars], dtype=torch.float64)
    return weights / weights.sum()


def minimiser(cars: list, weighting: str = "uniform") -> Tensor:
    """Return the minimiser of Σ p_i f_i."""
    p = shares(cars, weighting)
    return torch.linalg.solve(sum(p[i] * car.matrix for i, car in enumerate(cars)),
                              sum(p[i] * car.matrix @ car.centre for i, car in enumerate(cars)))


def federation(algorithm: Algorithm, cars: list, *, steps: int = 5, lr: float = 0.05, momentum: float = 0.0,
               participation: float = 1.0, weighting: str | None = None, cosine: bool = False,
               theta: Tensor | None = None, rounds: int = 10_000, epochs: tuple[int, int] | None = None,
               work: LocalWork | None = None,
               world: World = SOLO, **others: Any) -> Federation:
    """Make a federation of full-batch steps. others: further fields of its groups, such as the aggregator."""
    linear = isinstance(cars[0], Rows)
    start = torch.zeros(len(cars[0].centre), dtype=torch.float64) if theta is None else theta
    module = nn.Linear(len(start), 1, bias=False).double() if linear else Point(start)
    if linear:
        module.weight.data.copy_(start)
    weighting = weighting or algorithm.weighting
    homes = place_cars([len(car) for car in cars], world.size)
    return federations.build(
        world=world, model=FlatModel(module, torch.device("cpu")), algorithm=algorithm,
        training=LocalTraining(work or Epochs(*epochs or (steps, steps)), 10**6, SGD(momentum),
                               nn.functional.mse_loss if linear else half_square, Unchanged, 3),
        cars=tuple(Car(f"car-{i}", len(car)) for i, car in enumerate(cars)), homes=tuple(homes),
        scenes={i: car for i, car in enumerate(cars) if homes[i] == world.rank}, rounds=rounds, lr=lr,
        curve=Curve("cosine" if cosine else "constant"),
        participation=participation, weights=tuple(len(car) if weighting == "images" else 1 for car in cars), seed=3,
        **others)


def play(made: Federation, rounds: int, state: State | None = None) -> State:
    """Play some rounds and return the state after them."""
    state = initial_state(made) if state is None else state
    for _ in range(rounds):
        state = run_round(made, state).state
    return state


def reports(result: RoundResult) -> dict[int, CarReport]:
    """Return the reports of a round's cars without the time that training took, which is never the same."""
    return {car: report._replace(seconds=0.0) for car, report in result.reports.items()}
