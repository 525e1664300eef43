"""Which cars take part in a round: a pure function of (seed, round), so every rank draws the same."""

from fedsim.seeds import stream


def chosen_cars(seed: int, round_number: int, cars: int, participation: float) -> list[int]:
    """The round's cars in ascending order: a uniform sample of participation * cars of them, at least one."""
    count = max(1, round(participation * cars))
    if count == cars:
        return list(range(cars))
    draw = stream(seed, "participation", round_number).choice(cars, size=count, replace=False)
    return sorted(int(car) for car in draw)
