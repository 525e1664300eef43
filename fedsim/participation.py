"""Which cars take part in a round, and on which rank each is played: pure functions, the same on every rank."""

from collections.abc import Sequence

from fedsim.seeds import stream


def chosen_cars(seed: int, round_number: int, cars: int, participation: float) -> list[int]:
    """The round's cars in ascending order: a uniform sample of participation * cars of them, at least one.

    A function of (seed, round), not of earlier rounds.
    """
    count = max(1, round(participation * cars))
    if count == cars:
        return list(range(cars))
    draw = stream(seed, "participation", round_number).choice(cars, size=count, replace=False)
    return sorted(int(car) for car in draw)


def place_cars(sizes: Sequence[int], ranks: int) -> list[int]:
    """The rank of every car: the largest shard first, each to the rank with least to do so far."""
    load, home = [0] * ranks, [0] * len(sizes)
    for car in sorted(range(len(sizes)), key=lambda car: (-sizes[car], car)):
        home[car] = min(range(ranks), key=lambda rank: (load[rank], rank))
        load[home[car]] += sizes[car]
    return home
