"""Sums over cars are exact, so nobody can tell in which order or on which rank cars were added."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import SOLO, on_ranks

from fedsim.aggregation import exact_sum
from fedsim.aggregation import totals as over_ranks
from fedsim.aggregation.exact_sum import ExactSum
from fedsim.aggregation.totals import totals
from fedsim.errors import RunError

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Of one size but for a few, as a model's are: most of them fit the running sum's grid, some do not.
USUAL = st.floats(2.0**-24, 4.0, width=32) | st.floats(-4.0, -(2.0**-24), width=32)
CONTRIBUTIONS = st.one_of(*(
    st.lists(st.tuples(numbers, numbers, st.integers(1, 10_000)), min_size=1, max_size=12)
    for numbers in (FLOATS, USUAL, st.one_of(USUAL, USUAL, FLOATS))))


def summed(contributions, world=SOLO, dtype=torch.float32, beside=0) -> torch.Tensor:
    """beside: how many ones stand beside every contribution's numbers, so that those are few."""
    made = ExactSum(torch.zeros(2 + beside, dtype=dtype))
    for *numbers, weight in contributions:
        made.add(torch.cat([torch.tensor(numbers, dtype=dtype), torch.ones(beside, dtype=dtype)]), weight)
    return totals([made], world)[0][0][:2]


def nearest(contributions) -> list[float]:
    """The exact sums, each rounded once."""
    return [float(sum(Fraction(row[column]) * row[-1] for row in contributions)) for column in (0, 1)]


@given(CONTRIBUTIONS, st.randoms(), st.sampled_from([0, 100, 1000]))
def test_order_never_matters_to_the_bit(contributions, shuffler, beside):
    """Catches a plain float64 sum, and digits that are not carried before they are rounded."""
    shuffled = list(contributions)
    shuffler.shuffle(shuffled)
    assert torch.equal(summed(contributions, beside=beside), summed(shuffled, beside=beside))


@settings(max_examples=400)
@given(CONTRIBUTIONS, st.sampled_from([0, 100, 1000]))
def test_the_result_is_the_exact_sum_rounded_once(contributions, beside):
    """Whatever cancels. Catches a lost digit, numbers off the grid that are added all the same, a second rounding."""
    assert summed(contributions, beside=beside).tolist() == nearest(contributions)


@given(CONTRIBUTIONS, st.randoms(), st.integers(2, 4), st.sampled_from([0, 1000]))
def test_parts_on_several_ranks_add_up_to_the_whole(contributions, shuffler, ranks, beside):
    """Ranks have running sums on grids of their own, and some have no contribution."""
    homes = [shuffler.randrange(ranks) for _ in contributions]

    def part(world):
        mine = [row for row, home in zip(contributions, homes, strict=True) if home == world.rank]
        return summed(mine, world, beside=beside)

    for total in on_ranks(ranks, part):
        assert total.tolist() == nearest(contributions)


@pytest.mark.parametrize("beside", [0.0, 1.0, 2.0**127])
def test_a_power_of_two_of_every_size_survives_alone_and_beside_others(beside):
    """Catches a scale beyond float32's range, which turned 1e-33 into 1e-21."""
    for exponent in range(-149, 128):
        assert summed([(2.0**exponent, beside, 3)]).tolist() == [3 * 2.0**exponent, 3 * beside], exponent


@pytest.mark.parametrize("beside", [0, 1000])
@pytest.mark.parametrize("first", [1.0, -(2.0**-10), 2.0**-30, 3.0e38, 1.0e-40, 0.0, -0.0])
def test_every_size_is_added_exactly_to_every_first_one(first, beside):
    """A running sum has the grid that its first contribution asked for. Whatever comes next must not be rounded."""
    first = float(torch.tensor(first))
    for exponent in range(-149, 128):
        for sign in (1, -1):
            rows = [(first, first, 100), (sign * 2.0**exponent, 0.0, 7), (-first, first, 100)]
            assert summed(rows, beside=beside).tolist() == nearest(rows), exponent


