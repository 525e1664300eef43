"""The draw of a round's cars and of those that answer, and the rank of every car.

All functions are pure functions of seed and round, so every rank gets the same result.
"""

from collections.abc import Sequence
from typing import NamedTuple

from fedsim.seeds import stream


class Cohort(NamedTuple):
    """The cars of one round, in ascending order; the same on every rank."""

    chosen: list[int]  # cars that train
    answered: list[int]  # cars of these whose answer arrives
    combined: list[int]  # cars whose contributions are combined: those that answered, or no car if they are too few

    @property
    def failed(self) -> list[int]:
        """The cars that train and never answer."""
        return [car for car in self.chosen if car not in self.answered]


def number_of_cars(cars: int, participation: float) -> int:
    """Return participation * cars, rounded, halves to even: the number of cars in a round. It may be 0."""
    return round(participation * cars)


def chosen_cars(seed: int, round_number: int, cars: int, participation: float) -> list[int]:
    """Draw the cars of a round, a uniform sample in ascending order.

    The draw depends on the seed and the round alone, not on earlier rounds.
    """
    count = number_of_cars(cars, participation)
    if count == cars:
        return list(range(cars))
    draw = stream(seed, "participation", round_number).choice(cars, size=count, replace=False)
    return sorted(int(car) for car in draw)


def answering_cars(seed: int, round_number: int, chosen: Sequence[int], failures: float) -> list[int]:
    """Draw the cars that answer. Each car fails with probability `failures`, independently of all others."""
    if not failures:
        return list(chosen)
    draws = stream(seed, "car failures", round_number).random(max(chosen) + 1)
    return [car for car in chosen if draws[car] >= failures]


def place_cars(sizes: Sequence[int], ranks: int) -> list[int]:
    """Return the rank of every car. The largest car is placed first, each on the rank with the fewest scenes so far."""
    load, home = [0] * ranks, [0] * len(sizes)
    for car in sorted(range(len(sizes)), key=lambda car: (-sizes[car], car)):
        home[car] = min(range(ranks), key=lambda rank: (load[rank], rank))
        load[home[car]] += sizes[car]
    return home
