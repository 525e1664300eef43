"""The course of the learning rate over the rounds: how it rises at the beginning and falls to the end of a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

POWER = 0.9  # of poly (Liu et al. 2015, ParseNet, arXiv:1506.04579; Chen et al. 2018, DeepLab, arXiv:1606.00915)
# The share of the rate that is left after `passed` of so many rounds.
SHAPES: dict[str, Callable[[int, int], float]] = {
    "cosine": lambda passed, rounds: 0.5 * (1 + math.cos(math.pi * passed / rounds)),
    "poly": lambda passed, rounds: (1 - passed / rounds) ** POWER,
    "steps": lambda passed, rounds: 0.1 ** ((2 * passed >= rounds) + (4 * passed >= 3 * rounds)),
    "constant": lambda passed, rounds: 1.0,
}


@dataclass(frozen=True)
class Curve:
    """The share of the learning rate that each round has.

    >>> curve = Curve("steps", warmup=1)
    >>> [round(curve.share(number, 4), 3) for number in (1, 2, 3, 4)]
    [0.5, 1.0, 0.1, 0.01]
    """

    shape: str = "constant"
    warmup: int = 0  # rounds at the beginning with a smaller rate, which rises by equal steps
    floor: float = 0.0  # the share that the shape falls to

    def share(self, number: int, rounds: int) -> float:
        """Return the share of a round, counted from 1, of so many."""
        falling = self.floor + (1 - self.floor) * SHAPES[self.shape](number - 1, rounds)
        return falling * min(1.0, number / (self.warmup + 1))


CONSTANT = Curve()