def test_huge_and_tiny_numbers_survive_each_other():
    huge, tiny = 3.0e38, 1.0e-45
    value = summed([(huge, 1.0, 1), (tiny, -1.0, 1), (-huge, 2.0**-60, 1)])
    assert value.tolist() == [float(torch.tensor(tiny)), 2.0**-60]


def test_a_tie_is_decided_by_the_smallest_number_beside_it():
    """Half a last place alone goes to even, with anything beyond it up. Catches a sum that is rounded twice."""
    for even in (2.0**30, 2.0**30 + 2.0**7):  # a last place is 2**-22
        for tiny in ([], [2.0**-60], [-(2.0**-60)], [2.0**-149], [-(2.0**-149)], [2.0**-75, -(2.0**-140)]):
            rows = [(number, -number, 1) for number in (even, 2.0**-23, *tiny)]
            assert summed(rows).tolist() == nearest(rows)


def test_a_running_sum_that_has_grown_gives_way_to_a_coarser_one():
    """Catches a running sum that grows until it rounds its grid."""
    rows = [(1.0, -1.0, 1)] * 300 + [(2.0**-47, 2.0**-47, 1)] + [(-1.0, 1.0, 1)] * 300
    assert summed(rows).tolist() == [2.0**-47, 2.0**-47]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_contribution_that_is_not_finite_is_refused_and_nothing_is_averaged(bad):
    made = ExactSum(torch.zeros(2))
    assert made.add(torch.ones(2), 1)
    assert not made.add(torch.tensor([bad, 0.0]), 1)
    with pytest.raises(RunError, match="not finite"):
        totals([made], SOLO)


def test_the_mean_of_one_is_that_one_to_the_bit():
    vector = torch.randn(10_000) * 10.0 ** torch.randint(-12, 12, (10_000,))
    made = ExactSum(vector)
    made.add(vector, 367)
    (total, weight), = totals([made], SOLO)
    assert torch.equal((total / weight).float(), vector)


@pytest.mark.parametrize("decades", [0, 3, 30])
def test_many_contributions_of_a_models_size(decades):
    """Through every way in: the running sum, what is set aside, digits."""
    draw = torch.Generator().manual_seed(decades)
    columns, made, rows = 700, ExactSum(torch.zeros(7, 100)), []
    for number in range(150):
        vector = torch.randn(columns, generator=draw) * 10.0 ** (-decades * torch.rand(columns, generator=draw))
        if number % 50 == 49:
            vector *= 1000
        rows.append((vector, 1 + number % 100))
        made.add(vector.view(7, 100), rows[-1][1])
    (total, weight), = totals([made], SOLO)
    assert weight == sum(weight for _, weight in rows)
    for column, value in enumerate(total.flatten().tolist()):
        assert value == float(sum(Fraction(float(vector[column])) * weight for vector, weight in rows))


def test_a_sum_holds_few_vectors_however_many_are_added():
    made = ExactSum(torch.zeros(1000))
    draw = torch.Generator().manual_seed(0)
    for _ in range(200):
        vector = 0.05 * torch.randn(1000, generator=draw)
        vector[:20] *= 1e-7
        made.add(vector, 100)
        assert len(made.digits.used) <= 3
        assert sum(places.numel() for places, _ in made._aside) <= 1000 / exact_sum.FEW


def test_a_sum_is_empty_once_its_total_is_known():
    """Catches numbers, weights or digits that stay behind, and a total that is overwritten by the next sum."""
    made = ExactSum(torch.zeros(2))
    found = []
    for count in (1, 2, 3):
        for number in (0.1, 2.0**-60):
            made.add(torch.tensor([number, 3.0e38 * number]), 5 * count)
        found.append(totals([made], SOLO)[0])
    for count, (total, weight) in enumerate(found, start=1):
        rows = [(float(torch.tensor(number)), float(torch.tensor(3.0e38 * number)), 5 * count)
                for number in (0.1, 2.0**-60)]
        assert (total.tolist(), weight) == (nearest(rows), 10 * count)


