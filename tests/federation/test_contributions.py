"""What a car sends: taken apart, put together, shortened.

Each test names a mutation that it was seen to catch.
"""

import math
from typing import NamedTuple

import pytest
import torch
from quadratics import UNEQUAL, bowls, federation, play, reports
from scenery import on_ranks

from fedsim.algorithms import ALGORITHMS, FedNova
from fedsim.algorithms.fednova import Contribution as Direction
from fedsim.algorithms.scaffold import Contribution as Pair
from fedsim.federation.bundles import from_tensors, to_tensors
from fedsim.federation.contributions import clip, move_by, move_norm
from fedsim.federation.rounds import initial_state, run_round

FEDERATED = {name: kind() for name, kind in ALGORITHMS.items() if not (kind.personal or kind.pooled)}
EVERY = pytest.mark.parametrize("name", FEDERATED)
MODELS = pytest.mark.parametrize("sends_model", [False, True], ids=["difference", "model"])
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


class Mixed(NamedTuple):
    """Floats between vectors."""

    first: torch.Tensor
    count: float
    second: torch.Tensor
    share: float


def vector(seed: int, dtype=torch.float32, size: int = 50) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def length(of: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(of.double()))


def test_a_tensor_is_its_only_part():
    """Catches a tensor taken for a tuple of its rows."""
    sent = vector(1)
    parts = to_tensors(sent)
    assert len(parts) == 1 and parts[0] is sent and from_tensors(parts, sent) is sent


def test_a_named_tuple_comes_back_with_its_vectors_and_floats():
    """To the bit. Catches floats in float32, whose third does not come back, and parts in another order."""
    sent = Mixed(vector(1), 1 / 3, vector(2, torch.float64), 1e300)
    parts = to_tensors(sent)
    assert [(part.ndim, part.dtype) for part in parts] == [
        (1, torch.float32), (0, torch.float64), (1, torch.float64), (0, torch.float64)]
    back = from_tensors(parts, sent)
    assert type(back) is Mixed and type(back.count) is float and type(back.share) is float
    assert back.first is sent.first and back.second is sent.second and (back.count, back.share) == (1 / 3, 1e300)


@EVERY
def test_what_every_algorithm_sends_comes_back(name):
    """And begins with a vector, whose move is 0 where the car did not move. Catches a wrong `sends_model`."""
    made = federation(FEDERATED[name], bowls(), theta=torch.ones(4, dtype=torch.float64))
    like = made.contribution_like
    back = from_tensors(to_tensors(like), like)
    assert type(back) is type(like)
    assert all(torch.equal(torch.as_tensor(one), torch.as_tensor(other))
               for one, other in zip(to_tensors(back), to_tensors(like), strict=True))
    assert move_norm(like, made.model.theta, made.method.algorithm.sends_model) == 0


@MODELS
@TYPES
def test_within_the_bound_nothing_changes(dtype, sends_model):
    """The very object. Catches a contribution that goes through theta + (w - theta) although it is short."""
    theta, sent = vector(1, dtype), vector(2, dtype)
    norm = length(sent - theta if sends_model else sent)
    for bound in (norm * 1.0001, 1e30, math.inf):
        assert clip(sent, theta, sends_model, bound) is sent
    assert clip(sent, theta, sends_model, norm * 0.9999) is not sent


def test_a_move_of_just_the_bound_is_left_alone():
    """Catches < for <=."""
    sent = torch.tensor([3.0, 4.0])
    assert clip(sent, torch.zeros(2), False, 5.0) is sent


@MODELS
@TYPES
@pytest.mark.parametrize("bound", [1e-3, 0.5, 3.0])
def test_a_longer_move_ends_at_the_bound_and_keeps_its_direction(dtype, sends_model, bound):
    """Catches a model that is shrunk towards 0 instead of theta, and a bound on its own norm."""
    theta, sent = vector(1, dtype), vector(2, dtype)
    move = sent - theta if sends_model else sent
    after = clip(sent, theta, sends_model, bound)
    after = after - theta if sends_model else after
    rounding = torch.finfo(dtype).eps * length(theta) * 2
    assert after.dtype == dtype and abs(length(after) - bound) <= max(rounding, bound * rounding)
    torch.testing.assert_close(after, move * (bound / length(move)), rtol=1e-5, atol=2 * rounding)


@MODELS
def test_a_car_that_did_not_move_is_left_alone(sends_model):
    """Catches a division by a norm of 0."""
    theta = vector(1)
    sent = theta.clone() if sends_model else torch.zeros_like(theta)
    assert clip(sent, theta, sends_model, 1e-30) is sent


