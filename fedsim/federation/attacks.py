"""Cars that send bad updates, to test aggregators.

A hostile car trains like the others and then sends something else. With label-flip it trains on wrong labels and sends
what it has learned. Its memory is that of its training.
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
NOISE = 10.0  # norm of the noise over that of the honest move, all coordinates alike: Blanchard et al. 2017, §5

Change = Callable[[Tensor, torch.Generator], Tensor]  # (d,) honest move -> (d,) what is sent

ATTACKS: dict[str, Change] = {
    "sign-flip": lambda move, _: SIGN_FLIP * move,
    "gaussian": lambda move, draw: _noise_like(move, draw),
    "scale": lambda move, _: SCALE * move,
    "label-flip": lambda move, _: move,
}


@dataclass(frozen=True)
class Attack:
    """The hostile cars and the way they attack."""

    name: str  # a key of ATTACKS
    cars: frozenset[int]
    seed: int

    def flips_labels_of(self, car: int) -> bool:
        """Return whether the car trains on flipped labels."""
        return self.name == "label-flip" and car in self.cars

    def disguise(self, contribution: Any, theta: Tensor, sends_model: bool, *, round_number: int, car: int) -> Any:
        """Return what the car sends: its contribution, or a changed one if it is hostile."""
        if car not in self.cars or self.name == "label-flip":
            return contribution
        draw = torch.Generator().manual_seed(derive(self.seed, "attack", round_number, car))
        return move_by(contribution, theta, sends_model, lambda move: ATTACKS[self.name](move, draw))


def hostile_cars(seed: int, cars: int, attackers: int) -> frozenset[int]:
    """Draw the hostile cars, a uniform sample that is the same in every round."""
    return frozenset(stream(seed, "attackers").choice(cars, size=attackers, replace=False).tolist())


def flip_labels(labels: Tensor, classes: int) -> Tensor:
    """Replace class c by class C - 1 - c in all labels but void.

    Tolpegin et al. 2020, arXiv:2007.08432, in its strongest form.
    """
    return torch.where(labels == VOID, labels, classes - 1 - labels)


def _noise_like(move: Tensor, draw: torch.Generator) -> Tensor:
    noise = torch.randn(move.shape, generator=draw, dtype=move.dtype).to(move.device)
    return noise * (NOISE * torch.linalg.vector_norm(move) / move.numel() ** 0.5)


class Mislabelled(CarScenes):
    """A hostile car's scenes, with unchanged pictures and flipped labels."""

    def batch(self, positions: np.ndarray, augment: Unchanged | None = None) -> tuple[Tensor, Tensor]:
        images, labels = super().batch(positions, augment)
        return images, flip_labels(labels, len(self.classes))
