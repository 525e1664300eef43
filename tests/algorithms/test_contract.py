"""What every algorithm, server optimiser and combination owes: one suite over the registries.

A new algorithm joins by being registered. Problems are heterogeneous quadratics and least squares in float64, played
through the loop that trains networks. Each test names a mutation that it was seen to catch.
"""

import copy
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import papers
import pytest
import torch
from federations import altered
from quadratics import UNEQUAL, bowls, federation, minimiser, play, regressions, shares
from scenery import on_ranks

from fedsim.aggregation import AGGREGATORS
from fedsim.algorithms import (
    ALGORITHMS,
    BalancedFedADMM,
    ConsensusFedADMM,
    FedADMM,
    FedAvg,
    FedDyn,
    FedNova,
    FedProx,
    PerCarFedADMM,
    Scaffold,
)
from fedsim.algorithms.server_optimizers import SERVER_OPTIMIZERS, FedAdam, FedAvgM, Plain
from fedsim.errors import RunError
from fedsim.federation.bundles import to_tensors
from fedsim.federation.participation import answering_cars, chosen_cars
from fedsim.federation.rounds import initial_state, run_round

# What needs an option to be tested well; everything else is as a user gets it.
OPTIONS = {"prox": FedProx(mu=0.5), "admm": FedADMM(rho=1.0), "dyn": FedDyn(alpha=1.0)}
FEDERATED = {name: OPTIONS.get(name, kind()) for name, kind in ALGORITHMS.items()
             if not (kind.personal or kind.pooled)}
FEDERATED |= {"admm-auto": FedADMM(), "admm-balanced": BalancedFedADMM(),
              "admm-own": FedADMM(rho=1.0, local_start="own"), "admm-after": ConsensusFedADMM(rho=1.0),
              "admm-after-auto": ConsensusFedADMM(local_start="own"), "admm-per-car": PerCarFedADMM(),
              "admm-per-car-after": PerCarFedADMM(dual_step="after"),
              "dyn-auto": FedDyn(), "nova-prox": FedNova(mu=0.5)}
SERVERS = {"plain": Plain(), **{name: kind() for name, kind in SERVER_OPTIMIZERS.items()}}
PAIRS = [(name, server) for name, algorithm in FEDERATED.items() for server in SERVERS
         if server == "plain" or algorithm.free_server_step]
EXACT = [name for name, algorithm in FEDERATED.items() if isinstance(algorithm, FedADMM | FedDyn | Scaffold)]
HALF = 0.4  # of five cars: two a round
BOTH = pytest.mark.parametrize("participation", [1.0, HALF], ids=["all-cars", "two-of-five"])
WEIGHTINGS = pytest.mark.parametrize("weighting", ["uniform", "images"])
EVERY = pytest.mark.parametrize("name", FEDERATED)
PROBLEMS = pytest.mark.parametrize("problem", [lambda: bowls(images=UNEQUAL), regressions],
                                   ids=["quadratics", "least-squares"])
MESSY = {"participation": 0.6, "car_failures": 0.3, "epochs": (1, 5), "weighting": "images"}


def apart(state, point) -> float:
    return float(torch.linalg.vector_norm(state.shared.theta - point))


def rounds_of(made, count: int) -> list[papers.Round]:
    """The rounds that a federation will play, as the papers' functions take them."""
    rounds = []
    for number in range(1, count + 1):
        chosen = chosen_cars(made.schedule.seed, number, len(made.fleet.cars), made.schedule.participation)
        cars = answering_cars(made.schedule.seed, number, chosen, made.schedule.car_failures)
        steps = {i: made.training.steps(made.fleet.cars[i].images, number, i) for i in range(len(made.fleet.cars))}
        rounds.append(papers.Round(cars, steps, made.schedule.learning_rate(number)))
    return rounds


