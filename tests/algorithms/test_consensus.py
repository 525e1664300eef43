"""FedADMM with the dual step after theta, and with penalties of cars: what their derivations promise, on quadratics.

Trajectories, exactness with part of the cars, failures and momentum, ranks and bytes are in test_contract.py.
"""

from dataclasses import replace

import pytest
import scenery
import torch
from federations import altered
from quadratics import UNEQUAL, bowls, federation, minimiser, play, shares
from scenery import on_ranks

from fedsim.algorithms import ConsensusFedADMM, FedADMM, FedProx, PerCarFedADMM
from fedsim.algorithms.fedadmm import Memory
from fedsim.algorithms.fedadmm_consensus import Contribution
from fedsim.federation.measuring import measure_statistics
from fedsim.federation.rounds import initial_state, norms_per_weight, run_round
from fedsim.federation.scoring import mean_of_cars, score
from fedsim.losses.criterion import Criterion

HALF = 0.4  # of five cars: two a round
VARIANTS = pytest.mark.parametrize("algorithm", [
    ConsensusFedADMM(rho=1.0), PerCarFedADMM(), PerCarFedADMM(dual_step="after")], ids=["after", "per-car", "both"])


def unequal_steps(algorithm, cars, **keys):
    """Make a federation whose cars take as many steps as they have images; every batch is the whole f_i."""
    made = federation(algorithm, cars, steps=1, **keys)
    return altered(made, training=replace(made.training, batch_size=1))


def apart(state, point) -> float:
    return float(torch.linalg.vector_norm(state.shared.theta - point))


def same(one, other, rounds=12, tolerance=1e-12) -> bool:
    states = [initial_state(one), initial_state(other)]
    for _ in range(rounds):
        states = [run_round(made, state).state for made, state in zip((one, other), states, strict=True)]
        if apart(states[0], states[1].shared.theta) > tolerance:
            return False
    return True


@pytest.mark.parametrize("algorithm", [ConsensusFedADMM(), PerCarFedADMM(dual_step="after")], ids=["after", "both"])
def test_with_all_cars_the_duals_add_up_to_nothing_and_theta_is_a_mean_of_local_vectors(algorithm):
    """Σ p_i y_i = 0 after every dual step and theta = Σ p_i rho_i w_i / Σ p_i rho_i, whatever the steps and rates.

    Catches a dual step with the penalty of the round that begins, and the theta of Gong's order.
    """
    cars = bowls(images=UNEQUAL)
    made = unequal_steps(algorithm, cars, cosine=True, rounds=20, weighting="images")
    p, state = shares(cars, "images"), initial_state(made)
    for _ in range(20):
        state = run_round(made, state).state
        held = [made.memory(state, car) for car in range(5)]
        weights = [p[car] * memory.rho for car, memory in enumerate(held)]
        mean = sum(weight * memory.w for weight, memory in zip(weights, held, strict=True)) / sum(weights)
        assert apart(state, mean) < 1e-12
        duals = [algorithm.receive(state.shared, memory, 1.0)[1].y for memory in held]
        assert float(sum(p[car] * dual for car, dual in enumerate(duals)).abs().max()) < 1e-12
        assert float(max(dual.abs().max() for dual in duals)) > 1e-2, "the cars agree anyway"


@pytest.mark.parametrize("participation", [1.0, HALF])
def test_the_first_round_is_fedproxs_whoever_takes_part(participation):
    """Its theta is the mean of the round's local vectors: no gain of 2, and no weight of cars that were never met.

    Catches unknown cars that hold theta back at its start.
    """
    keys = {"participation": participation, "weighting": "images"}
    one, other = federation(ConsensusFedADMM(rho=1.0), bowls(images=UNEQUAL), **keys), federation(
        FedProx(mu=1.0), bowls(images=UNEQUAL), **keys)
    assert same(one, other, rounds=1) and not same(one, other, rounds=2, tolerance=1e-3)


def test_identical_cars_never_need_a_dual_so_the_order_after_theta_is_fedprox_at_any_kappa():
    """No momentum of 1 - kappa: all rounds agree. In Gong's order theta swings about that trajectory."""
    cars = [bowls(1)[0]] * 3
    for rho in (0.01, 1.0):
        assert same(federation(ConsensusFedADMM(rho=rho), cars), federation(FedProx(mu=rho), cars), rounds=30)
        assert not same(federation(FedADMM(rho=rho), cars), federation(FedProx(mu=rho), cars), tolerance=1e-2)


def test_penalties_of_cars_with_equal_steps_are_the_common_penalty():
    """With all cars, either order. Under a cosine too, because all penalties change together."""
    keys = {"cosine": True, "rounds": 12, "momentum": 0.5, "lr": 0.02}
    for one, other in ((PerCarFedADMM(), FedADMM()), (PerCarFedADMM(dual_step="after"), ConsensusFedADMM())):
        assert same(federation(one, bowls(), **keys), federation(other, bowls(), **keys), tolerance=1e-11)
    cars = bowls(images=UNEQUAL)
    assert not same(unequal_steps(PerCarFedADMM(), cars), unequal_steps(FedADMM(), cars), tolerance=1e-3)


