"""What combines contributions: known answers, identities, and the same bits however cars are spread over ranks.

Identities are asked of everything in AGGREGATORS: a new rule joins by being registered. Every test names a mutation
that it was seen to catch.
"""

from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import SOLO, on_ranks

from fedsim.aggregation import AGGREGATORS, GeometricMedian, Krum, Mean, Median, MultiKrum, TrimmedMean, stored
from fedsim.aggregation.rows import make_rows as usual_rows
from fedsim.aggregation.rules import krum_scores
from fedsim.errors import RunError

RULES = {name: made() for name, made in AGGREGATORS.items()}
ROBUST = [name for name, rule in RULES.items() if rule.robust]
WEIGHTED = ("mean", "geometric-median")  # others must not look at weights
EVERY = pytest.mark.parametrize("name", list(RULES))
WEIGHTS = [5, 1, 4, 2, 3, 6, 1]


def together(rule, contributions, weights=None, world=SOLO, owners=None, folder=None):
    """What a rule makes of contributions, each a list of parts."""
    owners = owners or [0] * len(contributions)
    gathering = rule.gather([torch.empty_like(part) for part in contributions[0]], owners, len(owners), world, folder)
    for slot, parts in enumerate(contributions):
        if owners[slot] == world.rank:
            gathering.add(slot, parts, weights[slot] if weights else 1)
    return gathering.combine()


def combined(rule, rows, weights=None):
    """The same for vectors alone, (n, d)."""
    (result,), _ = together(rule, [[row] for row in torch.as_tensor(rows)], weights)
    return result


def cloud(n=7, d=5, seed=0, dtype=torch.float64):
    """(n, d) vectors in general position: no two distances are equal."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def close(result, expected, tolerance=1e-9):
    torch.testing.assert_close(result, torch.as_tensor(expected, dtype=torch.float64), rtol=0, atol=tolerance)


def exact_geometric_median(rows, weights=None, steps=400):
    """Weiszfeld's iteration with 150 digits."""
    with localcontext(prec=150):
        points = [[Decimal(x) for x in row] for row in rows.tolist()]
        q = [Decimal(w) for w in weights or [1] * len(points)]
        z = [sum(column) / len(points) for column in zip(*points, strict=True)]
        for _ in range(steps):
            apart = [sum((a - b) ** 2 for a, b in zip(z, point, strict=True)).sqrt() for point in points]
            beta = [w / a for w, a in zip(q, apart, strict=True)]
            z = [sum(b * x for b, x in zip(beta, column, strict=True)) / sum(beta)
                 for column in zip(*points, strict=True)]
        return [float(x) for x in z]


# --- identities, of every rule


@EVERY
def test_a_shift_of_all_contributions_shifts_the_result(name):
    """Catches weights of the geometric median that do not add up to 1."""
    rows, shift = cloud(), 1000 * cloud(1, seed=1)[0]
    close(combined(RULES[name], rows + shift, WEIGHTS), combined(RULES[name], rows, WEIGHTS) + shift)


@EVERY
def test_a_scale_of_all_contributions_scales_the_result(name):
    """By powers of two, so to the bit. Catches a smallest distance of a fixed size."""
    rows = cloud(dtype=torch.float32)
    for scale in (2.0**-60, 2.0**60):
        assert torch.equal(combined(RULES[name], rows * scale, WEIGHTS), combined(RULES[name], rows, WEIGHTS) * scale)


@EVERY
@given(st.integers(0, 999), st.permutations(range(21)))
@settings(max_examples=20)
def test_the_order_of_contributions_changes_no_bit(name, seed, order):
    """Catches a sum over cars in the order of slots, or by torch.sum, and inner products by a matrix product."""
    rows, weights = cloud(21, seed=seed, dtype=torch.float32), 3 * WEIGHTS
    shuffled = combined(RULES[name], rows[list(order)], [weights[slot] for slot in order])
    assert torch.equal(shuffled, combined(RULES[name], rows, weights))


