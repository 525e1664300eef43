"""Who takes part in a round."""

import pytest

from fedsim.participation import chosen_cars


def rounds(count: int, cars: int = 10, share: float = 0.3, seed: int = 0) -> list[list[int]]:
    return [chosen_cars(seed, number, cars, share) for number in range(1, count + 1)]


@pytest.mark.parametrize(("cars", "share", "count"), [
    (10, 0.3, 3), (5, 0.5, 2), (7, 0.5, 4), (10, 1.0, 10), (10, 0.96, 10), (3, 0.01, 1), (1, 0.5, 1)])
def test_the_share_is_rounded_to_whole_cars_and_never_to_none(cars, share, count):
    """Twenty rounds. Catches a car that is drawn twice."""
    for chosen in rounds(20, cars, share):
        assert len(chosen) == count and chosen == sorted(set(chosen)) and set(chosen) <= set(range(cars))


def test_a_round_draws_the_same_cars_whatever_was_drawn_before():
    """Catches a generator with a state."""
    assert rounds(8)[4:] == [chosen_cars(0, number, 10, 0.3) for number in (5, 6, 7, 8)]


def test_rounds_and_seeds_draw_differently():
    assert len({tuple(chosen) for chosen in rounds(20)}) > 10
    assert rounds(20) != rounds(20, seed=1)


def test_every_car_takes_part_equally_often():
    """2,000 rounds of 3 in 10: 600 each, standard deviation 20. Catches a draw that favours low numbers."""
    drawn = rounds(2000)
    counts = [sum(car in chosen for chosen in drawn) for car in range(10)]
    assert all(500 < count < 700 for count in counts), counts
