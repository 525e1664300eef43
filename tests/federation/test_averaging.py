"""The average of the global model over rounds: its closed form, its statistics, and the same bits however it is played.

Each test names a mutation that it was seen to catch.
"""

import pytest
import quadratics
import scenery
import torch
from federations import altered
from quadratics import bowls

from fedsim.algorithms import FedADMM, FedAvg, Scaffold
from fedsim.federation.averaging import Averaging, Ema, Swa
from fedsim.federation.federation import Federation
from fedsim.federation.measuring import measure_average, measure_statistics, recalibrate
from fedsim.federation.rounds import initial_state, simulate
from fedsim.federation.scoring import models, score
from fedsim.federation.state import State
from fedsim.record import snapshot

ROUNDS = 8


def weights(rule: Averaging, number: int, rounds: int) -> list[float]:
    """Return the weight of each round so far, as the definitions have it; they need not add up to 1."""
    if isinstance(rule, Ema):
        return [rule.decay ** (number - earlier) for earlier in range(1, number + 1)]
    return [float(earlier > rule.skipped * rounds) for earlier in range(1, number + 1)]


def averaging(rule: Averaging | None, world=scenery.SOLO, batchnorm: str = "recalibrate", **others) -> Federation:
    made = scenery.federation(Scaffold(), [2, 3, 1, 2], world=world, batchnorm=batchnorm)
    return altered(made, **{"participation": 0.5, "average": rule, **others})


def states(made: Federation, state: State | None = None) -> list[State]:
    return [result.state for result in simulate(made, initial_state(made) if state is None else state)]


@pytest.mark.parametrize("rule", [Ema(0.0), Ema(0.5), Ema(0.998), Swa(0.0), Swa(0.5), Swa(0.74), Swa(0.99)], ids=str)
def test_it_is_the_weighted_mean_of_the_rounds_vectors(rule):
    """In float64, half of the cars a round. Catches the untrained vector in the mean, and a start at zeros.

    Rounds that are undone count with the vector that they end with.
    """
    for others in ({}, {"on_divergence": "rollback", "lr": 3.0}):
        made = altered(quadratics.federation(FedAvg(), bowls(), participation=0.5, rounds=ROUNDS), average=rule,
                       **others)
        found = states(made)
        assert len(found) == ROUNDS and (min(state.lr_factor for state in found) < 1) == bool(others)
        for number, state in enumerate(found, start=1):
            own = weights(rule, number, ROUNDS)
            averaged = measure_average(made, state)
            assert (averaged is not None) == any(own)
            if averaged is not None:
                thetas = torch.stack([one.shared.theta for one in found[:number]])
                expected = torch.tensor(own, dtype=torch.float64) @ thetas / sum(own)
                assert float((averaged[0] - expected).abs().max()) < 1e-13 * float(thetas.abs().max())


def test_the_share_of_rounds_that_swa_skips_is_that_of_the_numbers_as_written():
    """0.29 of 100 rounds are 29, although their product in binary is less. The last round always counts."""
    assert [Swa(share).begins(rounds) for share, rounds in ((0.29, 100), (0.75, 16), (0.999999, 3), (0.5, 1))] == [
        30, 13, 3, 1]


def test_the_first_round_that_counts_is_the_average_to_the_bit():
    for rule, first in ((Ema(0.9), 1), (Swa(0.5), 3)):
        state = states(averaging(rule))[first - 1]
        assert torch.equal(state.average, state.global_vector().double())


@pytest.mark.parametrize("batchnorm", ["recalibrate", "pooled", "local"])
def test_its_statistics_are_measured_with_it_whatever_cars_share(batchnorm):
    """Catches statistics of theta, averaged ones, and affine numbers of round 0 while they are measured."""
    made = averaging(Ema(0.5), batchnorm=batchnorm, participation=1.0)
    state = measure_statistics(made, states(made)[-1])
    theta, norms = measure_average(made, state)
    assert torch.equal(torch.cat([theta, norms.affine]), state.average.float())
    made.model.load(theta, state.initial_norms._replace(affine=norms.affine))
    moments = sum(recalibrate(made, 4, car) * len(scenes) for car, scenes in made.fleet.scenes.items()) / 8
    expected = torch.stack([moments[0], moments[1] - moments[0].square()]).float()
    torch.testing.assert_close(norms.statistics, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(norms.statistics, state.norms.statistics, rtol=1e-3)


def test_it_is_scored_and_kept_beside_theta_and_changes_nothing_else():
    """Catches a score of theta under its name, and a model left in the network that cars go on with."""
    eval_set, criterion = scenery.scene_set(4, seed=5), scenery.criterion()
    plain, made = averaging(None), averaging(Swa(0.5))
    (alone, beside) = ([measure_statistics(one, state) for state in states(one)] for one in (plain, made))
    assert [one.digest() for one in alone] == [one.digest() for one in beside]
    scores = [score(made, state, eval_set, criterion) for state in beside]
    assert [one.averaged is None for one in scores] == [True, True, False, False]
    assert scores[2].averaged == scores[2].overall and scores[3].averaged != scores[3].overall
    assert score(plain, alone[3], eval_set, criterion).overall == scores[3].overall
    named = {name: (theta, norms) for name, theta, norms in models(made, beside[3])}
    assert list(named) == ["model", "averaged"] and [name for name, *_ in models(made, beside[1])] == ["model"]
    assert torch.equal(named["averaged"][0], beside[3].average.float())


@pytest.mark.parametrize("rule", [Ema(0.9), Swa(0.25)], ids=["ema", "swa"])
def test_ranks_and_continued_runs_have_the_same_bits(rule):
    """1, 2 and 4 ranks, and a run that continues. Catches an average that no checkpoint holds."""
    def bits(made, state):
        return state.digest(), state.average.numpy().tobytes(), *(
            tensor.numpy().tobytes() for tensor in measure_average(made, state)[1])

    def whole(world):
        made = averaging(rule, world, algorithm=FedADMM())
        return bits(made, states(made)[-1])

    def continued(world):
        made, fresh = (averaging(rule, world, algorithm=FedADMM()) for _ in range(2))
        rounds = simulate(made, initial_state(made))
        state = [next(rounds).state for _ in range(2)][-1]
        found = snapshot.restore_global(initial_state(fresh), snapshot.global_tensors(state))
        for car in state.memories:
            found = snapshot.restore_car(fresh, found, car, snapshot.car_tensors(made, state, car))
        return bits(fresh, states(fresh, found)[-1])

    found = {*scenery.on_ranks(1, whole), *scenery.on_ranks(2, whole), *scenery.on_ranks(4, whole),
             *scenery.on_ranks(2, continued)}
    assert len(found) == 1
