"""Server optimisers, one step of each by hand.

Each test names a mutation that it was seen to catch. Whole trajectories and fixed points are in test_contract.py.
"""

import math
from dataclasses import fields

import pytest
import scenery
import torch
from federations import altered

from fedsim.algorithms import FedAvg
from fedsim.algorithms.server_optimizers import SERVER_OPTIMIZERS, FedAdagrad, FedAdam, FedAvgM, FedYogi, Plain
from fedsim.federation.rounds import initial_state, run_round

THETA = torch.tensor([1.0, -2.0, 0.5, 8.0], dtype=torch.float64)
MOVES = [[0.3, -0.004, 0.0, 2.0], [-0.1, 0.006, 0.02, 2.0], [0.0, 0.0, 0.0, -1.0]]  # D of three rounds
STEP, BETA1, BETA2, TAU = 0.1, 0.9, 0.99, 0.01
ADAPTIVE = {"server_step": STEP, "server_tau": TAU}
EVERY = pytest.mark.parametrize("name", SERVER_OPTIMIZERS)


def steps(optimizer, theta=THETA, moves=MOVES) -> list[list[float]]:
    """theta after every round."""
    state, found = optimizer.init_state(theta), []
    for move in moves:
        theta, state = optimizer.step(theta, theta + torch.tensor(move, dtype=torch.float64), state)
        found.append(theta.tolist())
    return found


def by_hand(second_moment, beta1) -> list[list[float]]:
    """Algorithm 2 of Reddi et al. 2021, number by number; v as a function of v and D²."""
    theta, m, v, found = THETA.tolist(), [0.0] * 4, [TAU**2] * 4, []
    for move in MOVES:
        for i, change in enumerate(move):
            m[i] = beta1 * m[i] + (1 - beta1) * change
            v[i] = second_moment(v[i], change**2)
            theta[i] += STEP * m[i] / (math.sqrt(v[i]) + TAU)
        found.append(list(theta))
    return found


def test_momentum_adds_the_whole_move():
    """v = D, then beta v + D. Catches the factor 1 - beta, a sign, and Nesterov's look ahead."""
    found, theta, velocity = steps(FedAvgM(server_step=STEP, server_momentum=BETA1)), THETA.tolist(), [0.0] * 4
    for after, move in zip(found, MOVES, strict=True):
        velocity = [BETA1 * v + change for v, change in zip(velocity, move, strict=True)]
        theta = [t + STEP * v for t, v in zip(theta, velocity, strict=True)]
        assert after == pytest.approx(theta, abs=1e-14)
    assert found[0] == pytest.approx([1.03, -2.0004, 0.5, 8.2], abs=1e-14)


def test_adagrad_adds_squares_to_tau_squared_and_has_no_first_moment():
    """Catches v from 0, tau inside the root, and a beta1 that is not 0."""
    found = steps(FedAdagrad(**ADAPTIVE))
    for after, expected in zip(found, by_hand(lambda v, square: v + square, 0.0), strict=True):
        assert after == pytest.approx(expected, abs=1e-13)
    assert found[0][0] == pytest.approx(1 + 0.1 * 0.3 / (math.sqrt(0.0001 + 0.09) + 0.01), abs=1e-14)


def test_adam_has_no_bias_correction():
    """The first step is (1 - beta1) D over sqrt(beta2 tau² + (1 - beta2) D²) + tau.

    Catches a correction, v from 0, tau inside the root, betas in each other's place, and |D| in the place of D².
    """
    found = steps(FedAdam(**ADAPTIVE, server_momentum=BETA1, server_beta2=BETA2))
    expected = by_hand(lambda v, square: BETA2 * v + (1 - BETA2) * square, BETA1)
    for after, theirs in zip(found, expected, strict=True):
        assert after == pytest.approx(theirs, abs=1e-13)
    assert found[0][3] == pytest.approx(8 + 0.1 * 0.1 * 2 / (math.sqrt(0.99 * 0.0001 + 0.01 * 4) + 0.01), abs=1e-14)