def paper_of(name: str, made, rounds) -> list[np.ndarray]:
    """theta after each of the rounds, by the paper; None for those in which no car answered are left out."""
    cars = [car for _, car in sorted(made.fleet.scenes.items())]
    gradients = [lambda w, car=car: car.gradient(torch.from_numpy(w)).numpy() for car in cars]
    p = np.array(made.fleet.weights) / sum(made.fleet.weights)
    beta = made.training.optimizer.momentum
    theta = np.zeros(4)
    algorithm, server = made.method.algorithm, made.method.server

    def matched(cars, steps, lr):
        """kappa / h of the default penalty: h is the mean step length over all cars and numbers of epochs."""
        return 0.7 / np.mean([papers.unit_length(count, beta) * lr for count in made.training.work.choices(1)])

    common = (theta, gradients, p, rounds, beta)
    if not isinstance(server, Plain):
        rule = next(key for key, kind in SERVER_OPTIMIZERS.items() if type(server) is kind)
        return list(papers.fedopt(*common, rule, server.server_step, getattr(server, "server_momentum", 0.0),
                                  getattr(server, "server_beta2", 0.0), getattr(server, "server_tau", 0.0)))
    if name in ("avg", "prox"):
        return list(papers.fedprox(*common, getattr(algorithm, "mu", 0.0)))
    if isinstance(algorithm, FedNova):
        return list(papers.fednova(*common, algorithm.mu))
    if isinstance(algorithm, Scaffold):
        return list(papers.scaffold(*common))
    if isinstance(algorithm, FedDyn):
        return list(papers.feddyn(*common, algorithm.alpha))
    if isinstance(algorithm, ConsensusFedADMM):
        def penalty(car, steps, lr):
            if isinstance(algorithm, PerCarFedADMM):
                return 0.7 / (papers.unit_length(steps[car], beta) * lr)
            return algorithm.rho or matched(None, steps, lr)

        return list(papers.consensus_admm(*common, penalty, algorithm.dual_step, algorithm.local_start == "own"))
    return list(papers.fedadmm(*common, algorithm.rho or matched, algorithm.local_start == "own"))


PAPERS = [(name, "plain") for name in FEDERATED if name not in ("admm-balanced", "dyn-auto")]
PAPERS += [("avg", name) for name in SERVER_OPTIMIZERS]


@pytest.mark.parametrize("setting", ["all", "part", "messy", "momentum", "cosine"])
@PROBLEMS
@pytest.mark.parametrize(("name", "server"), PAPERS)
def test_trajectories_are_the_papers(name, server, problem, setting):
    """20 rounds against plain numpy, with part of the cars, failures, unequal steps, unequal weights and momentum.

    Catches, seen one by one: a dual or a control variate of the wrong sign, weights over all cars in the place of the
    round's, K lr in the place of a momentum step's length, steps as configured in the place of those taken, a learning
    rate by participation in the place of the round's, v starting at 0, tau inside the root, a bias correction.
    """
    keys = {"all": {}, "part": {"participation": HALF}, "messy": MESSY,
            "momentum": {"participation": HALF, "momentum": 0.8, "lr": 0.01},
            "cosine": {"participation": HALF, "cosine": True, "rounds": 20}}[setting]
    made = federation(FEDERATED[name], problem(), server=SERVERS[server], **keys)
    rounds = rounds_of(made, 20)
    expected = iter(paper_of(name, made, [one for one in rounds if one.cars]))
    state = initial_state(made)
    for one in rounds:
        before, state = state, run_round(made, state).state
        if one.cars:
            assert apart(state, torch.from_numpy(next(expected))) < 1e-11 * max(1, apart(state, torch.zeros(4)))
        else:
            assert torch.equal(state.shared.theta, before.shared.theta)


# Problem and weighting, each with the other's: half of the pairs says as much as all.
SETTINGS = pytest.mark.parametrize(("problem", "weighting"), [
    (lambda: bowls(images=UNEQUAL), "images"), (regressions, "uniform")], ids=["quadratics", "least-squares"])


@BOTH
@SETTINGS
@pytest.mark.parametrize("name", EXACT)
def test_what_promises_the_minimiser_reaches_it(name, problem, weighting, participation):
    """Identity 14. Catches a mean over the round's cars where the paper has one over all, and every sign."""
    cars = problem()
    made = federation(FEDERATED[name], cars, participation=participation, weighting=weighting, lr=0.1)
    assert apart(play(made, 250 if participation == 1 else 500), minimiser(cars, weighting)) < 1e-8


@pytest.mark.parametrize("name", EXACT)
def test_what_promises_the_minimiser_reaches_it_in_any_mixture(name):
    """Three of five cars a round, of which some fail, each with its own number of epochs, and unequal weights.

    Catches a memory that a failed car keeps, steps counted as configured, and a penalty that follows the draw.
    """
    cars = bowls(images=UNEQUAL)
    assert apart(play(federation(FEDERATED[name], cars, lr=0.1, **MESSY), 500), minimiser(cars, "images")) < 1e-6


