"""Federations whose minimiser is known: car i has f_i(w) = ½ (w - b_i)ᵀ A_i (w - b_i), in float64.

They run through the very loop that trains networks: a "model" is one parameter vector, a "batch" is (A_i, b_i).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedsim.algorithms import Algorithm
from fedsim.federation import Car, Federation, State
from fedsim.local import LocalTraining
from fedsim.optimizers import SGD
from fedsim.rounds import initial_state, run_round
from fedsim.vector import FlatModel
from fedsim.world import Place, World

SOLO = World(Place(), torch.device("cpu"), "gloo", "alone", 1)


class Point(nn.Module):
    """A model that is its parameter vector."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(theta.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        return self.w


@dataclass(frozen=True)
class Bowl:
    """A car's quadratic, in the place of its scenes. Its images only weigh it: every batch is the whole f_i."""

    matrix: Tensor  # (d, d)
    centre: Tensor  # (d,)
    images: int = 1

    def __len__(self) -> int:
        return self.images

    def batch(self, positions: np.ndarray, flips: None) -> tuple[Tensor, "Bowl"]:
        return torch.empty(0), self

    def gradient(self, w: Tensor) -> Tensor:
        return self.matrix @ (w - self.centre)


def half_square(w: Tensor, bowl: Bowl) -> Tensor:
    gap = w - bowl.centre
    return 0.5 * gap @ bowl.matrix @ gap


def bowls(cars: int = 5, dimension: int = 4, images: tuple[int, ...] | None = None) -> list[Bowl]:
    """Cars that disagree: curvatures in 0.5..4, centres of norm about 4."""
    draw = torch.Generator().manual_seed(7)
    made = []
    for car in range(cars):
        basis, _ = torch.linalg.qr(torch.randn(dimension, dimension, generator=draw, dtype=torch.float64))
        curvature = 0.5 + 3.5 * torch.rand(dimension, generator=draw, dtype=torch.float64)
        centre = 2 * torch.randn(dimension, generator=draw, dtype=torch.float64)
        made.append(Bowl(basis @ torch.diag(curvature) @ basis.T, centre, images[car] if images else 1))
    return made


def shares(cars: list[Bowl], weighting: str) -> Tensor:
    """p_i."""
    weights = torch.tensor([car.images if weighting == "images" else 1 for car in cars], dtype=torch.float64)
    return weights / weights.sum()


def minimiser(cars: list[Bowl], weighting: str = "uniform") -> Tensor:
    """Of Σ p_i f_i."""
    p = shares(cars, weighting)
    return torch.linalg.solve(sum(p[i] * car.matrix for i, car in enumerate(cars)),
                              sum(p[i] * car.matrix @ car.centre for i, car in enumerate(cars)))


def federation(algorithm: Algorithm, cars: list[Bowl], *, steps: int = 5, lr: float = 0.05, momentum: float = 0.0,
               participation: float = 1.0, weighting: str | None = None, cosine: bool = False,
               theta: Tensor | None = None, rounds: int = 10_000) -> Federation:
    start = torch.zeros(len(cars[0].centre), dtype=torch.float64) if theta is None else theta
    weighting = weighting or algorithm.weighting
    return Federation(
        world=SOLO, model=FlatModel(Point(start), torch.device("cpu")), algorithm=algorithm,
        training=LocalTraining(steps, 10**6, SGD(momentum), half_square, False, 0),
        cars=tuple(Car(f"car-{i}", len(car)) for i, car in enumerate(cars)), homes=(0,) * len(cars),
        scenes=dict(enumerate(cars)), rounds=rounds, lr=lr, cosine=cosine, participation=participation,
        weights=tuple(len(car) if weighting == "images" else 1 for car in cars), recalibrate=False, seed=3)


def play(made: Federation, rounds: int, state: State | None = None) -> State:
    """The state some rounds on."""
    state = initial_state(made) if state is None else state
    for _ in range(rounds):
        state = run_round(made, state).state
    return state
