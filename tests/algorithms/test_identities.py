"""What the papers promise, on quadratics with known minimisers, played through the real loop.

Each test names a mutation of the algorithm that it was seen to catch. The mutations that live in public code are
kept here as classes, and the tests assert that they are caught.
"""

import math
from dataclasses import dataclass, replace

import pytest
import scenery
import torch
from federations import altered
from quadratics import Bowl, bowls, federation, minimiser, play, shares

from fedsim.algorithms import FedADMM, FedAvg, LocalOnly
from fedsim.algorithms.fedadmm import Memory
from fedsim.federation.learning_rate import Curve
from fedsim.federation.rounds import initial_state, run_round

HALF = 0.4  # of five cars: two a round
BOTH = pytest.mark.parametrize("participation", [1.0, HALF], ids=["all-cars", "two-of-five"])
WEIGHTINGS = pytest.mark.parametrize("weighting", ["uniform", "images"])
UNEQUAL = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class MessageFromTheta(FedADMM):
    """The change is measured from theta instead of the car's stored vector: 2 (w - theta)."""

    def contribute(self, local, shared, memory):
        _, new = super().contribute(local, shared, memory)
        return 2 * (local.w - shared.theta), new


@dataclass(frozen=True)
class ServerStepOne(FedADMM):
    """The server step is 1 whoever took part."""

    def update(self, shared, mean, participation):
        return super().update(shared, mean, 1.0)


@dataclass(frozen=True)
class ForgottenDual(FedADMM):
    """Every round starts from y = 0."""

    def contribute(self, local, shared, memory):
        change, new = super().contribute(local, shared, memory)
        return change, new._replace(y=torch.zeros_like(new.y))


@dataclass(frozen=True)
class PenaltyWithoutGradient(FedADMM):
    """The penalty never reaches the weights."""

    def correction(self, w, shared, memory):
        return None


@dataclass(frozen=True)
class DualNotRebased(FedADMM):
    """When the penalty changes, y / rho is taken for what was sent before."""

    def contribute(self, local, shared, memory):
        return super().contribute(local, shared, memory._replace(rho=shared.rho))


def invariant_gap(made, state) -> float:
    """‖theta - Σ p_i (w_i + y_i / rho_i)‖ over all cars, those that sat out included."""
    p = torch.tensor(made.fleet.weights, dtype=torch.float64) / made.fleet.total_weight
    memories = [made.memory(state, car) for car in range(len(made.fleet.cars))]
    augmented = sum(p[car] * (memory.w + memory.y / memory.rho) for car, memory in enumerate(memories))
    return float(torch.linalg.vector_norm(state.shared.theta - augmented))


def worst_invariant_gap(algorithm, participation, weighting=None, rounds=30, cosine=False) -> float:
    made = federation(algorithm, bowls(images=UNEQUAL), participation=participation, weighting=weighting,
                      cosine=cosine, rounds=rounds)
    state, worst = initial_state(made), 0.0
    for _ in range(rounds):
        state = run_round(made, state).state
        worst = max(worst, invariant_gap(made, state))
    return worst


def distance(state, point) -> float:
    return float(torch.linalg.vector_norm(state.shared.theta - point))


@BOTH
@WEIGHTINGS
def test_theta_is_the_mean_of_augmented_models_after_every_round(participation, weighting):
    """Identity 10. Catches MessageFromTheta, and with part of the cars ServerStepOne."""
    assert worst_invariant_gap(FedADMM(rho=1.0), participation, weighting) < 1e-11


@BOTH
def test_theta_stays_the_mean_of_augmented_models_while_the_penalty_follows_the_learning_rate(participation):
    """Identity 10 with rho_t = kappa / h_t under a cosine. Catches DualNotRebased."""
    gap = worst_invariant_gap(FedADMM(), participation, rounds=20, cosine=True)
    assert gap < 1e-11


@pytest.mark.parametrize(("wrong", "participation"), [
    (MessageFromTheta(rho=1.0), 1.0), (MessageFromTheta(rho=1.0), HALF), (ServerStepOne(rho=1.0), HALF),
    (ForgottenDual(rho=1.0), 1.0)])
def test_known_wrong_messages_and_server_steps_break_the_invariant(wrong, participation):
    """The invariant would notice: what public code gets wrong is at least a hundredth off within 30 rounds."""
    assert worst_invariant_gap(wrong, participation) > 1e-2


def test_a_dual_that_is_not_rebased_breaks_the_invariant():
    assert worst_invariant_gap(DualNotRebased(), 1.0, rounds=20, cosine=True) > 1e-2


