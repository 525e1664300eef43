"""Sums over cars are exact, so nobody can tell in which order or on which rank cars were added."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratics import SOLO

from fedsim.aggregation.exact_sum import ExactSum
from fedsim.errors import RunError

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
CONTRIBUTIONS = st.lists(st.tuples(FLOATS, FLOATS, st.integers(1, 10_000)), min_size=1, max_size=12)


def total(contributions, dtype=torch.float32) -> torch.Tensor:
    made = ExactSum(torch.zeros(len(contributions[0]) - 1, dtype=dtype))
    for *numbers, weight in contributions:
        made.add(torch.tensor(numbers, dtype=dtype), weight)
    return made.total(SOLO)[0]


@given(CONTRIBUTIONS, st.randoms())
def test_order_never_matters_to_the_bit(contributions, shuffler):
    """Catches a plain float64 sum, and digits that are not carried before they are rounded."""
    shuffled = list(contributions)
    shuffler.shuffle(shuffled)
    assert torch.equal(total(contributions), total(shuffled))


@given(CONTRIBUTIONS)
def test_the_sum_is_exact_but_for_its_last_rounding(contributions):
    """Error bound: a few units in the last place of float64, whatever cancels. Catches a lost digit."""
    for column, value in enumerate(total(contributions).tolist()):
        exact = sum(Fraction(row[column]) * row[-1] for row in contributions)
        assert abs(Fraction(value) - exact) <= abs(exact) * Fraction(1, 2**50)


@pytest.mark.parametrize("beside", [0.0, 1.0, 2.0**127])
def test_a_power_of_two_of_every_size_survives_alone_and_beside_others(beside):
    """Catches a scale beyond float32's range, which turned 1e-33 into 1e-21."""
    for exponent in range(-149, 128):
        assert total([(2.0**exponent, beside, 3)]).tolist() == [3 * 2.0**exponent, 3 * beside], exponent


@given(CONTRIBUTIONS, st.integers(0, 12))
def test_parts_on_two_ranks_add_up_to_the_whole(contributions, cut):
    """What each rank sends are whole numbers, so a sum over ranks is exact too."""

    class Pair:
        """A world of two whose other rank has already spoken."""

        def __init__(self, heard):
            self.heard = iter(heard)

        def sum_(self, tensor):
            tensor += next(self.heard)

    def speak(contributions, numbers=None):
        made, spoken = ExactSum(torch.zeros(2)), []

        class Recorder:
            def sum_(self, tensor):
                spoken.append(tensor.clone())
                if numbers is not None and tensor.numel() > 2:
                    tensor[2:] = numbers

        for *row, weight in contributions:
            made.add(torch.tensor(row), weight)
        made.total(Recorder())
        return made, spoken

    first, second = contributions[:cut], contributions[cut:]
    used = sum(speak(part)[1][0][2:] for part in (first, second))
    world = Pair(speak(second, used)[1])
    assert torch.equal(speak(first)[0].total(world)[0], total(contributions))


def test_huge_and_tiny_numbers_survive_each_other():
    huge, tiny = 3.0e38, 1.0e-45
    value = total([(huge, 1.0, 1), (tiny, -1.0, 1), (-huge, 2.0**-60, 1)])
    assert value.tolist() == [float(torch.tensor(tiny)), 2.0**-60]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_contribution_that_is_not_finite_is_refused_and_nothing_is_averaged(bad):
    made = ExactSum(torch.zeros(2))
    made.add(torch.ones(2), 1)
    made.add(torch.tensor([bad, 0.0]), 1)
    with pytest.raises(RunError, match="not finite"):
        made.total(SOLO)


def test_the_mean_of_one_is_that_one_to_the_bit():
    vector = torch.randn(10_000) * 10.0 ** torch.randint(-12, 12, (10_000,))
    made = ExactSum(vector)
    made.add(vector, 367)
    summed, weight = made.total(SOLO)
    assert torch.equal((summed / weight).float(), vector)


def test_a_sum_holds_few_vectors_however_many_are_added():
    made = ExactSum(torch.zeros(1000))
    draw = torch.Generator().manual_seed(0)
    for _ in range(200):
        made.add(0.05 * torch.randn(1000, generator=draw), 100)
    assert len(made.digits) <= 3


@settings(max_examples=20)
@given(st.integers(1, 2**23))
def test_an_empty_vector_and_any_weight_are_fine(weight):
    made = ExactSum(torch.zeros(2, 0))
    made.add(torch.zeros(2, 0), weight)
    assert made.total(SOLO)[1] == weight