@EVERY
def test_the_sign_of_a_zero_is_forgotten(name):
    """-0.0 and 0.0 may be sorted either way. Catches a median that depends on it."""
    rows = torch.tensor([[-0.0], [0.0], [-0.0], [0.0], [-0.0], [0.0], [-0.0]])
    for some in (rows, rows.flip(0), rows[:6], rows[::2]):
        if len(some) >= RULES[name].minimum(7):
            assert not combined(RULES[name], some).signbit().any()


@EVERY
def test_equal_contributions_are_returned(name):
    """Catches a division by the distance to oneself."""
    row = cloud(1, dtype=torch.float32)
    result = combined(RULES[name], row.repeat(7, 1), WEIGHTS)
    assert torch.equal(result.float(), row[0])
    close(result, row[0].double(), 1e-15)


@EVERY
def test_a_single_contribution_is_returned_to_the_bit_where_one_is_enough(name):
    """Catches a median that takes the slot after the middle."""
    if RULES[name].minimum(1) == 1:
        row = cloud(1, dtype=torch.float32)
        assert torch.equal(combined(RULES[name], row, [3]), row[0].double())
    else:
        with pytest.raises(AssertionError, match="are needed"):
            combined(RULES[name], cloud(RULES[name].minimum(9) - 1))


@EVERY
def test_weights_count_only_where_the_rule_says_so(name):
    """Catches a trimmed mean weighted by what cars report of themselves."""
    rows = cloud()
    same = torch.equal(combined(RULES[name], rows, WEIGHTS), combined(RULES[name], rows))
    assert same == (name not in WEIGHTED)


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("size", [3e38, 1e15, 1e6])
def test_a_far_contribution_moves_the_result_no_further_than_the_others_lie_apart(name, size):
    """Two of seven lie far off, in float32. Catches the mean, and weights of all slots the same."""
    rows = 1000 + 1e-3 * cloud(d=50, dtype=torch.float32)
    rows[2], rows[5] = size, -size
    rule = {"krum": Krum(2), "multi-krum": MultiKrum(2), "trimmed-mean": TrimmedMean(0.3)}.get(name, RULES[name])
    close(combined(rule, rows), torch.full((50,), 1000.0), 5e-3)


@EVERY
def test_the_greatest_float32_overflows_nowhere(name):
    """Four of seven at one end, so that every rule's result is on their side. Catches distances in float32."""
    rows = torch.full((7, 3), 3e38) * torch.tensor([-1, 1, 1, -1, 1, -1, 1])[:, None]
    result = combined(RULES[name], rows)
    assert result.isfinite().all() and (result > 0).all()


# --- ranks, blocks, parts, files


def spread(name, ranks, owners, folder=None):
    """What the coordinator gets of contributions with every kind of part, and all ranks' sum of weights."""
    draw = cloud(7, 41, dtype=torch.float32)
    contributions = [[row[:20], row[20:40] - 3, row[40].double()] for row in draw]
    contributions[3][1][:] = -0.0
    contributions[4][1][:] = 0.0
    everyone = on_ranks(ranks, lambda world: together(RULES[name], contributions, WEIGHTS, world, owners, folder))
    assert [weight for _, weight in everyone] == [sum(WEIGHTS)] * ranks
    return everyone[0][0]


@EVERY
@pytest.mark.parametrize("block", [2**21, 33])
def test_the_number_of_ranks_and_files_change_no_bit(name, block, monkeypatch, tmp_path):
    """A rank owns several slots, one, or none. Catches rows in the order of ranks, and blocks cut by a rank's rows."""
    monkeypatch.setattr(stored, "BLOCK", block)
    alone = spread(name, 1, [0] * 7)
    assert [part.shape for part in alone] == [(20,), (20,), ()]
    assert all(part.dtype == torch.float64 for part in alone)
    for ranks, owners, folder in [(2, [1, 0, 1, 0, 0, 1, 0], None), (3, [2, 0, 2, 2, 0, 2, 0], None),
                                  (3, [1] * 7, None), (2, [0, 1, 1, 0, 1, 0, 1], tmp_path)]:
        parts = spread(name, ranks, owners, folder)
        for part, expected in zip(parts, alone, strict=True):
            assert torch.equal(part, expected) and torch.equal(part.signbit(), expected.signbit())
    assert not list(tmp_path.iterdir())