@BOTH
@WEIGHTINGS
def test_fedadmm_reaches_the_minimiser(participation, weighting):
    """Identity 14. Catches every class above but DualNotRebased."""
    cars = bowls(images=UNEQUAL)
    made = federation(FedADMM(rho=1.0), cars, participation=participation, weighting=weighting)
    assert distance(play(made, 800), minimiser(cars, weighting)) < 1e-8


@pytest.mark.parametrize("wrong", [MessageFromTheta, ServerStepOne, ForgottenDual, PenaltyWithoutGradient])
def test_known_wrong_variants_miss_the_minimiser(wrong):
    cars = bowls()
    made = federation(wrong(rho=1.0), cars, participation=HALF)
    missed = distance(play(made, 800), minimiser(cars))
    assert missed > 1e-2 or math.isnan(missed)


@BOTH
def test_fedadmm_with_local_momentum_reaches_the_minimiser(participation):
    """The dual uses w - theta, which vanishes at the solution whatever solver got there."""
    cars = bowls()
    made = federation(FedADMM(), cars, participation=participation, momentum=0.9, lr=0.01)
    assert distance(play(made, 1500), minimiser(cars)) < 1e-8


@WEIGHTINGS
def test_fedavg_settles_at_its_biased_fixed_point(weighting):
    """Closed form: theta* = (Σ p_i M_i A_i)⁻¹ Σ p_i M_i A_i b_i, M_i = lr Σ_k (I - lr A_i)^k.

    Catches weights that are not normalised, a mean over the wrong cars, a step too few.
    """
    cars, steps, lr = bowls(images=UNEQUAL), 5, 0.05
    p, eye = shares(cars, weighting), torch.eye(4, dtype=torch.float64)
    left, right = torch.zeros(4, 4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for i, car in enumerate(cars):
        progress = lr * sum(torch.linalg.matrix_power(eye - lr * car.matrix, k) for k in range(steps))
        left += p[i] * progress @ car.matrix
        right += p[i] * progress @ car.matrix @ car.centre
    state = play(federation(FedAvg(), cars, steps=steps, lr=lr, weighting=weighting), 1000)
    assert distance(state, torch.linalg.solve(left, right)) < 1e-10
    assert distance(state, minimiser(cars, weighting)) > 1e-2, "FedAvg's drift is real on this problem"


def test_one_fedavg_car_is_centralised_gradient_descent_to_the_bit():
    """Identity 4. Catches a server step other than 1 and a mean that rounds."""
    car, lr = bowls(1)[0], 0.05
    w = torch.zeros(4, dtype=torch.float64)
    for _ in range(10 * 5):
        w = w.add(car.gradient(w), alpha=-lr)
    assert torch.equal(play(federation(FedAvg(), [car], steps=5, lr=lr), 10).shared.theta, w)


def test_single_fedavg_steps_of_all_cars_are_gradient_descent_on_the_pool():
    """Identity 5. Catches uniform weights in the place of n_i."""
    cars, lr = bowls(images=UNEQUAL), 0.05
    p, theta = shares(cars, "images"), torch.zeros(4, dtype=torch.float64)
    for _ in range(20):
        theta = theta - lr * sum(p[i] * car.gradient(theta) for i, car in enumerate(cars))
    assert distance(play(federation(FedAvg(), cars, steps=1, lr=lr), 20), theta) < 1e-12


def test_the_first_round_of_fedadmm_is_fedprox_with_server_step_two():
    """Identity 8. Catches a dual updated twice, and a change without its dual part."""
    cars, rho, lr = bowls(), 1.0, 0.05
    theta, moves = torch.ones(4, dtype=torch.float64), []
    for car in cars:
        w = theta.clone()
        for _ in range(5):
            w = w - lr * (car.gradient(w) + rho * (w - theta))
        moves.append(w - theta)
    made = federation(FedADMM(rho=rho), cars, lr=lr, theta=theta)
    assert distance(play(made, 1), theta + 2 * sum(moves) / len(moves)) < 1e-12


def test_a_dual_is_minus_the_gradient_after_an_exact_local_solve():
    """Identity 12. Catches a sign or a factor in dual or penalty."""
    cars = bowls()
    state = play(federation(FedADMM(rho=1.0), cars, steps=2000, participation=HALF), 6)
    for i, memory in state.memories.items():
        assert torch.linalg.vector_norm(memory.y + cars[i].gradient(memory.w)) < 1e-10


def test_the_recorded_mean_dual_is_that_of_all_cars():
    """Catches a mean over the round's cars alone."""
    made = federation(FedADMM(rho=1.0), bowls(images=UNEQUAL), participation=HALF, weighting="images")
    state = initial_state(made)
    for _ in range(8):
        result = run_round(made, state)
        state = result.state
        p = shares(list(made.fleet.scenes.values()), "images")
        mean = sum(p[car] * made.memory(state, car).y for car in range(5))
        assert result.residuals.mean_dual == pytest.approx(float(torch.linalg.vector_norm(mean)), abs=1e-11)


def test_the_mean_dual_is_the_penalty_times_the_move_of_the_mean_local_model():
    """Identity 13, all cars: Σ p_i y_i = rho (w̄ - w̄ before). Catches the duals' sign."""
    made = federation(FedADMM(rho=2.0), bowls())
    before = play(made, 3)
    after = play(made, 1, before)
    move = sum(made.memory(after, car).w - made.memory(before, car).w for car in range(5)) / 5
    assert torch.linalg.vector_norm(sum(made.memory(after, car).y for car in range(5)) / 5 - 2.0 * move) < 1e-12


def test_nothing_moves_from_the_solution():
    """Fixed point: theta at the minimiser, every dual minus its car's gradient there."""
    cars = bowls()
    solution = minimiser(cars)
    made = federation(FedADMM(rho=1.0), cars, theta=solution)
    duals = {i: Memory(solution, -car.gradient(solution), 1.0) for i, car in enumerate(cars)}
    assert distance(play(made, 20, replace(initial_state(made), memories=duals)), solution) < 1e-12


@pytest.mark.parametrize("algorithm", [FedAvg(), FedADMM(rho=1.0), FedADMM()], ids=["avg", "admm", "admm-auto"])
class TestEveryAlgorithm:
    def test_a_round_repeats_to_the_bit_and_changes_nothing_it_was_given(self, algorithm):
        """Catches any in-place write into theta, a memory or a dual."""
        made = federation(algorithm, bowls(), participation=HALF)
        state = play(made, 3)
        assert torch.equal(play(made, 5, state).shared.theta, play(made, 5, state).shared.theta)

    def test_a_car_that_sits_out_keeps_its_memory(self, algorithm):
        made = federation(algorithm, bowls(), participation=HALF)
        state = play(made, 5)
        result = run_round(made, state)
        for car in set(range(5)) - set(result.reports):
            assert made.memory(result.state, car) is made.memory(state, car)

    def test_identical_cars_are_one_car(self, algorithm):
        """Identity 15. Catches weights that do not add up to 1."""
        car = bowls(1)[0]
        many = play(federation(algorithm, [car] * 5), 20)
        assert distance(play(federation(algorithm, [car]), 20), many.shared.theta) < 1e-12

    def test_a_car_twice_is_a_car_of_double_weight(self, algorithm):
        """Identity 15, two cars of one image against one of two."""
        first, second = bowls(2)
        twice = play(federation(algorithm, [first, first, second], weighting="images"), 20)
        double = federation(algorithm, [replace(first, images=2), second], weighting="images")
        assert distance(play(double, 20), twice.shared.theta) < 1e-12

    def test_the_order_of_cars_changes_no_bit(self, algorithm):
        """Identity 16, and promise 2: sums are exact."""
        cars = bowls(images=UNEQUAL)
        forward, backward = (play(federation(algorithm, order), 20) for order in (cars, cars[::-1]))
        assert torch.equal(forward.shared.theta, backward.shared.theta)

    def test_the_unit_of_weights_does_not_matter(self, algorithm):
        """Identity 16. Catches weights that are not normalised over the round's cars."""
        cars = bowls(images=UNEQUAL)
        tripled = [replace(car, images=3 * car.images) for car in cars]
        one, other = (play(federation(algorithm, some, weighting="images", participation=HALF), 20)
                      for some in (cars, tripled))
        assert distance(one, other.shared.theta) < 1e-12


def test_cars_that_never_communicate_reach_their_own_minimisers():
    """Catches a local start at theta."""
    cars: list[Bowl] = bowls()
    made = federation(LocalOnly(), cars)
    state = play(made, 400)
    for i, car in enumerate(cars):
        assert torch.linalg.vector_norm(made.memory(state, i) - car.centre) < 1e-8


def test_the_invariant_holds_in_float32_on_a_segnet_with_half_of_the_cars_and_a_moving_penalty():
    """Identity 10 where it matters: unequal cars, BatchNorm, momentum. Catches what float64 would forgive."""
    made = scenery.federation(FedADMM(), [5, 4, 3, 2], local=scenery.training(momentum=0.9), weighting="uniform")
    made = altered(made, participation=0.5, curve=Curve("cosine"), rounds=12)
    state = initial_state(made)
    for _ in range(12):
        state = run_round(made, state).state
        assert invariant_gap(made, state) < 1e-5 * float(torch.linalg.vector_norm(state.shared.theta))
    assert len({made.memory(state, car).rho for car in range(4)}) > 1, "the penalties never differed"
