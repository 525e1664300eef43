"""The guard: what a healthy run may look like, what a diverging one looks like, and what is done about it.

Each test names a mutation that it was seen to catch.
"""


import numpy as np
import pytest
import quadratics
import scenery
import torch
from federations import altered
from quadratics import UNEQUAL, bowls, federation

from fedsim.algorithms import ALGORITHMS, BalancedFedADMM, FedADMM, FedAvg, Scaffold
from fedsim.errors import RunError
from fedsim.federation.divergence import MOST_ROLLBACKS, REMEDY, Watch, watch
from fedsim.federation.rounds import initial_state, norms_per_weight, run_round, simulate

ROUNDS = 200
HALF = 0.4  # of five cars: two a round
DIVERGING = FedADMM(rho=4.0, server_step=1.0)  # the popular step, with two of five cars


def troubled(steps, duals=None) -> list[tuple[int, str]]:
    """(round, what is wrong with it), of rounds with these norms."""
    state, found = Watch(), []
    for number, step in enumerate(steps, 1):
        state, trouble = watch(state, float(step), None if duals is None else float(duals[number - 1]))
        if trouble:
            found.append((number, trouble))
    return found


def wandering(draw, cars=50, taking_part=10, dimension=20):
    """‖mean dual‖ where the round's cars change theirs."""
    duals = np.zeros((cars, dimension))
    for _ in range(ROUNDS):
        chosen = draw.choice(cars, taking_part, replace=False)
        duals[chosen] = 0.7 * duals[chosen] + draw.standard_normal((taking_part, dimension))
        yield np.linalg.norm(duals.mean(0))