@EVERY
def test_more_blocks_than_one_make_no_difference(name, monkeypatch):
    """Catches distances of the last block alone, and a block beyond the end."""
    one = spread(name, 1, [0] * 7)
    monkeypatch.setattr(stored, "BLOCK", 33)
    for part, expected in zip(spread(name, 1, [0] * 7), one, strict=True):
        close(part, expected, 1e-12)


@EVERY
def test_the_coordinator_never_holds_more_than_a_block(name, monkeypatch):
    """Catches whole contributions gathered at once, and Krum's choice found among all of them gathered again."""
    monkeypatch.setattr(stored, "BLOCK", 700)
    numbers = []

    def act(world):
        usual = world.gather
        world.gather = lambda tensor: numbers.append(tensor.numel()) or usual(tensor)
        return together(RULES[name], [[row] for row in cloud(7, 5000)], None, world, [0, 1, 1, 0, 1, 0, 1])

    on_ranks(2, act)
    passes = {"mean": 0, "median": 1, "trimmed-mean": 1, "krum": 1 + 1 / 4, "multi-krum": 2,
              "geometric-median": 3}
    assert max(numbers, default=0) <= 700
    if name in passes:  # of four rows, the most of a rank
        assert sum(numbers) <= passes[name] * 2 * 4 * 5000


@EVERY
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_contribution_that_is_not_finite_is_refused_and_every_rank_raises(name, place, bad):
    """Catches a look at part 0 alone, and ranks that go on when another has refused."""
    def act(world):
        contributions = [[row[:2].clone(), row[2:4].clone(), row[4].clone()] for row in cloud()]
        gathering = RULES[name].gather(contributions[0], [0, 1, 0, 1, 0, 1, 0], 7, world, None)
        contributions[3][place].view(-1)[-1] = bad
        fine = [gathering.add(slot, contributions[slot], 1) for slot in range(7) if slot % 2 == world.rank]
        assert fine == ([True] * 4 if world.rank == 0 else [True, False, True])
        gathering.combine()

    results = on_ranks(2, act)
    assert [str(error) for error in results] == ["1 contribution(s) are not finite; nothing was averaged"] * 2
    assert all(isinstance(error, RunError) for error in results)


def test_a_contribution_that_never_came_is_noticed():
    """Catches a row of zeros in its place."""
    gathering = Median().gather([torch.zeros(2)], [0, 0, 0], 3, SOLO, None)
    gathering.add(0, [torch.ones(2)], 1)
    with pytest.raises(AssertionError, match="1 contributions of 3"):
        gathering.combine()


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_what_was_kept_is_given_back_however_it_ends(name, value, monkeypatch):
    """Catches rows closed by nobody, or only if all contributions are finite."""
    made, closed = [], []

    def make_rows(*arguments):
        made.append(usual_rows(*arguments))
        close = made[-1].close
        made[-1].close = lambda: closed.append(close())
        return made[-1]

    monkeypatch.setattr(stored, "make_rows", make_rows)
    if value == 1.0:
        combined(RULES[name], torch.full((7, 2), value))
    else:
        with pytest.raises(RunError):
            combined(RULES[name], torch.full((7, 2), value))
    assert len(made) == len(closed) == 1


# --- the mean


def test_the_mean_weighs_and_is_zero_without_weights():
    """Catches a division by the number of cars."""
    assert combined(Mean(), [[1.0, 2.0], [4.0, -1.0]], [2, 1]).tolist() == [2.0, 1.0]
    parts, weight = Mean().gather([torch.zeros(2), torch.zeros((), dtype=torch.float64)], [], 0, SOLO, None).combine()
    assert [part.tolist() for part in parts] == [[0.0, 0.0], 0.0] and weight == 0