def test_yogi_moves_v_towards_the_square_by_a_share_of_the_square():
    """Up where D² is over v, down where it is under it, by (1 - beta2) D² either way. Catches its sign, and Adam's."""
    yogi = FedYogi(**ADAPTIVE, server_momentum=BETA1, server_beta2=BETA2)
    expected = by_hand(lambda v, square: v - (1 - BETA2) * square * (1 if v > square else -1 if v < square else 0),
                       BETA1)
    for after, theirs in zip(steps(yogi), expected, strict=True):
        assert after == pytest.approx(theirs, abs=1e-13)
    _, state = yogi.step(THETA, THETA + torch.tensor(MOVES[0], dtype=torch.float64), yogi.init_state(THETA))
    assert state.v.tolist() == pytest.approx(
        [TAU**2 + 0.01 * 0.09, TAU**2 - 0.01 * 0.004**2, TAU**2, TAU**2 + 0.01 * 4], abs=1e-16)


@pytest.mark.parametrize("kind", [FedAdagrad, FedAdam, FedYogi])
def test_v_starts_at_tau_squared_and_m_at_zero(kind):
    """So that a coordinate that does not move is hardly scaled: Algorithm 2 asks for v >= tau². Catches v from 0."""
    state = kind(server_tau=0.3).init_state(THETA.float())
    assert state.v.tolist() == pytest.approx([0.09] * 4, abs=1e-16) and state.m.tolist() == [0.0] * 4
    assert state.v.dtype == state.m.dtype == torch.float64


def test_a_plain_step_of_one_is_the_proposal_to_the_bit():
    """Of a float32 theta as well, and of numbers that theta + (p - theta) would round. Catches just that."""
    theta = torch.tensor([1e8, -3.0, 1e-20, 0.1])
    proposed = torch.tensor([1e-9, 1 / 3, 1e20, 0.1 + 1e-17], dtype=torch.float64)
    after, state = Plain(1.0).step(theta, proposed, None)
    assert torch.equal(after, proposed) and after.dtype == torch.float64 and state is None
    assert not torch.equal(theta + (proposed - theta), proposed), "it would"
    half, _ = Plain(0.5).step(THETA, THETA + 1, None)
    assert half.tolist() == pytest.approx([1.5, -1.5, 1.0, 8.5])


@EVERY
def test_state_goes_in_and_comes_out(name):
    """Nothing is written in place, and vectors are float64. Catches an in-place step."""
    optimizer = SERVER_OPTIMIZERS[name]()
    theta, proposed = THETA.float(), THETA + 0.25
    state = optimizer.init_state(theta)
    kept = [tensor.clone() for tensor in ([state] if isinstance(state, torch.Tensor) else state)]
    first, after = optimizer.step(theta, proposed, state)
    again, _ = optimizer.step(theta, proposed, state)
    assert first.dtype == torch.float64 and torch.equal(first, again) and not torch.equal(first, theta.double())
    assert all(torch.equal(was, now)
               for was, now in zip(kept, [state] if isinstance(state, torch.Tensor) else state, strict=True))
    assert torch.equal(theta, THETA.float()) and torch.equal(proposed, THETA + 0.25) and after is not state


WRONG = {"server_step": [0.0, -1.0, math.inf, math.nan], "server_tau": [0.0, -1e-3, math.inf, math.nan],
         "server_momentum": [-0.1, 1.0, math.nan], "server_beta2": [-0.1, 1.0, math.nan]}
RIGHT = {"server_step": [1e-9, 2.0], "server_tau": [1e-9, 10.0], "server_momentum": [0.0, 0.999],
         "server_beta2": [0.0, 0.999]}


@pytest.mark.parametrize("kind", [Plain, *SERVER_OPTIMIZERS.values()])
def test_a_value_out_of_range_is_refused_by_name(kind):
    """Catches a field that is not checked, in a subclass above all, and nan let through."""
    assert fields(kind)
    for field in fields(kind):
        for value in WRONG[field.name]:
            with pytest.raises(ValueError, match=f"^{field.name} is {value}"):
                kind(**{field.name: value})
        for value in RIGHT[field.name]:
            assert getattr(kind(**{field.name: value}), field.name) == value


def test_a_server_optimiser_never_touches_statistics():
    """After a round with Adam or momentum, those pooled from the cars' training are a plain server's, to the bit.

    theta is not. Catches statistics that the server steps along with theta.
    """
    states = []
    for server in (Plain(), FedAdam(), FedAvgM(server_step=3.0)):
        made = altered(scenery.federation(FedAvg(), [3, 1, 2], batchnorm="pooled"), server=server)
        states.append(run_round(made, initial_state(made)).state)
    plain, *others = states
    for other in others:
        assert torch.equal(other.norms.statistics, plain.norms.statistics)
        assert not torch.equal(other.shared.theta, plain.shared.theta)
    kept = others[0].server
    assert kept.m.numel() == kept.v.numel() == plain.shared.theta.numel()
