"""What a user is told about a combination of methods."""

import pytest
from quadratics import UNEQUAL, bowls, federation
from scenery import federation as networks

from fedsim.aggregation import Krum, Mean, Median, TrimmedMean
from fedsim.algorithms import BalancedFedADMM, FedADMM, FedAvg, FedDyn, FedNova, LocalOnly, Scaffold
from fedsim.experiment.checks import notes, warnings
from fedsim.federation.attacks import Attack


@pytest.mark.parametrize("algorithm", [FedADMM(), BalancedFedADMM(), Scaffold(), FedDyn(), FedNova()])
@pytest.mark.parametrize("bent", [{"aggregator": Median()}, {"clip_norm": 1.0}])
def test_what_rests_on_the_mean_is_warned_where_it_is_bent(algorithm, bent):
    """With what is lost. Catches a warning for the mean, and none for clipping."""
    said, = warnings(federation(algorithm, bowls(), **bent))
    assert algorithm.title in said and algorithm.rests_on_mean in said
    assert not list(warnings(federation(algorithm, bowls())))
    assert not list(warnings(federation(FedAvg(), bowls(), **bent)))


def test_the_bias_of_a_server_step_is_told():
    said, = warnings(federation(FedADMM(rho=1.0, server_step=0.5), bowls()))
    assert "rho (1 - P/0.5)" in said and "Leave the option out" in said


def test_krum_without_enough_cars_for_its_theorem_is_told():
    """Five for one hostile car: four of them is too few, five is enough."""
    said, = warnings(federation(FedAvg(), bowls(5), aggregator=Krum(), participation=0.8))
    assert "at least 5 cars take part in a round" in said
    assert not list(warnings(federation(FedAvg(), bowls(5), aggregator=Krum())))


@pytest.mark.parametrize(("rule", "hostile", "others", "said"), [
    (Krum(1), {0, 3}, {}, "withstands at most 1 hostile cars among the 5 of a round, and a round may have 2"),
    (TrimmedMean(0.2), {0, 3}, {}, "withstands at most 1 hostile cars among the 5"),
    (Median(), {0, 1, 2}, {}, "withstands at most 2 hostile cars among the 5 of a round, and a round may have 3"),
    (Median(), {0, 1}, {"participation": 0.6}, "at most 1 hostile cars among the 3 of a round, and a round may have 2"),
    (TrimmedMean(0.1), set(), {}, "--trim-fraction 0.1 of 5 cars drops no car"),
    (Median(), {0, 1}, {"car_failures": 0.1}, "fewer hostile cars in a round that few cars answer: 1 among 3"),
    (Median(), {0}, {"car_failures": 0.1}, None), (TrimmedMean(0.2), {0}, {"car_failures": 0.1}, None),
    (Mean(), {0, 1}, {}, None), (Median(), {0, 1}, {}, None)])
def test_more_hostile_cars_than_a_rule_withstands_are_told(rule, hostile, others, said):
    """Catches a warning about Krum alone, and one about the mean, which is there to be compared with."""
    attack = Attack("scale", frozenset(hostile), 0) if hostile else None
    found = list(warnings(federation(FedAvg(), bowls(5), aggregator=rule, attack=attack, **others)))
    assert [said in warning for warning in found] == [True] * (said is not None)


def test_the_report_says_how_cars_were_combined():
    cars = bowls(images=UNEQUAL)
    assert "number of images" in next(notes(federation(FedAvg(), cars)))
    assert "every car weighs the same" in next(notes(federation(FedAvg(), cars, weighting="uniform")))
    assert "--aggregator median" in next(notes(federation(FedAvg(), cars, aggregator=Median())))
    assert not list(notes(federation(LocalOnly(), cars)))


def test_the_report_says_which_figure_is_of_whose_norms_and_who_was_hostile():
    said = list(notes(networks(FedAvg(), [2, 2], batchnorm="local")))
    assert "all cars, pooled" in said[1] and "own mIoU" in said[1]
    hostile = networks(FedAvg(), [2, 2], attack=Attack("scale", frozenset({1}), 0))
    assert list(notes(hostile))[-1] == "Hostile cars (scale): car-1."