# --- coordinatewise


def test_the_median_of_an_even_number_is_the_mean_of_the_two_in_the_middle():
    """Catches torch.median, which takes the lower one."""
    assert combined(Median(), [[3.0], [1.0], [10.0], [2.0]]).tolist() == [2.5]
    assert combined(Median(), [[3.0, -1.0], [1.0, 7.0], [10.0, 0.0]]).tolist() == [3.0, 0.0]


@pytest.mark.parametrize(("fraction", "n", "dropped"), [
    (0.2, 5, 1), (0.2, 4, 0), (0.2, 9, 1), (0.29, 100, 29), (3 / 7, 7, 3), (0.1, 30, 3), (0.0, 3, 0), (0.49, 5, 2),
    (0.4999999999999, 2, 0)])
def test_the_trimmed_mean_drops_the_floor_of_its_fraction_at_each_end(fraction, n, dropped):
    """Catches int(fraction * n), which makes 28 of 0.29 * 100, and its rounding up until nothing is left."""
    squares = [float(i * i) for i in range(n)]
    kept = squares[dropped : n - dropped]
    shuffled = [[x] for x in squares[1::2] + squares[::2]]
    close(combined(TrimmedMean(fraction), shuffled), [sum(kept) / len(kept)])


def test_the_trimmed_mean_drops_as_many_whoever_answers():
    """A fifth of five cars is one car, also if three answer. Catches a fifth of three."""
    rows = [[torch.tensor([x])] for x in (1.0, 2.0, 90.0)]
    gathering = TrimmedMean(0.2).gather([torch.zeros(1)], [0, 0, 0], 5, SOLO, None)
    for slot, row in enumerate(rows):
        gathering.add(slot, row, 1)
    assert gathering.combine()[0][0].tolist() == [2.0]


@pytest.mark.parametrize(("rule", "chosen", "minimum", "withstands"), [
    (Mean(), 5, 1, [0, 0, 0, 0, 0]), (Median(), 5, 3, [1, 1, 2]), (Median(), 2, 2, [0]), (GeometricMedian(), 1, 1, [0]),
    (GeometricMedian(), 4, 3, [1, 1]), (TrimmedMean(0.2), 5, 3, [1, 1, 1]), (TrimmedMean(0.2), 4, 1, [0, 0, 0, 0]),
    (TrimmedMean(0.4), 5, 5, [2]), (TrimmedMean(0.49), 2, 1, [0, 0]), (Krum(1), 6, 4, [0, 1, 1]),
    (MultiKrum(2), 7, 5, [0, 0, 2])])
def test_every_rule_says_how_many_answers_it_needs_and_what_it_withstands(rule, chosen, minimum, withstands):
    """With each number of answers from the minimum on. Catches a median of two, and Krum's theorem for four."""
    assert rule.minimum(chosen) == minimum
    assert [rule.withstands([7] * answers, chosen) for answers in range(minimum, chosen + 1)] == withstands


def test_the_geometric_median_withstands_less_than_half_of_the_weight():
    """Catches a number of cars: 3 of these 7 are more than half."""
    assert [GeometricMedian().withstands(weights, 9) for weights in ([5, 1, 4, 2, 3, 6, 1], [9, 1, 1], [2, 1, 1])
            ] == [1, 0, 0]


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_the_trimmed_mean_lies_between_mean_and_median(n):
    """Trimming nothing is the mean, all but the middle the median. Catches one trimmed at the lower end alone."""
    rows = cloud(n)
    close(combined(TrimmedMean(0.0), rows), rows.mean(0))
    assert torch.equal(combined(TrimmedMean(0.499), rows), combined(Median(), rows))


@pytest.mark.parametrize("fraction", [-0.1, 0.5, 1.0, float("nan")])
def test_a_fraction_that_leaves_nothing_is_refused(fraction):
    """Catches < for <=."""
    with pytest.raises(ValueError, match="fraction is"):
        TrimmedMean(fraction)


