"""A car's work in a round: the number of its gradient steps, and the scenes of each of them.

It is counted in whole epochs, or in steps. Whole epochs go through all scenes in an order drawn for the round. Work
counted in steps may be less than an epoch, so the next round goes on where this one ends: the batches of all rounds are
one sequence of shuffled epochs, and the steps of the rounds so far are the position in it. A car that sits out a round
passes over the batches of that round. So the position depends on the round alone, and nothing has to be saved.

A car that stands for all cars of a federation does their work together: `Together`.
"""

import itertools
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
    batch_size: int  # scenes of a step, which may be computed in parts

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

    def sizes(self, turn: Turn) -> set[int]:
        """Return the numbers of scenes that a step of a round may have."""
        ...

    def offset(self, turn: Turn) -> int:
        """Return the place in an endless order of scenes at which a round begins; 0 if rounds have their own orders."""
        ...

    def orders(self, turn: Turn, epoch: int) -> Iterator[np.ndarray]:
        """Yield the order (scenes,) of the scenes in every epoch, without end. epoch: the first one, from 0 on."""
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
        for order in itertools.islice(self.orders(turn, 0), self._draw(turn)):
            yield from cut(order, turn.batch_size)

    def sizes(self, turn: Turn) -> set[int]:
        return sizes_of_cut(turn)

    def offset(self, turn: Turn) -> int:
        return 0

    def orders(self, turn: Turn, epoch: int) -> Iterator[np.ndarray]:
        draws = stream(turn.seed, "shuffle", turn.round, turn.car)
        return itertools.islice((draws.permutation(turn.scenes) for _ in itertools.count()), epoch, None)

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
        first, end = self._span(turn)
        return self._place(turn, end) - self._place(turn, first)

    def positions(self, turn: Turn) -> Iterator[np.ndarray]:
        first, end = self._span(turn)
        epochs = range(first // turn.batches, -(-end // turn.batches))
        for epoch, order in zip(epochs, self.orders(turn, epochs.start), strict=False):
            begin = epoch * turn.batches
            yield from list(cut(order, turn.batch_size))[max(0, first - begin) : end - begin]

    def sizes(self, turn: Turn) -> set[int]:
        return sizes_of_cut(turn)

    def offset(self, turn: Turn) -> int:
        return self._place(turn, self._span(turn)[0])

    def orders(self, turn: Turn, epoch: int) -> Iterator[np.ndarray]:
        for number in itertools.count(epoch):
            yield stream(turn.seed, "endless shuffle", number, turn.car).permutation(turn.scenes)

    def _span(self, turn: Turn) -> tuple[int, int]:
        """Return the numbers of the round's first step and of the step after its last one, from round 1 on."""
        steps = self.steps(turn)
        return (turn.round - 1) * steps, turn.round * steps

    def _place(self, turn: Turn, step: int) -> int:
        """Return the number of pictures in the steps before `step`."""
        epochs, batches = divmod(step, turn.batches)
        return epochs * turn.scenes + min(batches * turn.batch_size, turn.scenes)


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


@dataclass(frozen=True)
class Together:
    """The work of all cars of a federation, done by one car that holds all of their scenes.

    A round has as many steps as the slowest car takes, on as many pictures as all cars see. The pictures are spread
    evenly over the steps. So both numbers are those of a federation in which every car takes part, whatever the sizes
    of its cars. If all cars are equal and the batch size divides their scenes, a step has a batch of every car.
    """

    work: LocalWork  # of each of the cars
    scenes: tuple[int, ...]  # numbers of the cars' scenes
    batch_size: int  # of each of the cars

    def choices(self, batches: int) -> list[int]:
        return self.work.choices(count_batches(max(self.scenes), self.batch_size))

    def steps(self, turn: Turn) -> int:
        return max(map(self.work.steps, self._turns(turn)))

    def pictures(self, turn: Turn) -> int:
        return sum(map(self.work.pictures, self._turns(turn)))

    def positions(self, turn: Turn) -> Iterator[np.ndarray]:
        epoch, begin = divmod(self.offset(turn), turn.scenes)
        end = begin + self.pictures(turn)
        orders = itertools.islice(self.orders(turn, epoch), count_batches(end, turn.scenes))
        yield from np.array_split(np.concatenate([*orders])[begin:end], self.steps(turn))

    def sizes(self, turn: Turn) -> set[int]:
        return {*map(len, np.array_split(np.empty(self.pictures(turn)), self.steps(turn)))}

    def offset(self, turn: Turn) -> int:
        return sum(map(self.work.offset, self._turns(turn)))

    def orders(self, turn: Turn, epoch: int) -> Iterator[np.ndarray]:
        return self.work.orders(turn, epoch)

    def _turns(self, turn: Turn) -> list[Turn]:
        """Return the same round of each of the cars."""
        return [Turn(turn.seed, turn.round, car, scenes, self.batch_size) for car, scenes in enumerate(self.scenes)]


def sizes_of_cut(turn: Turn) -> set[int]:
    """Return the numbers of scenes in the batches of an epoch."""
    last = turn.scenes - (turn.batches - 1) * turn.batch_size
    return {last, turn.batch_size} if turn.batches > 1 else {last}


def count_batches(scenes: int, batch_size: int) -> int:
    """Return the number of batches in an epoch over so many scenes."""
    return -(-scenes // batch_size)


def cut(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the batches of an order of scenes. The last one may be smaller."""
    for first in range(0, len(order), batch_size):
        yield order[first : first + batch_size]