@pytest.mark.parametrize("name", EXACT)
def test_what_promises_the_minimiser_reaches_it_with_momentum(name):
    """0.9, ten steps. Catches SCAFFOLD's division by K lr, which diverges from four steps on (D10)."""
    cars = bowls()
    made = federation(FEDERATED[name], cars, steps=10, momentum=0.9, lr=0.01, participation=HALF)
    assert apart(play(made, 500), minimiser(cars)) < 1e-6


def biased_point(cars, weighting, steps, lr, mu=0.0, normalised=False):
    """theta* = (Σ p_i M_i A_i)⁻¹ Σ p_i M_i A_i b_i, M_i = lr Σ_k (I - lr (A_i + mu I))^k, over ‖a_i‖₁ for FedNova."""
    p, eye = shares(cars, weighting), torch.eye(4, dtype=torch.float64)
    left, right = torch.zeros(4, 4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for i, car in enumerate(cars):
        progress = lr * sum(torch.linalg.matrix_power(eye - lr * (car.matrix + mu * eye), k) for k in range(steps[i]))
        weight = p[i] / papers.unit_length(steps[i], 0.0, mu, lr) if normalised else p[i]
        left += weight * progress @ car.matrix
        right += weight * progress @ car.matrix @ car.centre
    return torch.linalg.solve(left, right)


DRIFTING = pytest.mark.parametrize("name", ["avg", "prox", "nova", "nova-prox"])


def drifts_to(name, cars, weighting) -> torch.Tensor:
    algorithm = FEDERATED[name]
    return biased_point(cars, weighting, [5] * 5, 0.05, getattr(algorithm, "mu", 0.0), isinstance(algorithm, FedNova))


@SETTINGS
@DRIFTING
def test_what_drifts_settles_at_its_own_fixed_point(name, problem, weighting):
    """The closed form, away from the minimiser. Catches a proximal term twice as strong or constant."""
    cars = problem()
    state = play(federation(FEDERATED[name], cars, weighting=weighting), 250)
    assert apart(state, drifts_to(name, cars, weighting)) < 1e-8
    assert apart(state, minimiser(cars, weighting)) > 1e-2, "drift is real on this problem"


@SETTINGS
@DRIFTING
@pytest.mark.parametrize("server", SERVERS)
def test_a_server_optimiser_does_not_move_the_fixed_point(name, server, problem, weighting):
    """Nothing moves from there, and from beside it theta comes nearer. Catches a step against the move."""
    cars = problem()
    there = drifts_to(name, cars, weighting)
    keys = {"weighting": weighting, "server": SERVERS[server]}
    assert apart(play(federation(FEDERATED[name], cars, theta=there, **keys), 10), there) < 1e-9
    near = play(federation(FEDERATED[name], cars, theta=there + 1, **keys), 30)
    assert apart(near, there) < 0.8 * 2, "began at a distance of 2"


def test_fednova_keeps_the_right_weights_where_fedavg_weighs_cars_by_their_steps():
    """Cars of 1 to 5 steps, small lr: FedAvg tends to the minimiser of Σ p_i K_i f_i, FedNova to that of Σ p_i f_i."""
    cars = bowls(images=UNEQUAL)
    keys = {"steps": 1, "lr": 0.02, "weighting": "uniform"}

    def settled(algorithm):
        made = federation(algorithm, cars, **keys)
        training = replace(made.training, batch_size=1)  # as many steps as images; every batch is the whole f_i
        return play(altered(made, training=training), 150)

    by_steps = [replace(car, images=count) for car, count in zip(cars, UNEQUAL, strict=True)]
    assert apart(settled(FedNova()), minimiser(cars)) < 0.2
    assert apart(settled(FedAvg()), minimiser(by_steps, "images")) < 0.2
    assert apart(settled(FedAvg()), minimiser(cars)) > 1


@pytest.mark.parametrize(("name", "server"), PAIRS)
class TestEveryCombination:
    def test_a_round_repeats_to_the_bit_and_changes_nothing_it_was_given(self, name, server):
        """From a copy of the state as well: states saved and restored. Catches any in-place write."""
        made = federation(FEDERATED[name], bowls(), participation=HALF, server=SERVERS[server])
        state = play(made, 3)
        saved = copy.deepcopy(state)
        first = play(made, 5, state)
        assert torch.equal(first.shared.theta, play(made, 5, state).shared.theta)
        assert torch.equal(first.shared.theta, play(made, 5, saved).shared.theta)

    def test_the_order_of_cars_changes_no_bit(self, name, server):
        """Identity 16, and promise 2: sums are exact."""
        cars = bowls(images=UNEQUAL)
        forward, backward = (play(federation(FEDERATED[name], order, server=SERVERS[server]), 20)
                             for order in (cars, cars[::-1]))
        assert torch.equal(forward.shared.theta, backward.shared.theta)

    def test_the_number_of_ranks_changes_no_bit(self, name, server):
        """1, 2 and 4 ranks, three of five cars a round, some failing. Catches sums in order of arrival, and state that
        the server keeps and a car on another rank reads.
        """
        def theta(world):
            made = federation(FEDERATED[name], bowls(images=UNEQUAL), world=world, server=SERVERS[server], **MESSY)
            return play(made, 6).shared.theta

        alone, = on_ranks(1, theta)
        assert len(alone) == 4
        for ranks in (2, 4):
            assert all(torch.equal(there, alone) for there in on_ranks(ranks, theta)), ranks


@EVERY
class TestEveryAlgorithm:
    def test_a_car_that_sits_out_or_fails_keeps_its_memory(self, name):
        """Catches a memory that is saved before the car has answered."""
        made = federation(FEDERATED[name], bowls(), participation=0.6, car_failures=0.4)
        state = play(made, 5)
        for _ in range(5):
            result = run_round(made, state)
            for car in set(range(5)) - set(result.reports):
                assert made.memory(result.state, car) is made.memory(state, car)
            state = result.state

    def test_failures_are_reported_and_their_work_counted(self, name):
        """Catches pictures of failed cars left out, and a failed car reported as one that answered."""
        made = federation(FEDERATED[name], bowls(images=UNEQUAL), car_failures=0.4)
        whole = federation(FEDERATED[name], bowls(images=UNEQUAL))
        results = [run_round(some, initial_state(some)) for some in (made, whole)]
        assert results[0].failed and sorted([*results[0].failed, *results[0].reports]) == [0, 1, 2, 3, 4]
        assert results[0].state.pictures == results[1].state.pictures
        assert results[0].bytes_down == results[1].bytes_down and results[0].bytes_up < results[1].bytes_up

    def test_a_round_that_no_car_answers_leaves_everything_but_the_counts(self, name):
        """Catches a division by the weight of nobody, and a server optimiser that coasts on."""
        made = federation(FEDERATED[name], bowls(), car_failures=0.999999)
        state = play(altered(made, car_failures=0.0), 2)
        result = run_round(made, state)
        assert not result.reports and result.failed == [0, 1, 2, 3, 4] and result.step == 0
        assert torch.equal(result.state.shared.theta, state.shared.theta)
        assert result.state.memories == state.memories and result.state.pictures > state.pictures

    def test_identical_cars_are_one_car(self, name):
        """Identity 15. Catches weights that do not add up to 1."""
        car = bowls(1)[0]
        many = play(federation(FEDERATED[name], [car] * 5), 20)
        assert apart(play(federation(FEDERATED[name], [car]), 20), many.shared.theta) < 1e-12

    def test_a_car_twice_is_a_car_of_double_weight(self, name):
        """Identity 15, two cars of one image against one of two."""
        first, second = bowls(2)
        twice = play(federation(FEDERATED[name], [first, first, second], weighting="images"), 20)
        double = federation(FEDERATED[name], [replace(first, images=2), second], weighting="images")
        assert apart(play(double, 20), twice.shared.theta) < 1e-12

    def test_the_unit_of_weights_does_not_matter(self, name):
        """Identity 16. Catches weights that are not normalised over the round's cars."""
        cars = bowls(images=UNEQUAL)
        tripled = [replace(car, images=3 * car.images) for car in cars]
        one, other = (play(federation(FEDERATED[name], some, weighting="images", participation=HALF), 20)
                      for some in (cars, tripled))
        assert apart(one, other.shared.theta) < 1e-12

    def test_one_car_is_a_federation_too(self, name):
        """Whatever is exact reaches the car's minimiser, and so does what drifts: there is nobody to drift from."""
        car = bowls(1)[0]
        assert apart(play(federation(FEDERATED[name], [car]), 600), car.centre) < 1e-8

    def test_cars_on_disk_are_cars_in_memory_to_the_bit(self, name, tmp_path):
        """Through 12 messy rounds. Catches a memory put into the slot that is still needed."""
        in_memory, on_disk = (play(federation(FEDERATED[name], bowls(images=UNEQUAL), folder=folder, **MESSY), 12)
                              for folder in (None, tmp_path))
        assert torch.equal(in_memory.shared.theta, on_disk.shared.theta)

    def test_huge_contributions_are_summed_and_infinite_ones_stop_the_run(self, name):
        """A car at 1e30 moves theta there; one that overflows is named, and nothing of it is averaged."""
        cars = bowls()
        far = [replace(cars[0], centre=cars[0].centre * 1e30), *cars[1:]]
        made = federation(FEDERATED[name], far)
        state = run_round(made, initial_state(made)).state
        assert bool(state.shared.theta.isfinite().all()) and state.shared.theta.abs().max() > 1e28
        broken = [replace(cars[0], centre=cars[0].centre * float("inf")), *cars[1:]]
        made = federation(FEDERATED[name], broken)
        with pytest.raises(RunError, match=r"round 1: .* of car 0 \(car-0\) on rank 0 is not finite"):
            run_round(made, initial_state(made))

    def test_bytes_are_those_of_the_vectors_it_sends(self, name):
        """Two of five cars. Catches bytes counted for all cars, and for vectors that the server keeps."""
        made = federation(FEDERATED[name], bowls(), participation=HALF)
        result = run_round(made, initial_state(made))
        up = {"scaffold": 8, "nova": 5, "nova-prox": 5, "admm-balanced": 9, "admm-after": 6, "admm-after-auto": 6,
              "admm-per-car": 6, "admm-per-car-after": 6}.get(name, 4)
        assert sum(part.numel() for part in to_tensors(made.contribution_like)) == up
        assert (result.bytes_up, result.bytes_down) == (4 * 2 * up, 4 * 2 * (8 if name == "scaffold" else 4))


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("name", ["avg", "admm", "scaffold", "nova"])
class TestEveryAggregatorInTheLoop:
    """Whatever an algorithm sends: a model, a difference, two vectors, a vector and a number."""

    def test_cars_that_agree_are_combined_as_by_the_mean(self, name, aggregator):
        """Catches a rule that is applied to one part of a contribution and not to the others."""
        car = bowls(1)[0]
        mean, other = (play(federation(FEDERATED[name], [car] * 5, aggregator=AGGREGATORS[rule]()), 10)
                       for rule in ("mean", aggregator))
        assert apart(mean, other.shared.theta) < 1e-12

    def test_the_order_of_cars_and_the_number_of_ranks_change_no_bit(self, name, aggregator):
        """Catches distances that are added up in order of arrival. Krum's ties go to the first: it needs six cars."""
        cars = bowls(6, images=(*UNEQUAL, 6))

        def theta(world, order=cars):
            return play(federation(FEDERATED[name], order, world=world, aggregator=AGGREGATORS[aggregator]()),
                        6).shared.theta

        alone, = on_ranks(1, theta)
        assert all(torch.equal(there, alone) for there in on_ranks(3, theta))
        backward, = on_ranks(1, lambda world: theta(world, cars[::-1]))
        assert torch.equal(backward, alone)

    def test_a_round_that_too_few_cars_answer_is_one_that_nobody_answers(self, name, aggregator):
        """Krum needs four. Catches a crash in the middle of a run, and memories of an answer that was not used."""
        rule = AGGREGATORS[aggregator]()
        made = federation(FEDERATED[name], bowls(), aggregator=rule, car_failures=0.5)
        state, idle = initial_state(made), 0
        for _ in range(15):
            before, result = state, run_round(made, state)
            state = result.state
            assert len(result.reports) >= rule.minimum(5) or not result.reports
            if not result.reports:
                idle += 1
                assert torch.equal(state.shared.theta, before.shared.theta) and state.memories == before.memories
        assert idle > 0 or rule.minimum(5) == 1


class Broken(FedAvg):
    """FedAvg with a server step that divides by zero."""

    title = "Broken"

    def update(self, shared, mean, participation):
        return shared._replace(theta=mean / 0)


def test_a_server_step_that_is_not_finite_is_not_blamed_on_a_car():
    """On every rank. Catches a loss of the next round, or a statistic under the new theta, that names a car."""
    said = "round 1: the server step of Broken leads to a theta that is not finite, although all that the cars sent is"

    def start(world):
        made = federation(Broken(), bowls(), world=world)
        return run_round(made, initial_state(made))

    for error in on_ranks(2, start):
        assert isinstance(error, RunError) and str(error).startswith(said)


# Identities by number: the algorithms' relations to each other.

def trajectories(*made, rounds=12):
    """theta after every round, of each federation."""
    states = [initial_state(one) for one in made]
    for _ in range(rounds):
        states = [run_round(one, state).state for one, state in zip(made, states, strict=True)]
        yield [state.shared.theta for state in states]


def same(*made, rounds=12, tolerance=1e-12) -> bool:
    return all(float((theta - thetas[0]).abs().max()) <= tolerance
               for thetas in trajectories(*made, rounds=rounds) for theta in thetas[1:])


@BOTH
def test_fedprox_without_its_term_is_fedavg_to_the_bit(participation):
    """Identity 1."""
    keys = {"participation": participation, "momentum": 0.5, "lr": 0.02}
    assert same(federation(FedProx(mu=0.0), bowls(), **keys), federation(FedAvg(), bowls(), **keys), tolerance=0)
    assert not same(federation(FedProx(mu=0.1), bowls(), **keys), federation(FedAvg(), bowls(), **keys))


def test_fedprox_of_one_step_is_fedavg():
    """Identity 2: the term's gradient is 0 at theta."""
    assert same(federation(FedProx(mu=3.0), bowls(), steps=1), federation(FedAvg(), bowls(), steps=1))


def test_the_gradient_of_the_proximal_term_is_mu_times_the_distance():
    """Defects D4 to D8: a penalty that is detached, linear, per layer, or aliased with the live weights."""
    shared = FedProx().init_shared(torch.tensor([1.0, -2.0, 3.0]))
    w = torch.tensor([2.0, -2.0, 0.0])
    assert torch.equal(FedProx(mu=0.5).correction(w, shared, None), torch.tensor([0.5, 0.0, -1.5]))


@BOTH
def test_server_momentum_of_zero_and_an_adaptive_server_that_hardly_adapts_are_fedavg(participation):
    """Identity 3. With v starting at tau², sqrt(v) + tau is 2 tau."""
    keys = {"participation": participation}
    servers = [Plain(), FedAvgM(server_momentum=0.0)]
    assert same(*(federation(FedAvg(), bowls(), server=server, **keys) for server in servers))
    for kind in (SERVER_OPTIMIZERS["adagrad"], SERVER_OPTIMIZERS["adam"], SERVER_OPTIMIZERS["yogi"]):
        zero = {"server_momentum": 0.0, "server_beta2": 1 - 1e-9} if issubclass(kind, FedAdam) else {}
        servers = [Plain(), kind(server_step=2e7, server_tau=1e7, **zero)]
        assert same(*(federation(FedAvg(), bowls(), server=server, **keys) for server in servers), tolerance=1e-5)


@pytest.mark.parametrize("keys", [{}, {"momentum": 0.9, "lr": 0.01}, {"participation": HALF}],
                         ids=["plain", "momentum", "part"])
def test_fednova_with_equal_steps_is_fedavg_and_with_mu_fedprox(keys):
    """Identity 6."""
    assert same(federation(FedNova(), bowls(), **keys), federation(FedAvg(), bowls(), **keys))
    assert same(federation(FedNova(mu=0.7), bowls(), **keys), federation(FedProx(mu=0.7), bowls(), **keys))


def test_fedadmm_with_its_duals_frozen_is_fedprox():
    """Identity 7, all cars: without duals, the change against theta is w - theta."""
    class Frozen(FedADMM):
        def contribute(self, local, shared, memory):
            return local.w - shared.theta, memory

    assert same(federation(Frozen(rho=0.5), bowls()), federation(FedProx(mu=0.5), bowls(), weighting="uniform"))


@WEIGHTINGS
def test_with_all_cars_fedadmm_is_feddyn_and_its_step_is_one(weighting):
    """Identity 9, and y_i = -g_i. With part of the cars the two differ, which is seen too."""
    cars, keys = bowls(images=UNEQUAL), {"weighting": weighting}
    admm, dyn = federation(FedADMM(rho=1.3), cars, **keys), federation(FedDyn(alpha=1.3), cars, **keys)
    assert same(admm, dyn, federation(FedADMM(rho=1.3, server_step=1.0), cars, **keys), tolerance=1e-11)
    one, other = play(admm, 5), play(dyn, 5)
    for car in range(5):
        assert torch.allclose(admm.memory(one, car).y, -dyn.memory(other, car), rtol=0, atol=1e-11)
    part = {"participation": HALF, **keys}
    assert not same(federation(FedADMM(rho=1.3), cars, **part), federation(FedDyn(alpha=1.3), cars, **part))


def test_the_auto_penalties_of_fedadmm_and_feddyn_agree():
    """Under a falling learning rate: both match kappa to the same step length."""
    keys = {"cosine": True, "rounds": 12}
    assert same(federation(FedADMM(), bowls(), **keys), federation(FedDyn(), bowls(), **keys), tolerance=1e-11)


@BOTH
@WEIGHTINGS
@pytest.mark.parametrize("messy", [False, True], ids=["equal", "messy"])
def test_what_the_server_holds_is_the_mean_of_what_all_cars_hold(participation, weighting, messy):
    """Identity 10: c = Σ p_i c_i and h = Σ p_i g_i after every round, whoever took part.

    Catches c updated by the mean over the round's cars (D21), and weights of one update used for the other.
    """
    keys = MESSY | {"weighting": weighting} if messy else {"participation": participation, "weighting": weighting}
    for algorithm, kept in ((Scaffold(), "c"), (FedDyn(alpha=1.0), "h"), (FedDyn(), "h")):
        made = federation(algorithm, bowls(images=UNEQUAL), cosine=True, rounds=30, **keys)
        p, state = shares(bowls(images=UNEQUAL), weighting), initial_state(made)
        for _ in range(30):
            state = run_round(made, state).state
            mean = sum(p[car] * made.memory(state, car) for car in range(5))
            assert float((getattr(state.shared, kept) - mean).abs().max()) < 1e-11


@BOTH
def test_the_balanced_penalty_keeps_theta_the_mean_of_augmented_models(participation):
    """Identity 10 with one rho for all cars, re-based when it changes. Catches a change that is not re-based.

    And rho does change, stays within its bounds, and comes to rest.
    """
    made = federation(BalancedFedADMM(rho=0.02), bowls(images=UNEQUAL), participation=participation, weighting="images")
    p, state, seen = shares(bowls(images=UNEQUAL), "images"), initial_state(made), []
    for _ in range(120):
        state = run_round(made, state).state
        held = [made.memory(state, car) for car in range(5)]
        mean = sum(p[car] * (memory.w + memory.y / state.shared.rho) for car, memory in enumerate(held))
        assert apart(state, mean) < 1e-10
        dual = sum(p[car] * memory.y for car, memory in enumerate(held))
        assert float((state.shared.mean_dual - dual).abs().max()) < 1e-11
        seen.append(state.shared.rho)
    assert len(set(seen)) > 1 and min(seen) >= 0.002 and max(seen) <= 0.2
    changes = [number for number in range(1, 120) if seen[number] != seen[number - 1]]
    assert len(changes) <= 10 and all(later - earlier > 5 for earlier, later in pairwise(changes))


@pytest.mark.parametrize(("primal", "dual", "factor"), [
    (11.0, 1.0, 2.0), (1.0, 11.0, 0.5), (9.0, 1.0, 1.0), (1.0, 9.0, 1.0), (0.0, 0.0, 1.0)])
def test_the_penalty_is_balanced_as_boyd_has_it(primal, dual, factor):
    """Eq. 3.13, both ways. Catches a second test that is the first turned round: rho would fall almost always."""
    algorithm = BalancedFedADMM(rho=1.0)
    shared = algorithm.init_shared(torch.zeros(2))._replace(calm=5.0)
    assert algorithm._balanced(shared, primal, dual) == factor
    assert algorithm._balanced(shared._replace(calm=4.0), primal, dual) == 1.0, "the cool-down"
    assert algorithm._balanced(shared._replace(changes=10.0), primal, dual) == 1.0, "finitely often"
    assert 0.1 <= algorithm._balanced(shared._replace(rho=9.0), primal, dual) <= 10, "within bounds"
    assert 0.1 <= algorithm._balanced(shared._replace(rho=0.11), primal, dual) <= 10, "within bounds"


def test_scaffold_begins_as_fedavg_and_is_fedavg_in_single_steps():
    """Identity 11. Catches c_i that starts as a copy of the model (D9)."""
    keys = {"weighting": "uniform"}
    assert same(federation(Scaffold(), bowls(), **keys), federation(FedAvg(), bowls(), **keys), rounds=1)
    assert same(federation(Scaffold(), bowls(), steps=1), federation(FedAvg(), bowls(), steps=1, **keys), rounds=30)


def test_scaffolds_control_variates_are_gradients_after_single_steps():
    """K = 1: c_i is the gradient of f_i at the theta that the car was sent. Catches its sign."""
    cars = bowls()
    made = federation(Scaffold(), cars, steps=1, participation=HALF)
    state = play(made, 4)
    result = run_round(made, state)
    for car in result.reports:
        gradient = cars[car].gradient(state.shared.theta)
        assert float((made.memory(result.state, car) - gradient).abs().max()) < 1e-12


def test_a_server_step_other_than_the_cars_weight_has_the_bias_that_is_told():
    """grad f(theta*) = rho (1 - P/eta) (theta* - theta_0), two of five cars, eta = 0.2: what the warning says."""
    cars, rho, eta = bowls(), 1.0, 0.2
    made = federation(FedADMM(rho=rho, server_step=eta), cars, participation=HALF, lr=0.1)
    theta = play(made, 300).shared.theta
    gradient = sum(car.gradient(theta) for car in cars) / 5
    assert float((gradient - rho * (1 - HALF / eta) * theta).abs().max()) < 1e-6
    assert float(gradient.abs().max()) > 0.1


def test_feddyn_and_fedadmm_memories_belong_to_cars_not_to_ranks():
    """Defect D2: a dual that lives in whoever plays the cars in turn. Two cars with opposite data."""
    car = bowls(1)[0]
    cars = [car, replace(car, centre=-car.centre)]
    for algorithm in (FedADMM(rho=1.0), FedDyn(alpha=1.0), Scaffold()):
        made = federation(algorithm, cars)
        state = play(made, 1)
        held = [getattr(memory, "y", memory) for memory in (made.memory(state, 0), made.memory(state, 1))]
        assert torch.allclose(held[0], -held[1], atol=1e-12) and float(held[0].abs().max()) > 1e-3


# Defects seen in public code of these algorithms, and the test here that would fail with each.
DEFECTS = {
    "FedADMM's message measured from theta, not from the car's stored w": "known_wrong_messages_and_server_steps",
    "a dual that lives in whoever plays the cars in turn": "memories_belong_to_cars_not_to_ranks",
    "duals, control variates or server moments over BatchNorm statistics": "server_optimiser_never_touches_statistics",
    "a proximal term added up inside the parameter loop, detached, aliased, or linear":
        "gradient_of_the_proximal_term_is_mu_times_the_distance",
    "SCAFFOLD's c_i starting as a copy of the model": "scaffold_begins_as_fedavg",
    "SCAFFOLD's correction added after the momentum step": "trajectories_are_the_papers",
    "SCAFFOLD's option II with momentum, divided by K lr": "reaches_it_with_momentum",
    "steps as configured, where a car took fewer": "reaches_it_in_any_mixture",
    "an epoch that is one batch": "every_scene_is_seen_once_an_epoch",
    "FedAdam with a bias correction of its own": "trajectories_are_the_papers",
    "Krum's distances by ‖x‖² + ‖y‖² - 2xy in float32": "krum_sees_differences_far_smaller",
    "parameters aggregated, BatchNorm statistics forgotten": "a_state_has_the_statistics_of_its_rounds_cars",
    "BatchNorm's batch counter averaged, or of one rank": "the_saved_weights_and_checkpoints_are_the_same_on_any",
    "BatchNorm layers found by their name": "own_norms_leave_theta_without_the_norms_parameters",
    "an adaptive penalty without bounds, or balanced the wrong way round": "penalty_is_balanced_as_boyd_has_it",
    "a penalty that changes while theta is not re-based": "a_dual_that_is_not_rebased",
    "a dual updated after every epoch": "the_first_round_of_fedadmm_is_fedprox",
    "weights normalised over all cars where the round's are meant, or the other way round":
        "what_the_server_holds_is_the_mean_of_what_all_cars_hold",
    "a learning rate that advances by participation": "trajectories_are_the_papers",
    "a small last batch skipped without being counted": "the_last_batch_of_an_epoch_may_be_small",
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_every_known_defect_has_a_test(defect):
    """By its name, so that the list stays true when tests are renamed."""
    names = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert re.search(rf"def test_\w*{DEFECTS[defect]}", names)