# --- Krum


def test_krum_and_multi_krum_by_hand():
    """On a line, five cars, one hostile: each looks at its two nearest others.

    Scores: 0 -> 1 + 9 = 10; 1 -> 1 + 4 = 5; 3 -> 4 + 9 = 13; 7 -> 16 + 36 = 52; 100 -> 93² + 97². Catches distances
    that aren't squared (of 0 and 1 then 4 and 3, of 3 then 5), one's own among the nearest, and n - f nearest.
    """
    rows = [[7.0], [0.0], [3.0], [100.0], [1.0]]
    assert combined(Krum(1), rows).tolist() == [1.0]
    close(combined(MultiKrum(1), rows), [0.5])
    close(combined(MultiKrum(0), rows), [4 / 3])


def test_krum_squares_distances():
    """The nearest two of 0 are 3 and 3 away, those of 110 are 1 and 4.5. Catches distances that aren't squared."""
    rows = [[110.0], [0.0], [3.0], [-3.0], [111.0], [105.5]]
    assert combined(Krum(2), rows).tolist() == [0.0]


def test_krum_takes_the_lowest_slot_of_equals():
    """Catches a sort that isn't stable, and the last of equals."""
    rows = [[5.0], [1.0], [0.0], [1.0], [0.0]]
    assert combined(Krum(2), rows).tolist() == [1.0]
    many = torch.tensor([[0.0], [1.0]]).repeat(50, 1)
    assert combined(Krum(60), many.flip(0)).tolist() == [1.0]
    close(combined(MultiKrum(60), many), [19 / 38])


def test_krum_sees_differences_far_smaller_than_what_vectors_have_in_common():
    """Float32 near 1000, 1e-3 apart. Catches ‖x‖² + ‖y‖² - 2 x·y in float32."""
    draw, far = cloud(6, 2000, dtype=torch.float32), 4
    rows = 1000 + 1e-3 * draw * torch.tensor([1.0, 1.2, 0.9, 1.1, 6.0, 0.5])[:, None]
    gaps = rows.double()[:, None] - rows.double()
    squared = gaps.square().sum(2)
    scores = [sum(sorted(row)[1:4]) for row in squared.tolist()]
    assert min(scores) == scores[5] and max(scores) == scores[far]
    assert torch.equal(combined(Krum(1), rows), rows[5].double())
    norms = rows.square().sum(1)
    careless = norms[:, None] + norms - 2 * rows @ rows.T
    assert (careless.double() - squared).abs().max() > 0.1 * squared.max()


def test_krum_chooses_by_part_0_and_takes_all_parts_of_its_choice():
    """Catches part 0 read in the place of another, and numbers in the place of weights."""
    firsts = [7.0, 0.0, 3.0, 100.0, 1.0]
    contributions = [[torch.tensor([x]), torch.tensor([10 * x]), torch.tensor(-x, dtype=torch.float64)]
                     for x in firsts]
    parts, weight = together(Krum(1), contributions, [1, 2, 3, 4, 5])
    assert [part.flatten().tolist() for part in parts] == [[1.0], [10.0], [-1.0]] and weight == 15
    parts, _ = together(MultiKrum(1), contributions)
    close(torch.stack([part.flatten()[0] for part in parts]), [0.5, 5.0, -0.5])


@pytest.mark.parametrize("rule", [Krum, MultiKrum])
def test_krum_knows_how_many_it_needs(rule):
    """Catches n - hostile - 2 clamped to 1."""
    assert (rule(2).minimum(9), rule(2).guaranteed) == (5, 7)
    assert combined(rule(2), cloud(5)).isfinite().all()
    with pytest.raises(AssertionError, match="4 contributions, of which 5 are needed"):
        combined(rule(2), cloud(4))
    with pytest.raises(ValueError, match="needs 5 contributions, not 4"):
        krum_scores(torch.zeros(4, 4, dtype=torch.float64), 2)
    with pytest.raises(ValueError, match="hostile is -1"):
        rule(-1)


