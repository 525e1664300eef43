"""Averages of the global model over the rounds: how far each round moves them.

An average a moves a share s of its way to the vector theta of every round: a <- a + s (theta - a). The shares make it a
weighted mean whose weights sum to 1 after every round.
"""

import math
from dataclasses import dataclass
from typing import Protocol


class Averaging(Protocol):
    """A rule for the average over the rounds of a run. Rounds count from 1."""

    def begins(self, rounds: int) -> int:
        """Return the first of so many rounds that counts."""

    def share(self, number: int, rounds: int) -> float:
        """Return how far a round moves the average: 0 before the first that counts, and 1 in it."""


@dataclass(frozen=True)
class Ema:
    """The exponential moving average of all rounds so far.

    After round t it is the sum of d^(t-k) theta_k over the rounds k = 1..t, divided by the sum of d^(t-k). Without the
    division, the untrained vector or zeros would keep the weight d^t (Kingma & Ba 2015, arXiv:1412.6980, §3).

    >>> [round(Ema(0.5).share(number, 3), 3) for number in (1, 2, 3)]
    [1.0, 0.667, 0.571]
    """

    decay: float  # d, at least 0 and below 1

    def begins(self, rounds: int) -> int:
        return 1

    def share(self, number: int, rounds: int) -> float:
        return (1 - self.decay) / (1 - self.decay**number)


@dataclass(frozen=True)
class Swa:
    """The plain mean of the last rounds (Izmailov, Podoprikhin, Garipov, Vetrov & Wilson 2018, arXiv:1803.05407).

    >>> [round(Swa(0.5).share(number, 4), 3) for number in (1, 2, 3, 4)]
    [0.0, 0.0, 1.0, 0.5]
    """

    skipped: float  # the share of the rounds that does not count, at least 0 and below 1

    def begins(self, rounds: int) -> int:
        whole = math.floor(self.skipped * rounds + 1e-9)  # 0.29 * 100 is a little less than 29
        return min(whole, rounds - 1) + 1

    def share(self, number: int, rounds: int) -> float:
        counted = number - self.begins(rounds) + 1
        return 1 / counted if counted > 0 else 0.0


AVERAGES: dict[str, type[Ema] | type[Swa]] = {"ema": Ema, "swa": Swa}