@pytest.mark.parametrize("keys", [{}, {"participation": 0.6, "car_failures": 0.3}], ids=["all-cars", "part"])
@VARIANTS
def test_cars_of_unequal_steps_reach_the_minimiser(algorithm, keys):
    """One to five steps by a car's number of images, weighted by images. Catches theta as a plain mean of w + y/rho_i,
    whose fixed point is where Σ p_i grad f_i / rho_i = 0: half a unit away.
    """
    cars = bowls(images=UNEQUAL)
    made = unequal_steps(algorithm, cars, lr=0.15, weighting="images", **keys)
    assert apart(play(made, 800), minimiser(cars, "images")) < 1e-9


@VARIANTS
def test_nothing_moves_from_the_solution(algorithm):
    """w_i = theta, y_i = -grad f_i(theta), and any penalties. Catches a dual step that a late car takes twice."""
    cars = bowls()
    solution = minimiser(cars)
    made = federation(algorithm, cars, theta=solution, participation=HALF)
    state = initial_state(made)
    duals = {i: Memory(solution, -car.gradient(solution), 1.0 + i) for i, car in enumerate(cars)}
    state = replace(state, memories=duals, shared=state.shared._replace(mean_rho=3.0))
    assert apart(play(made, 20, state), solution) < 1e-12


@pytest.mark.parametrize("participation", [1.0, HALF])
def test_the_recorded_mean_dual_is_that_of_all_cars_and_the_guard_ignores_what_rounding_leaves(participation):
    """With all cars it is a rounding error of 0, whose jumps are no divergence; with part of them it is not.

    Catches the change of a dual since `receive`, and a guard that watches rounding errors.
    """
    cars = bowls(images=UNEQUAL)
    made = federation(ConsensusFedADMM(), cars, participation=participation, weighting="images")
    p, state = shares(cars, "images"), initial_state(made)
    for number in range(20):
        result = run_round(made, state)
        state = result.state
        mean = float(torch.linalg.vector_norm(sum(p[car] * made.memory(state, car).y for car in range(5))))
        assert result.residuals.mean_dual == pytest.approx(mean, abs=1e-12)
        watched = norms_per_weight(made, result)[1]
        assert watched == 0 if participation == 1 else watched > 0 or number < 2


def test_the_server_step_is_never_longer_than_the_rounds_own_mean():
    """A robust rule's medians of penalties need not belong together, and their sum could fall to 0.

    Catches a sum of penalties without its least value.
    """
    algorithm, theta = ConsensusFedADMM(rho=1.0), torch.zeros(2)
    shared = algorithm.init_shared(theta)._replace(mean_rho=0.5)
    after = algorithm.update(shared, Contribution(theta + 3, rho=1.0, rho_before=2.0), participation=0.5)
    assert torch.equal(after.theta, theta + 3) and after.mean_rho == 0.5


def test_clipping_bounds_what_a_contribution_moves():
    """`unit`: theta moves by (w - theta) if one car has all the weight. Catches a bound on rho (w - theta)."""
    car = bowls(1)
    for algorithm in (ConsensusFedADMM(rho=0.01), PerCarFedADMM(dual_step="after"), ConsensusFedADMM(rho=5.0)):
        made = federation(algorithm, car)
        free = run_round(made, initial_state(made)).step
        made = federation(algorithm, car, clip_norm=free / 2)
        assert run_round(made, initial_state(made)).step == pytest.approx(free / 2)


MESSY = {"participation": 0.6, "car_failures": 0.3, "epochs": (1, 5), "weighting": "images", "cosine": True,
         "rounds": 20}


@pytest.mark.parametrize("algorithm", [FedADMM(score_mean=True), ConsensusFedADMM(score_mean=True)])
def test_the_mean_of_the_cars_vectors_is_over_those_met_on_any_number_of_ranks(algorithm):
    """With failures and penalties that change. Catches weights over all cars, and the vectors of one rank alone."""
    def means(world):
        made, found = federation(algorithm, bowls(images=UNEQUAL), world=world, **MESSY), []
        state = initial_state(made)
        assert mean_of_cars(made, state) is None
        for _ in range(6):
            state = run_round(made, state).state
            found.append((mean_of_cars(made, state), {car: made.memory(state, car).w for car in state.memories}))
        return found

    (alone,), partial = on_ranks(1, means), 0
    for number, (mean, held) in enumerate(alone):
        weights = {car: UNEQUAL[car] for car in held}
        expected = sum(weights[car] * w for car, w in held.items()) / sum(weights.values())
        assert float((mean - expected).abs().max()) < 1e-12
        partial += len(held) < 5
        assert all(torch.equal(there[number][0], mean) for there in on_ranks(2, means))
    assert partial, "all cars were met at once"
    for plain in (FedADMM(), FedProx()):
        made = federation(plain, bowls())
        assert mean_of_cars(made, play(made, 2)) is None


def test_the_mean_of_cars_is_scored_with_statistics_of_its_own():
    """In consensus order with all cars it is theta, so the scores agree; in Gong's order they differ.

    Catches a mean that is scored with the statistics of theta, and a score of theta twice.
    """
    eval_set, criterion = scenery.scene_set(4, seed=5), Criterion(torch.ones(scenery.CLASSES))
    for algorithm, agree in ((ConsensusFedADMM(score_mean=True), True), (FedADMM(score_mean=True), False)):
        made = scenery.federation(algorithm, [4, 4], weighting="uniform")
        state = measure_statistics(made, play(made, 3))
        found = score(made, state, eval_set, criterion)
        assert (abs(found.mean_of_cars.loss - found.overall.loss) < 1e-4) == agree
        plain = score(altered(made, algorithm=FedADMM()), state, eval_set, criterion)
        assert plain.mean_of_cars is None and plain.overall == found.overall