TIME = np.arange(1.0, ROUNDS + 1)
HEALTHY = {
    "a level": lambda draw: np.full(ROUNDS, 3.0),
    "noise": lambda draw: np.exp(0.3 * draw.standard_normal(ROUNDS)),
    "warm-up": lambda draw: 1 - np.exp(-TIME / draw.uniform(1, 100)),
    "noisy warm-up": lambda draw: (1 - np.exp(-TIME / 20)) * np.exp(0.2 * draw.standard_normal(ROUNDS)),
    "in proportion to the rounds": lambda draw: draw.uniform(0, 10) * TIME,
    "convergence": lambda draw: 0.9**TIME,
    "convergence by fits and starts": lambda draw: 0.95**TIME * np.exp(0.5 * draw.standard_normal(ROUNDS)),
    "rounding alone after convergence": lambda draw: 0.5**TIME + 1e-16 * np.exp(2 * draw.standard_normal(ROUNDS)),
    "a mean dual that wanders": lambda draw: list(wandering(draw)),
    "rounds that nobody answers": lambda draw: (draw.random(ROUNDS) < 0.3) * np.exp(0.3 * draw.standard_normal(ROUNDS)),
    "zeros": lambda draw: np.zeros(ROUNDS),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_a_healthy_run_is_left_alone(kind):
    """As steps and as mean duals, 20 draws of 200 rounds.

    Catches, seen one by one: growth over four rounds instead of five; a jump over three times the median; a jump that
    is over ten times the median and yet no larger than norms there were; growth compared with the first rounds and not
    with their number; zeros taken for norms.
    """
    for seed in range(20):
        norms = HEALTHY[kind](np.random.default_rng(seed))
        assert troubled(norms) == []
        assert troubled(np.ones(ROUNDS), norms) == []


@pytest.mark.parametrize("where", ["step", "mean dual"])
@pytest.mark.parametrize("healthy", [6, 50])
def test_exponential_growth_is_noticed_within_six_rounds(healthy, where):
    """1.3 a round after some at a noisy level. Catches growth over eight rounds, and duals that are not watched."""
    for seed in range(10):
        level = np.exp(0.05 * np.random.default_rng(seed).standard_normal(healthy))
        norms = [*level, *(1.3 ** np.arange(1, 7))]
        found = troubled(norms) if where == "step" else troubled(np.ones(len(norms)), norms)
        assert found and healthy < found[0][0] <= healthy + 6
        assert found[0][1].startswith(f"the {where}")


def test_growth_from_the_first_round_on_is_noticed_in_the_sixth():
    """Catches a guard that wants more rounds before it judges."""
    assert troubled(1.3 ** np.arange(8))[0][0] == 6


def test_slow_growth_by_fits_and_starts_is_noticed():
    """1.15 a round with noise never grows in five rounds running, and never jumps. Catches both rules alone."""
    for seed in range(20):
        found = troubled(1.15 ** TIME[:80] * np.exp(0.3 * np.random.default_rng(seed).standard_normal(80)))
        assert found and "more than in proportion" in "".join(text for _, text in found)


@pytest.mark.parametrize(("largest", "times", "noticed"), [
    (3.0, 9.5, False), (3.0, 10.5, True), (6.0, 11.5, False), (6.0, 12.5, True)])
def test_a_jump_over_ten_times_the_median_and_twice_the_largest_is_noticed(largest, times, noticed):
    """Catches other factors, and the mean of the rounds before in the place of their median.

    A car whose first round comes late moves theta as much as others did in their first.
    """
    norms = [1.0, 1.0, largest, 1.0, 0.2, 1.0, times]
    assert [number for number, _ in troubled(norms)] == ([7] if noticed else [])


def test_a_jump_is_not_hidden_by_rounds_that_nobody_answered():
    """Catches a median over zeros."""
    assert [number for number, _ in troubled([1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 20])] == [12]
    assert troubled([0, 0, 0, 0, 0, 0, 0, 5, 5]) == []


def played(made):
    """The results of all rounds, and the error that ended them."""
    results = []
    try:
        for result in simulate(made, initial_state(made)):
            results.append(result)
    except RunError as error:
        return results, error
    return results, None


def diverging(action, rounds=60, **others):
    return federation(DIVERGING, bowls(), participation=HALF, on_divergence=action, rounds=rounds, **others)


def test_a_divergence_is_warned_of_once_while_all_is_finite():
    """FedADMM with step 1 and two of five cars: 1.1 a round, unsteadily. Catches a warning in every round."""
    results, error = played(diverging("warn"))
    assert error is None and len(results) == 60
    troubles = [(result.state.round, result.trouble) for result in results if result.trouble]
    assert len(troubles) == 1 and troubles[0][0] <= 40
    assert float(torch.linalg.vector_norm(results[troubles[0][0] - 1].state.shared.theta)) < 1e3
    assert float(torch.linalg.vector_norm(results[-1].state.shared.theta)) > 1e3, "it does diverge"


def test_a_warning_changes_nothing():
    """To the bit. Catches a state that is undone whatever was told."""
    results, _ = played(diverging("warn"))
    assert torch.equal(results[-1].state.shared.theta, quadratics.play(diverging("warn"), 60).shared.theta)
    assert results[-1].state.lr_factor == 1


def test_a_run_told_to_stop_stops_after_the_round_it_names():
    """That round is handed out before, so that it is recorded. Catches an error raised in its place."""
    results, error = played(diverging("stop"))
    warned, _ = played(diverging("warn"))
    number = next(result.state.round for result in warned if result.trouble)
    assert len(results) == number and results[-1].trouble
    assert str(error) == f"round {number}: stopped, because {results[-1].trouble}; {REMEDY}"


def rolled_back(made):
    """The state before the first round that is undone, that round's result, and what it would have been."""
    state = initial_state(made)
    for result in simulate(made, state):
        if result.trouble:
            return state, result, run_round(made, state)
        state = result.state
    raise AssertionError("nothing was undone")


@pytest.mark.parametrize("algorithm", [DIVERGING, Scaffold()], ids=["admm", "scaffold"])
def test_a_rollback_undoes_the_round_and_halves_the_learning_rate(algorithm):
    """theta and all else that is shared, the server's state, the cars' memories and the mean dual; counts go on.

    Catches, seen one by one: memories, or the round's number, of the wrong side; a quarter; a rate that is not kept.
    """
    made = federation(algorithm, bowls(images=UNEQUAL), participation=HALF, on_divergence="rollback", rounds=60,
                      **{"lr": 0.9} if isinstance(algorithm, Scaffold) else {})
    before, result, redone = rolled_back(made)
    after = result.state
    for ours, theirs in zip(after.shared, before.shared, strict=True):
        assert ours is theirs
    assert after.memories == before.memories and after.memories.keys() == before.memories.keys()
    assert all(after.memories[car] is before.memories[car] for car in before.memories)
    assert (after.server, after.norms, after.own_norms) == (before.server, before.norms, before.own_norms)
    assert after.mean_dual is before.mean_dual
    assert not torch.equal(redone.state.shared.theta, after.shared.theta)
    assert after.lr_factor == before.lr_factor / 2 == 0.5
    assert (after.round, after.pictures, after.sequential_steps) == (
        redone.state.round, redone.state.pictures, redone.state.sequential_steps)
    assert after.round == before.round + 1 and after.pictures > before.pictures
    assert result.trouble.endswith(": the round was undone and the learning rate halved")
    assert result.lr == made.schedule.lr and run_round(made, after).lr == made.schedule.lr / 2
    assert after.watch.steps == (*before.watch.steps, result.step), "what was seen is not forgotten"


@pytest.mark.parametrize("lr", [0.6, 0.7, 1.0])
def test_a_rollback_saves_a_run_whose_learning_rate_was_too_high(lr):
    """FedAvg's local steps overshoot. Half of each rate is stable, so that one rollback is enough.

    Catches a rate that is halved for the record alone.
    """
    cars = bowls()
    results, error = played(federation(FedAvg(), cars, lr=lr, on_divergence="rollback", rounds=60))
    assert error is None and sum(result.trouble is not None for result in results) == 1
    assert float(torch.linalg.vector_norm(results[-1].state.shared.theta)) < 2
    alone, _ = played(federation(FedAvg(), cars, lr=lr, rounds=60))
    assert float(torch.linalg.vector_norm(alone[-1].state.shared.theta)) > 1e4


def test_a_run_that_rolling_back_does_not_help_stops():
    """The step is to blame, not the learning rate: it says so in the end. Catches halving for ever, to 1e43."""
    results, error = played(diverging("rollback", rounds=400))
    assert sum(result.trouble is not None for result in results) == MOST_ROLLBACKS + 1
    assert f"after {MOST_ROLLBACKS} rounds were undone" in str(error) and "--server-step" in str(error)


def test_a_rolled_back_run_is_the_same_with_its_memories_on_disk(tmp_path):
    """To the bit, through several rollbacks. Catches a memory saved into the slot that undoing needs."""
    runs = [played(diverging("rollback", rounds=90, folder=folder))[0] for folder in (None, tmp_path)]
    assert sum(result.trouble is not None for result in runs[0]) >= 2
    for ours, theirs in zip(*runs, strict=True):
        assert ours.trouble == theirs.trouble and ours.state.lr_factor == theirs.state.lr_factor
        assert torch.equal(ours.state.shared.theta, theirs.state.shared.theta)
        assert torch.equal(ours.state.mean_dual, theirs.state.mean_dual)


def test_a_rollback_is_the_same_on_any_number_of_ranks():
    """To the bit, the state of every rank. Catches a norm that only the coordinator knows."""
    def play(world):
        results, _ = played(diverging("rollback", rounds=70, world=world))
        return [result.trouble for result in results], results[-1].state

    troubles, alone = play(scenery.SOLO)
    assert any(troubles)
    for there, state in scenery.on_ranks(3, play):
        assert there == troubles and torch.equal(state.shared.theta, alone.shared.theta)


MESSY = {"participation": 0.6, "car_failures": 0.5, "epochs": (1, 5), "weighting": "images"}


@pytest.mark.parametrize("setting", [{}, {"participation": HALF}, MESSY], ids=["all-cars", "two-of-five", "messy"])
@pytest.mark.parametrize("name", [name for name, kind in ALGORITHMS.items() if not (kind.pooled or kind.personal)])
def test_every_algorithm_as_a_user_gets_it_is_healthy(name, setting):
    """60 rounds; SCAFFOLD's and FedDyn's steps with part of the cars shrink by fits and starts.

    Messy rounds have one car or none, with steps of their own. Catches a jump that counts although there were larger
    steps before.
    """
    made = federation(ALGORITHMS[name](), bowls(images=UNEQUAL), rounds=60, **setting)
    assert [result.trouble for result in simulate(made, initial_state(made)) if result.trouble] == []


HEAVY = (37, 43, 50, 59, 74, 98, 147, 292)  # images of eight cars, as --partition quantity deals them


@pytest.mark.parametrize("algorithm", [FedADMM(), BalancedFedADMM(), FedADMM(server_step=0.125)],
                         ids=["admm", "balanced", "fixed-step"])
def test_a_car_of_great_weight_is_no_divergence(algorithm):
    """One car of eight in a round; the heaviest weighs eight times as much as the lightest. Ten seeds.

    Catches, seen one by one: a step of FedADMM that is not divided by P_S, and a mean dual over all cars.
    """
    for seed in range(10):
        made = federation(algorithm, bowls(8, images=HEAVY), participation=1 / 8, weighting="images", rounds=40)
        made = altered(made, seed=seed)
        assert [result.trouble for result in simulate(made, initial_state(made)) if result.trouble] == []


def test_a_penalty_that_changes_is_no_divergence():
    """The balanced penalty re-bases theta for all cars, in a round of one light car. Catches that step."""
    made = federation(BalancedFedADMM(rho=40.0), bowls(8, images=HEAVY), participation=1 / 8, weighting="images",
                      rounds=60)
    state, changes = initial_state(made), 0
    for result in simulate(made, state):
        changed = result.state.shared.rho != result.residuals.penalty
        changes += changed
        assert (norms_per_weight(made, result)[0] == 0) == changed and not result.trouble
    assert changes > 0


def test_norms_are_judged_per_weight_of_their_cars():
    """Whatever the cars' weights and the number of ranks. Catches a sum over the memories of one rank."""
    def watched(world):
        made = federation(FedADMM(), bowls(5, images=UNEQUAL), participation=0.4, weighting="images", world=world)
        state, seen = initial_state(made), []
        for _ in range(4):
            result = run_round(made, state)
            state = result.state
            seen.append((sorted(result.reports), result.step, result.residuals.mean_dual,
                         norms_per_weight(made, result)))
        return seen

    alone, met = watched(scenery.SOLO), set()
    for cars, step, mean_dual, watched_norms in alone:
        met |= set(cars)
        total = sum(UNEQUAL)
        share, so_far = (sum(UNEQUAL[car] for car in some) / total for some in (cars, met))
        assert watched_norms == pytest.approx((step / share, mean_dual / so_far), rel=1e-12)
    assert scenery.on_ranks(3, watched) == [alone] * 3


@pytest.mark.parametrize("participation", [1.0, HALF], ids=["all-cars", "two-of-five"])
@pytest.mark.parametrize("algorithm", [FedADMM(), FedAvg()], ids=["admm", "avg"])
def test_a_network_in_training_is_healthy(algorithm, participation):
    """12 rounds of SegNet. Catches a jump over 1.5 times the median."""
    made = altered(scenery.federation(algorithm, [3, 1, 4, 2, 2]), participation=participation, rounds=12)
    results, error = played(made)
    assert error is None and len(results) == 12 and not any(result.trouble for result in results)