def test_all_vectors_shrink_by_one_factor_and_numbers_stay():
    """Catches a second vector that is clipped by its own norm, left as it is, or taken for a model."""
    theta, sent = vector(1, torch.float64), Pair(vector(2, torch.float64), 7 * vector(3, torch.float64))
    for sends_model in (False, True):
        factor = 0.5 / length(sent.move - theta if sends_model else sent.move)
        after = clip(sent, theta, sends_model, 0.5)
        torch.testing.assert_close(after.control, factor * sent.control, rtol=1e-14, atol=0)
    long = Pair(vector(2) * 1e-3, vector(3) * 1e6)
    assert clip(long, theta.float(), False, 0.5) is long, "the bound is on the first vector alone"
    nova = clip(Direction(vector(2), 0.3), theta.float(), False, 0.5)
    assert nova.step_length == 0.3 and length(nova.direction) == pytest.approx(0.5)


def test_fednovas_move_is_its_direction_times_its_length():
    """Through the loop: no round moves theta by more than the bound. Catches a bound on the direction alone."""
    made = federation(FedNova(), bowls(), clip_norm=0.05, momentum=0.9)
    state = initial_state(made)
    for _ in range(5):
        result = run_round(made, state)
        assert result.step <= 0.05 * (1 + 1e-9)
        state = result.state
    free = federation(FedNova(), bowls(), momentum=0.9)
    assert run_round(free, initial_state(free)).step > 0.05


def test_huge_moves_are_shortened_too():
    """The squares of 1e25 are beyond float32. Catches a norm in float32: the move would become 0."""
    sent = torch.full((100,), 1e25)
    assert length(clip(sent, torch.zeros(100), False, 2.0)) == pytest.approx(2.0)


def test_what_is_not_finite_stays_so():
    """So that it is refused where it is added. Catches nan and inf clipped to something that looks sound."""
    for bad in (math.nan, math.inf):
        sent = torch.tensor([1.0, bad, 2.0])
        assert not bool(clip(sent, torch.zeros(3), False, 0.5).isfinite().all())


def test_a_change_of_the_move_is_one_of_every_vector():
    """Catches a change applied to the model instead of its move, and to numbers."""
    theta = vector(1, torch.float64)
    sent = Mixed(vector(2, torch.float64), 5.0, vector(3, torch.float64), 0.25)
    for sends_model in (False, True):
        after = move_by(sent, theta, sends_model, lambda move: -2 * move)
        first = theta - 2 * (sent.first - theta) if sends_model else -2 * sent.first
        assert torch.equal(after.first, first) and torch.equal(after.second, -2 * sent.second)
        assert (after.count, after.share) == (5.0, 0.25)


@EVERY
def test_a_bound_that_is_never_reached_is_none_to_the_bit(name):
    """Through 8 rounds with part of the cars. Catches a clip that rounds what it leaves alone."""
    thetas = [play(federation(FEDERATED[name], bowls(images=UNEQUAL), participation=0.6, clip_norm=bound), 8).shared
              for bound in (None, 1e30, math.inf)]
    assert torch.equal(thetas[1].theta, thetas[0].theta) and torch.equal(thetas[2].theta, thetas[0].theta)


@EVERY
def test_a_bound_that_is_reached_matters_and_repeats_on_any_number_of_ranks(name):
    """1 and 3 ranks to the bit. Catches a bound that depends on the rank, and one that is forgotten."""
    def theta(world):
        made = federation(FEDERATED[name], bowls(images=UNEQUAL), participation=0.6, clip_norm=0.3, world=world)
        return play(made, 6).shared.theta

    alone, = on_ranks(1, theta)
    assert all(torch.equal(there, alone) for there in on_ranks(3, theta))
    free = play(federation(FEDERATED[name], bowls(images=UNEQUAL), participation=0.6), 6).shared.theta
    assert float((alone - free).abs().max()) > 1e-2


@pytest.mark.parametrize("name", ["avg", "prox", "scaffold"])
@pytest.mark.parametrize("participation", [1.0, 0.4], ids=["all-cars", "two-of-five"])
@pytest.mark.parametrize("bound", [0.05, 0.3])
def test_no_round_moves_theta_by_more_than_the_bound(name, participation, bound):
    """The first does by just that if there is one car. Catches a bound on the model, and one for each coordinate."""
    keys = {"clip_norm": bound, "theta": torch.full((4,), 4.0, dtype=torch.float64)}
    made = federation(FEDERATED[name], bowls(images=UNEQUAL), participation=participation, **keys)
    state = initial_state(made)
    for _ in range(30):
        result = run_round(made, state)
        assert 0 < result.step <= bound * (1 + 1e-12)
        state = result.state
    alone = federation(FEDERATED[name], bowls(1), **keys)
    assert run_round(alone, initial_state(alone)).step == pytest.approx(bound, rel=1e-12)


def test_what_a_car_reports_and_keeps_is_not_clipped():
    """Its drift is the one of its training. Catches memories made from what was sent."""
    for name in ("scaffold", "admm", "dyn"):
        free, bound = (federation(FEDERATED[name], bowls(), clip_norm=norm) for norm in (None, 0.01))
        results = [run_round(made, initial_state(made)) for made in (free, bound)]
        assert reports(results[0]) == reports(results[1])
        for car in range(5):
            ours, theirs = (to_tensors(made.memory(result.state, car))
                            for made, result in zip((free, bound), results, strict=True))
            assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
