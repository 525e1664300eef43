"""Which cars take part in a round, which of them answer, and on which rank each is played.

Pure functions of seed and round, the same on every rank.
"""

from collections.abc import Sequence

from fedsim.seeds import stream


def number_of_cars(cars: int, participation: float) -> int:
    """How many take part in a round: participation * cars, rounded, halves to even; 0 for half a car or less."""
    return round(participation * cars)


def chosen_cars(seed: int, round_number: int, cars: int, participation: float) -> list[int]:
    """The round's cars in ascending order, a uniform sample.

    A function of (seed, round), not of earlier rounds.
    """
    count = number_of_cars(cars, participation)
    if count == cars:
        return list(range(cars))
    draw = stream(seed, "participation", round_number).choice(cars, size=count, replace=False)
    return sorted(int(car) for car in draw)


def answering_cars(seed: int, round_number: int, chosen: Sequence[int], failures: float) -> list[int]:
    """Those of the round's cars that answer: each fails with probability `failures`, whoever else does."""
    if not failures:
        return list(chosen)
    draws = stream(seed, "car failures", round_number).random(max(chosen) + 1)
    return [car for car in chosen if draws[car] >= failures]


def place_cars(sizes: Sequence[int], ranks: int) -> list[int]:
    """The rank of every car: the largest shard first, each to the rank with least to do so far."""
    load, home = [0] * ranks, [0] * len(sizes)
    for car in sorted(range(len(sizes)), key=lambda car: (-sizes[car], car)):
        home[car] = min(range(ranks), key=lambda rank: (load[rank], rank))
        load[home[car]] += sizes[car]
    return home
