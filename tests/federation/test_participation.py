"""Who takes part in a round, and on which rank."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.federation.participation import answering_cars, chosen_cars, number_of_cars, place_cars


def rounds(count: int, cars: int = 10, share: float = 0.3, seed: int = 0) -> list[list[int]]:
    return [chosen_cars(seed, number, cars, share) for number in range(1, count + 1)]


@pytest.mark.parametrize(("cars", "share", "count"), [
    (10, 0.3, 3), (5, 0.5, 2), (7, 0.5, 4), (10, 1.0, 10), (10, 0.96, 10), (3, 0.34, 1), (1, 0.6, 1)])
def test_the_share_is_rounded_to_whole_cars(cars, share, count):
    """Twenty rounds. Catches a car that is drawn twice."""
    for chosen in rounds(20, cars, share):
        assert len(chosen) == count and chosen == sorted(set(chosen)) and set(chosen) <= set(range(cars))


def test_a_share_of_less_than_half_a_car_is_none():
    """Which settings refuse. Catches a silent minimum."""
    assert number_of_cars(3, 0.1) == 0 and number_of_cars(4, 0.13) == 1


def test_cars_fail_independently_and_as_often_as_told():
    """2,000 rounds of 10 cars at 0.2: four in five answer, to a fiftieth, and a car's answer is its own.

    Catches a draw that depends on how many were chosen, and failures that are counted from 1 - p.
    """
    everyone = list(range(10))
    answers = [answering_cars(0, number, everyone, 0.2) for number in range(1, 2001)]
    assert 0.78 < sum(map(len, answers)) / 20_000 < 0.82
    for number in (1, 2, 3):
        some = answering_cars(0, number, [2, 5, 7], 0.2)
        assert some == [car for car in answers[number - 1] if car in (2, 5, 7)]
    assert answering_cars(0, 1, everyone, 0.0) == everyone


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


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 8))
def test_no_rank_has_more_to_do_than_another_by_more_than_a_car(sizes, ranks):
    """Catches placement by turns, and one that forgets what a rank has already."""
    home = place_cars(sizes, ranks)
    load = [sum(size for size, rank in zip(sizes, home, strict=True) if rank == r) for r in range(ranks)]
    assert max(load) - min(load) <= max(sizes)
    if len(sizes) >= ranks:
        assert set(home) == set(range(ranks)), "a rank without a car"


def test_cars_are_placed_largest_first():
    assert place_cars([1, 2, 3, 4, 10], 2) == [1, 1, 1, 1, 0]