# --- the geometric median


@pytest.mark.parametrize("weights", [None, [2, 3, 1, 2, 2]], ids=["equal", "weighted"])
@pytest.mark.parametrize("seed", range(4))
def test_the_geometric_median_to_150_digits(seed, weights):
    """Catches a stop when the cost changes by 1e-6, and q left out."""
    rows = cloud(5, 3, seed)
    close(combined(GeometricMedian(), rows, weights), exact_geometric_median(rows, weights), 1e-11)


@pytest.mark.parametrize("size", [1e3, 1e9, 1e20, 1e38])
def test_the_geometric_median_beside_a_far_contribution_to_150_digits(size):
    """Catches the iteration on squared distances, which forget the direction of what is far."""
    rows = cloud(5, 3)
    rows[1] *= size
    close(combined(GeometricMedian(), rows), exact_geometric_median(rows), 1e-11)


def test_unit_vectors_to_the_contributions_balance_at_the_geometric_median():
    """Catches distances to the medoid in the place of those to z."""
    rows = cloud(9, 200)
    gaps = rows - combined(GeometricMedian(), rows)
    assert torch.linalg.vector_norm((gaps / gaps.norm(dim=1, keepdim=True)).mean(0)) < 1e-9


@pytest.mark.parametrize("at", [0.5, 0.1, 1e-6])
def test_of_three_on_a_line_the_geometric_median_is_the_middle_one(at):
    """Catches Weiszfeld's iteration alone, which only comes near a contribution."""
    start, way = cloud(1, 8)[0], cloud(1, 8, seed=1)[0]
    rows = torch.stack([start, start + way, start + at * way])
    close(combined(GeometricMedian(), rows), rows[2])


def test_a_contribution_with_half_of_the_weight_is_the_geometric_median():
    """To the bit, and spread over copies too. Catches copies that don't hold together, and a mean of copies."""
    rows = cloud(4, 50)
    assert torch.equal(combined(GeometricMedian(), rows, [1, 1, 4, 1]), rows[2])
    for copies in ([0, 2, 1, 2, 2], [0, 2, 1, 2, 2, 2, 3]):
        assert torch.equal(combined(GeometricMedian(), rows[copies]), rows[2])


@pytest.mark.parametrize(("gap", "tolerance"), [(1e-2, 1e-9), (1e-4, 1e-9), (-1e-2, 1e-9), (-1e-3, 1e-4)])
def test_close_to_where_a_contribution_becomes_the_geometric_median(gap, tolerance):
    """An isosceles triangle's apex is the median from 120 degrees on. Catches 500 steps.

    Below, the median is where its sides are seen at 120 degrees; steps are few where that is next to the apex.
    """
    half = torch.tensor(torch.pi / 3 + gap, dtype=torch.float64)
    rows = torch.stack([torch.zeros(2, dtype=torch.float64), torch.stack([half.cos(), half.sin()]),
                        torch.stack([half.cos(), -half.sin()])])
    fermat = max(0.0, float(half.cos() - half.sin() / 3**0.5))
    close(combined(GeometricMedian(), rows), [fermat, 0.0], tolerance)


@pytest.mark.parametrize("rows", [
    [[0.0, 0.0], [1.0, 0.0]], [[0.0], [1.0], [3.0], [10.0]],
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]], ids=["two", "line", "triangle", "square"])
def test_equally_good_contributions_share_the_geometric_median(rows):
    """To the bit whatever their order. Catches the first of those with the least cost."""
    middle = {2: [0.5, 0.0], 3: [1 / 3] * 3}.get(len(rows), [2.0] if len(rows[0]) == 1 else [0.0, 0.0])
    result = combined(GeometricMedian(), rows)
    close(result, middle)
    assert torch.equal(result, combined(GeometricMedian(), rows[::-1]))
