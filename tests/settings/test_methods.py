"""Algorithm, server optimiser and aggregator, made from settings in one pass."""

import pytest

from fedsim.aggregation import Krum, Mean, Median, TrimmedMean
from fedsim.algorithms import (
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
from fedsim.algorithms.server_optimizers import FedAdam, FedAvgM, Plain
from fedsim.errors import SettingsError
from fedsim.settings.compatible import check
from fedsim.settings.fields import Settings


@pytest.mark.parametrize(("settings", "made"), [
    ({}, FedADMM()), ({"rho": "0.5", "local_start": "own", "server_step": 0.5}, FedADMM(0.5, 0.7, 0.5, "own")),
    ({"rho": "auto"}, FedADMM()), ({"rho": "balanced"}, BalancedFedADMM()),
    ({"option": {"kappa": "0.5"}}, FedADMM(kappa=0.5)), ({"option": {"rho": 0.5}}, FedADMM(0.5)),
    ({"rho": "balanced", "option": {"kappa": 0.5}}, BalancedFedADMM(kappa=0.5)), ({"algo": "fedavg"}, FedAvg()),
    ({"dual_step": "after"}, ConsensusFedADMM()), ({"dual_step": "before", "rho": "1"}, FedADMM(rho=1.0)),
    ({"dual_step": "after", "rho": "0.5", "local_start": "own"}, ConsensusFedADMM(0.5, local_start="own")),
    ({"rho": "per-car"}, PerCarFedADMM()),
    ({"rho": "per-car", "dual_step": "after", "option": {"kappa": 0.3}}, PerCarFedADMM(kappa=0.3, dual_step="after")),
    ({"algo": "prox", "mu": 0.5}, FedProx(mu=0.5)), ({"algo": "prox", "mu": 0.0}, FedProx(mu=0.0)),
    ({"algo": "nova"}, FedNova(mu=0.0)), ({"algo": "dyn", "dyn_alpha": "2"}, FedDyn(alpha=2.0)),
    ({"algo": "scaffold"}, Scaffold()), ({"algo": "yogi"}, FedAvg())])
def test_an_algorithm_has_the_options_it_was_given(settings, made):
    """Catches a mu of 0 that is taken for none, and an option that goes to the wrong field."""
    assert check(Settings(**settings)).algorithm == made


@pytest.mark.parametrize(("settings", "made"), [
    ({"algo": "avg"}, Plain()), ({"algo": "avg", "server_step": 0.5}, Plain(0.5)), ({"algo": "admm"}, Plain()),
    ({"algo": "admm", "server_step": 0.5}, Plain()), ({"algo": "avgm"}, FedAvgM()),
    ({"algo": "scaffold", "server_optimizer": "momentum", "server_momentum": 0.5}, FedAvgM(server_momentum=0.5)),
    ({"algo": "adam", "server_tau": 0.5, "server_beta2": 0.25}, FedAdam(server_tau=0.5, server_beta2=0.25))])
def test_a_server_optimiser_has_the_options_it_was_given(settings, made):
    """Catches ADMM's own step taken a second time by the server."""
    assert check(Settings(**settings)).server == made


@pytest.mark.parametrize(("settings", "made"), [
    ({}, Mean()), ({"aggregator": "median"}, Median()), ({"aggregator": "krum", "krum_hostile": 2}, Krum(2)),
    ({"aggregator": "trimmed-mean", "trim_fraction": 0.1}, TrimmedMean(0.1))])
def test_an_aggregator_has_the_options_it_was_given(settings, made):
    assert check(Settings(**settings)).aggregator == made


@pytest.mark.parametrize(("settings", "says"), [
    ({"algo": "avg", "mu": 0.1}, "--mu belongs to prox, nova; avg does not read it"),
    ({"algo": "avg", "option": {"kappa": 0.5}}, "--option kappa: avg has no option 'kappa'; it has no such options"),
    ({"option": {"kapa": 0.5}}, "--option kapa: admm has no option 'kapa'; it has kappa"),
    ({"option": {"kappa": 0}}, "--option kappa is 0; it must be a number above 0"),
    ({"option": {"kappa": "much"}}, "--option kappa is much; it must be a number above 0"),
    ({"rho": "0.1", "option": {"rho": 0.2}}, "--option rho and --rho say the same"),
    ({"algo": "dyn", "server_step": 0.5}, "--server-step belongs to admm and to algorithms that leave the server step"),
    ({"algo": "avg", "server_tau": 0.5}, "--server-tau belongs to --server-optimizer adagrad, adam, yogi; avg does"),
    ({"trim_fraction": 0.1}, "--trim-fraction belongs to --aggregator trimmed-mean; mean does not read it"),
    ({"optimizer": "adam"}, "--rho auto matches it to the length of sgd's steps"),
    ({"optimizer": "adam", "rho": "per-car"}, "--rho per-car matches it to the length of sgd's steps"),
    ({"rho": "balanced", "dual_step": "after"}, "--rho balanced does not go with --dual-step after: leave one of them"),
    ({"rho": "per-car", "server_step": 0.5}, "--rho per-car does not go with --server-step 0.5: leave one of them out"),
    ({"dual_step": "after", "server_step": 1.0}, "--server-step 1.0 does not go with --dual-step after: leave one of"),
    ({"dual_step": "between"}, "--dual-step is between; it must be before or after"),
    ({"algo": "dyn", "dual_step": "after"}, "--dual-step belongs to admm; dyn does not read it"),
    ({"algo": "local", "average_weights": "ema:0.5"}, "--average-weights averages the global model over ro"),
    ({"average_weights": "ema:1"}, "--average-weights is 'ema:1'; write ema:DECAY or swa:SHARE with a number of at"),
    ({"algo": "scaffold", "rho": "balanced"}, "--rho belongs to admm; scaffold does not read it")])
def test_an_option_that_nothing_reads_or_takes_is_refused(settings, says):
    with pytest.raises(SettingsError) as refusal:
        check(Settings(**settings))
    assert says in str(refusal.value)


@pytest.mark.parametrize(("one", "other"), [
    ({"rho": "0.10"}, {"rho": 0.1}), ({"rho": "1e-1"}, {"rho": "0.1"}), ({"algo": "dyn", "dyn_alpha": "2.0"}, {
        "algo": "dyn", "dyn_alpha": "2"}), ({"local_epochs": "3:3"}, {"local_epochs": 3}),
    ({"average_weights": "swa:0.50"}, {"average_weights": "swa:.5"}),
    ({"algo": "prox", "mu": "0.50"}, {"algo": "prox", "mu": 0.5})])
def test_a_number_is_one_setting_however_it_is_written(one, other):
    """Catches numbers compared as text: other runs to a comparison, and a resume that is refused."""
    assert Settings(**one) == Settings(**other)
    assert Settings(rho="1").rho == "1" and Settings(rho="0.3").rho == "0.3", "as runs of earlier versions have it"


def test_what_was_left_open_is_resolved_as_a_preset_has_it():
    """Only options that are not at their defaults stand under `option`: old runs keep their identity."""
    settings = Settings(rho="balanced")
    assert check(settings).resolve(settings) == {
        "rho": "balanced", "server_step": None, "local_start": "global", "dual_step": "before", "option": {}}
    settings = Settings(dual_step="after")
    assert check(settings).resolve(settings) == {
        "rho": "auto", "local_start": "global", "dual_step": "after", "option": {}}
    settings = Settings(algo="yogi", server_tau=0.5, aggregator="krum")
    assert check(settings).resolve(settings) == {
        "server_optimizer": "yogi", "server_step": 0.03, "server_tau": 0.5, "server_momentum": 0.9,
        "server_beta2": 0.99, "krum_hostile": 1, "option": {}}
    settings = Settings(rho=0.25, option={"kappa": "0.5"})
    resolved = check(settings).resolve(settings)
    assert resolved["option"] == {"kappa": 0.5} and resolved["rho"] == "0.25"
