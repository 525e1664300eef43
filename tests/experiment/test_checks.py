"""What a user is told about a combination of methods."""

import pytest
from quadratics import UNEQUAL, bowls, federation
from scenery import federation as networks

from fedsim.aggregation import Krum, Median
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
