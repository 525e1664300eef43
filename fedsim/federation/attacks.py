"""Cars that send bad updates, to try aggregators against.

A hostile car trains as the others do, then sends something else; with label-flip it trains on wrong labels and sends
what it learned. Its memory is what honest training would have left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedsim.classes import VOID
from fedsim.data.augment import Unchanged
from fedsim.data.car_scenes import CarScenes
from fedsim.federation.contributions import move_by
from fedsim.seeds import derive, stream

SIGN_FLIP = -4.0  # as in Li, Xu, Chen, Giannakis, Ling 2019 (RSA), AAAI, arXiv:1811.03761, §5
SCALE = 10.0  # a boosted update, as in Bagdasaryan et al. 2020, AISTATS, arXiv:1807.00459, §4.2
NOISE = 10.0  # of the norm of the honest move, spread evenly over all coordinates: Blanchard et al. 2017, §5

Change = Callable[[Tensor, torch.Generator], Tensor]  # (d,) honest move -> (d,) what is sent

ATTACKS: dict[str, Change] = {
    "sign-flip": lambda move, _: SIGN_FLIP * move,
    "gaussian": lambda move, draw: _noise_like(move, draw),
    "scale": lambda move, _: SCALE * move,
    "label-flip": lambda move, _: move,
}


@dataclass(frozen=True)
class Attack:
    """Who attacks, and how."""

    name: str  # of ATTACKS
    cars: frozenset[int]
    seed: int

    def flips_labels_of(self, car: int) -> bool:
        return self.name == "label-flip" and car in self.cars

    def disguise(self, contribution: Any, theta: Tensor, sends_model: bool, *, round_number: int, car: int) -> Any:
        """What the car sends in the place of its contribution."""
        if car not in self.cars or self.name == "label-flip":
            return contribution
        draw = torch.Generator().manual_seed(derive(self.seed, "attack", round_number, car))
        return move_by(contribution, theta, sends_model, lambda move: ATTACKS[self.name](move, draw))


def hostile_cars(seed: int, cars: int, attackers: int) -> frozenset[int]:
    """A uniform sample of the cars, the same in every round."""
    return frozenset(stream(seed, "attackers").choice(cars, size=attackers, replace=False).tolist())


def flip_labels(labels: Tensor, classes: int) -> Tensor:
    """Class c becomes class C - 1 - c, void stays.   Tolpegin et al. 2020, arXiv:2007.08432, in its strongest form."""
    return torch.where(labels == VOID, labels, classes - 1 - labels)


def _noise_like(move: Tensor, draw: torch.Generator) -> Tensor:
    noise = torch.randn(move.shape, generator=draw, dtype=move.dtype).to(move.device)
    return noise * (NOISE * torch.linalg.vector_norm(move) / move.numel() ** 0.5)


class Mislabelled(CarScenes):
    """A hostile car's scenes: the pictures as they are, the labels flipped."""

    def batch(self, positions: np.ndarray, augment: Unchanged | None = None) -> tuple[Tensor, Tensor]:
        images, labels = super().batch(positions, augment)
        return images, flip_labels(labels, len(self.classes))
