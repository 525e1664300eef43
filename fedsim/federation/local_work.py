"""A car's work in a round: the number of its gradient steps, and the scenes of each of them.

It is counted in whole epochs, or in steps. Whole epochs go through all scenes in an order drawn for the round. Work
counted in steps may be less than an epoch, so the next round goes on where this one ends: the batches of all rounds are
one sequence of shuffled epochs, and the steps of the rounds so far are the position in it. A car that sits out a round
passes over the batches of that round. So the position depends on the round alone, and nothing has to be saved.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedsim.seeds import stream


@dataclass(frozen=True)
class Turn:
    """A car's round, and the scenes that it trains on."""

    seed: int
    round: int  # counts from 1
    car: int
    scenes: int  # number of the car's scenes
    batch_size: int

    @property
    def batches(self) -> int:
        """The number of batches in an epoch. The last one may be smaller."""
        return count_batches(self.scenes, self.batch_size)


class LocalWork(Protocol):
    """A rule for the work of cars, the same for all cars."""

    def choices(self, batches: int) -> list[int]:
        """Return the numbers of steps that a car with so many batches in an epoch may take in a round.

        All of them are equally likely. Their count is the same for all cars.
        """
        ...

    def steps(self, turn: Turn) -> int:
        """Return the number of gradient steps that a car takes in a round, at least 1."""
        ...

    def pictures(self, turn: Turn) -> int:
        """Return the number of pictures that a car trains on in a round, counted each time."""
        ...

    def positions(self, turn: Turn) -> Iterator[np.ndarray]:
        """Yield the positions (at most batch_size,) of the scenes of every step of a round."""
        ...


@dataclass(frozen=True)
class Epochs:
    """Whole epochs. Every car draws their number for each round, uniformly between least and most."""

    least: int
    most: int

    def choices(self, batches: int) -> list[int]:
        return [epochs * batches for epochs in range(self.least, self.most + 1)]

    def steps(self, turn: Turn) -> int:
        return self._draw(turn) * turn.batches

    def pictures(self, turn: Turn) -> int:
        return self._draw(turn) * turn.scenes

    def positions(self, turn: Turn) -> Iterator[np.ndarray]:
        order = stream(turn.seed, "shuffle", turn.round, turn.car)
        for _ in range(self._draw(turn)):
            yield from cut(order.permutation(turn.scenes), turn.batch_size)

    def _draw(self, turn: Turn) -> int:
        if self.least == self.most:
            return self.least
        return int(stream(turn.seed, "local epochs", turn.round, turn.car).integers(self.least, self.most + 1))


class _GoingOn:
    """The common part of work that goes on in the order of scenes where the round before has ended."""

    def count(self, batches: int) -> int:
        """Return the number of steps of a car with so many batches in an epoch, the same in every round."""
        raise NotImplementedError

    def choices(self, batches: int) -> list[int]:
        return [self.count(batches)]

    def steps(self, turn: Turn) -> int:
        return self.count(turn.batches)

    def pictures(self, turn: Turn) -> int:
        before, after = (
            step // turn.batches * turn.scenes + min(step % turn.batches * turn.batch_size, turn.scenes)
            for step in self._span(turn))
        return after - before

    def positions(self, turn: Turn) -> Iterator[np.ndarray]:
        first, end = self._span(turn)
        for epoch in range(first // turn.batches, -(-end // turn.batches)):
            order = stream(turn.seed, "endless shuffle", epoch, turn.car).permutation(turn.scenes)
            batches = list(cut(order, turn.batch_size))
            begin = epoch * turn.batches
            yield from batches[max(0, first - begin) : end - begin]

    def _span(self, turn: Turn) -> tuple[int, int]:
        """Return the numbers of the round's first step and of the step after its last one, from round 1 on."""
        steps = self.steps(turn)
        return (turn.round - 1) * steps, turn.round * steps


@dataclass(frozen=True)
class Steps(_GoingOn):
    """A number of steps, the same for every car."""

    number: int

    def count(self, batches: int) -> int:
        return self.number


@dataclass(frozen=True)
class PartOfEpoch(_GoingOn):
    """A share of an epoch, which may be above 1, in steps. It is rounded up, so that every car takes a step."""

    share: float

    def count(self, batches: int) -> int:
        # In floating point 0.1 * 30 is above 3.
        return max(1, math.ceil(self.share * batches - 1e-9))


def count_batches(scenes: int, batch_size: int) -> int:
    """Return the number of batches in an epoch over so many scenes."""
    return -(-scenes // batch_size)


def cut(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the batches of an order of scenes. The last one may be smaller."""
    for first in range(0, len(order), batch_size):
        yield order[first : first + batch_size]