@settings(max_examples=20)
@given(st.integers(1, 2**23))
def test_an_empty_vector_and_any_weight_are_fine(weight):
    made = ExactSum(torch.zeros(2, 0))
    made.add(torch.zeros(2, 0), weight)
    (total, summed_weight), = totals([made], SOLO)
    assert (total.shape, summed_weight) == ((2, 0), weight)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 1000)), min_size=1, max_size=6), st.randoms())
def test_float64_scalars_in_any_order(contributions, shuffler):
    """float64 has more bits than weights leave room for; still the digits decide, not the order."""

    def scalar(rows):
        made = ExactSum(torch.tensor(0.0, dtype=torch.float64))
        for number, weight in rows:
            assert made.add(torch.tensor(number, dtype=torch.float64), weight)
        total = totals([made], SOLO)[0][0]
        assert total.shape == ()
        return float(total)

    shuffled = list(contributions)
    shuffler.shuffle(shuffled)
    exact = sum(Fraction(number) * weight for number, weight in contributions)
    error = abs(Fraction(scalar(contributions)) - exact)
    assert error <= abs(exact) * Fraction(1, 2**53) + Fraction(1, 2**120)


@pytest.mark.parametrize("together", [0, over_ranks.TOGETHER])
def test_several_sums_are_the_same_at_once_and_one_by_one(monkeypatch, together):
    """Of vectors that differ in size and magnitude, a scalar, and one without a number; on 1, 2 and 3 ranks.

    Catches parts that are cut at the wrong place, and digits of one sum that are taken for another's.
    """
    monkeypatch.setattr(over_ranks, "TOGETHER", together)
    draw = torch.Generator().manual_seed(1)
    rows = [[torch.randn(5, generator=draw), 1e-20 * torch.randn(300, generator=draw),
             torch.tensor(float(car) / 3, dtype=torch.float64), torch.zeros(2), torch.zeros(0)] for car in range(6)]

    def play(world, at_once):
        sums = [ExactSum(part) for part in rows[0]]
        for row in rows[world.rank :: world.size]:
            for one, part in zip(sums, row, strict=True):
                one.add(part, 3)
        return totals(sums, world) if at_once else [totals([one], world)[0] for one in sums]

    expected = play(SOLO, at_once=False)
    for ranks in (1, 2, 3):
        for found in on_ranks(ranks, lambda world: play(world, at_once=True)):
            assert [weight for _, weight in found] == [18] * 5
            assert all(torch.equal(one, other) and one.shape == other.shape
                       for (one, _), (other, _) in zip(found, expected, strict=True))


@pytest.mark.parametrize("larger", [1, 8, 2**26, 2**60])
def test_ranks_whose_numbers_differ_in_size_add_up_exactly(larger):
    """With full mantissas, and on every rank small numbers beside large ones, some of them at the same places.

    Catches running sums added on grids too different, and numbers set aside that are taken for another rank's.
    """
    draw = torch.Generator().manual_seed(larger % 97)
    rows = [torch.randn(1000, generator=draw) * (larger if car % 3 == 0 else 1) for car in range(6)]
    for car, row in enumerate(rows):
        row[: 30 + car : 3] *= 2.0**-40

    def play(world):
        made = ExactSum(rows[0], len(rows))
        for car, row in enumerate(rows):
            if car % 3 == world.rank:
                made.add(row, 10 + car)
        return totals([made], world)[0][0].tolist()

    exact = [float(sum(Fraction(value) * (10 + car) for car, value in enumerate(column)))
             for column in zip(*(row.tolist() for row in rows), strict=True)]
    assert on_ranks(3, play) == [exact] * 3


def test_a_vector_that_is_not_finite_stops_all_sums_on_every_rank():
    def play(world):
        sums = [ExactSum(torch.zeros(3)), ExactSum(torch.zeros(2))]
        sums[0].add(torch.ones(3), 1)
        sums[1].add(torch.full((2,), float("nan") if world.rank else 1.0), 1)
        return totals(sums, world)

    for found in on_ranks(2, play):
        assert isinstance(found, RunError) and "1 contribution(s) are not finite" in str(found)
