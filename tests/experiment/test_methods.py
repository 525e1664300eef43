"""Algorithm, server optimiser and aggregator from settings; what a user is told about their combination."""

import pytest
from quadratics import UNEQUAL, bowls, federation
from scenery import federation as networks

from fedsim.aggregation import Krum, Mean, Median, TrimmedMean
from fedsim.algorithms import BalancedFedADMM, FedADMM, FedAvg, FedDyn, FedNova, FedProx, LocalOnly, Scaffold
from fedsim.algorithms.server_optimizers import Adam, Momentum, Plain
from fedsim.experiment.methods import make_aggregator, make_algorithm, make_server, notes, warnings
from fedsim.federation.attacks import Attack
from fedsim.settings.compatible import check
from fedsim.settings.fields import Settings


@pytest.mark.parametrize(("settings", "made"), [
    ({}, FedADMM()), ({"rho": "0.5", "local_start": "own", "server_step": 0.5}, FedADMM(0.5, 0.7, 0.5, "own")),
    ({"rho": "auto"}, FedADMM()), ({"rho": "balanced"}, BalancedFedADMM()), ({"algo": "fedavg"}, FedAvg()),
    ({"algo": "prox", "mu": 0.5}, FedProx(mu=0.5)), ({"algo": "prox", "mu": 0.0}, FedProx(mu=0.0)),
    ({"algo": "nova"}, FedNova(mu=0.0)), ({"algo": "dyn", "dyn_alpha": "2"}, FedDyn(alpha=2.0)),
    ({"algo": "scaffold"}, Scaffold()), ({"algo": "yogi"}, FedAvg())])
def test_an_algorithm_has_the_options_it_was_given(settings, made):
    """Catches a mu of 0 that is taken for none, and an option that goes to the wrong field."""
    check(Settings(**settings))
    assert make_algorithm(Settings(**settings)) == made


@pytest.mark.parametrize(("settings", "made"), [
    ({"algo": "avg"}, Plain()), ({"algo": "avg", "server_step": 0.5}, Plain(0.5)), ({"algo": "admm"}, Plain()),
    ({"algo": "admm", "server_step": 0.5}, Plain()), ({"algo": "avgm"}, Momentum()),
    ({"algo": "scaffold", "server_optimizer": "momentum", "server_momentum": 0.5}, Momentum(server_momentum=0.5)),
    ({"algo": "adam", "server_tau": 0.5, "server_beta2": 0.25}, Adam(server_tau=0.5, server_beta2=0.25))])
def test_a_server_optimiser_has_the_options_it_was_given(settings, made):
    """Catches ADMM's own step taken a second time by the server."""
    check(Settings(**settings))
    assert make_server(Settings(**settings)) == made


@pytest.mark.parametrize(("settings", "made"), [
    ({}, Mean()), ({"aggregator": "median"}, Median()), ({"aggregator": "krum", "krum_hostile": 2}, Krum(2)),
    ({"aggregator": "trimmed-mean", "trim_fraction": 0.1}, TrimmedMean(0.1))])
def test_an_aggregator_has_the_options_it_was_given(settings, made):
    check(Settings(**settings))
    assert make_aggregator(Settings(**settings)) == made


@pytest.mark.parametrize("algorithm", [FedADMM(), BalancedFedADMM(), Scaffold(), FedDyn(), FedNova()])
@pytest.mark.parametrize("bent", [{"aggregator": Median()}, {"clip_norm": 1.0}])
def test_what_rests_on_the_mean_is_warned_where_it_is_bent(algorithm, bent):
    """With what is lost. Catches a warning for the mean, and none for clipping."""
    said, = warnings(federation(algorithm, bowls(), **bent), "median")
    assert algorithm.title in said and algorithm.rests_on_mean in said
    assert not list(warnings(federation(algorithm, bowls()), "mean"))
    assert not list(warnings(federation(FedAvg(), bowls(), **bent), "median"))


def test_the_bias_of_a_server_step_is_told():
    said, = warnings(federation(FedADMM(rho=1.0, server_step=0.5), bowls()), "mean")
    assert "rho (1 - P/0.5)" in said and "Leave it out" in said


def test_krum_without_enough_cars_for_its_theorem_is_told():
    """Five for one hostile car: four of them is too few, five is enough."""
    said, = warnings(federation(FedAvg(), bowls(5), aggregator=Krum(), participation=0.8), "krum")
    assert "5 cars in a round" in said
    assert not list(warnings(federation(FedAvg(), bowls(5), aggregator=Krum()), "krum"))


def test_the_report_says_how_cars_were_combined():
    cars = bowls(images=UNEQUAL)
    assert "number of images" in next(notes(federation(FedAvg(), cars), "mean"))
    assert "every car weighs the same" in next(notes(federation(FedAvg(), cars, weighting="uniform"), "mean"))
    assert "--aggregator median" in next(notes(federation(FedAvg(), cars, aggregator=Median()), "median"))
    assert not list(notes(federation(LocalOnly(), cars), "mean"))


def test_the_report_says_which_figure_is_of_whose_norms_and_who_was_hostile():
    said = list(notes(networks(FedAvg(), [2, 2], batchnorm="local"), "mean"))
    assert "all cars pooled" in said[1] and "own mIoU" in said[1]
    hostile = networks(FedAvg(), [2, 2], attack=Attack("scale", frozenset({1}), 0))
    assert list(notes(hostile, "mean"))[-1] == "Hostile, by scale: car-1."
