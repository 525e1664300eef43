"""Which settings go together. What a chosen algorithm would not read is refused, not ignored."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

from fedsim.aggregation import AGGREGATORS
from fedsim.algorithms import Algorithm, FedADMM
from fedsim.data.partition import DEFAULT_ALPHA, PARTITIONS
from fedsim.errors import SettingsError
from fedsim.settings import registry
from fedsim.settings.fields import Settings
from fedsim.settings.registry import flag


def check(settings: Settings) -> None:
    """Raise SettingsError for the first contradiction."""
    algorithm = registry.algorithm_class(settings.algo)
    _check_algorithm(settings, algorithm)
    _check_server(settings, algorithm)
    _check_robustness(settings)
    if algorithm.pooled or algorithm.personal:
        _check_without_federation(settings)
    _check_training(settings, algorithm)
    _check_data(settings)


def fitting(values: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Fixed settings, and of some others those that go together with them.

    They are tried in the order of `Settings`, where what another builds on stands before it. Left out is what
    contradicts those before it, and only what an algorithm, an aggregator or a partition reads or does not read.
    """
    belongs = {setting.name for setting in fields(Settings)
               if setting.metadata["theme"] in ("Federation", "Algorithm", "Robustness")} | {"alpha"}
    others = {name: value for name, value in values.items() if name not in belongs} | dict(fixed)
    kept = {name: value for name, value in others.items() if name == "partition"}
    for name in [setting.name for setting in fields(Settings) if setting.name in belongs]:
        if name in fixed:
            kept[name] = fixed[name]
        elif name in values and (_goes(more := kept | {name: values[name]}) or not _goes(kept)):
            kept = more
    return others | kept


def _goes(values: Mapping[str, Any]) -> bool:
    with suppress(SettingsError):
        check(Settings(**values))
        return True
    return False


def _check_algorithm(settings: Settings, algorithm: type[Algorithm]) -> None:
    for setting, field in registry.ALGORITHM_OPTIONS.items():
        if getattr(settings, setting) is not None and field not in registry.fields_of(algorithm):
            raise SettingsError(f"{flag(setting)} belongs to {registry.readers(setting)}; {settings.algo} has no such "
                                "option: leave it out")
    if settings.rho == "balanced" and algorithm is not FedADMM:
        raise SettingsError(f"--rho balanced belongs to admm itself; {settings.algo} has its own rule: leave it out")


def _check_server(settings: Settings, algorithm: type[Algorithm]) -> None:
    own, name = registry.COMBINATIONS.get(settings.algo), settings.server_optimizer
    if own and name not in (None, own):
        raise SettingsError(f"--algo {settings.algo} is avg with --server-optimizer {own}, so {name} contradicts it: "
                            f"take --algo avg --server-optimizer {name}")
    if name and not algorithm.free_server_step:
        reason = ("there is no server step in it" if algorithm.pooled or algorithm.personal
                  else "its own server step is part of the method")
        raise SettingsError(f"--server-optimizer {name} does not go with {settings.algo}: {reason}; take avg, prox, "
                            "nova or scaffold")
    readers = set(registry.fields_of(registry.server_class(own or name))) if algorithm.free_server_step else set()
    readers |= set(registry.fields_of(algorithm))
    for setting in registry.SERVER_OPTIONS:
        if getattr(settings, setting) is not None and setting not in readers:
            who = ("algorithms that leave the server step free, and to admm" if setting == "server_step"
                   else f"--server-optimizer {registry.readers(setting)}")
            raise SettingsError(f"{flag(setting)} belongs to {who}; {_with_server(settings)} does not read it: leave "
                                "it out")


def _with_server(settings: Settings) -> str:
    return settings.algo + (f" with {settings.server_optimizer}" if settings.server_optimizer else "")


def _check_robustness(settings: Settings) -> None:
    for setting, field in registry.AGGREGATOR_OPTIONS.items():
        known = registry.fields_of(AGGREGATORS[settings.aggregator])
        if getattr(settings, setting) is not None and field not in known:
            raise SettingsError(f"{flag(setting)} belongs to --aggregator {registry.readers(setting)}; "
                                f"{settings.aggregator} does not read it: leave it out")
    if settings.attack and not settings.attackers:
        raise SettingsError(f"--attack {settings.attack} needs cars that attack: say how many with --attackers")


def _check_without_federation(settings: Settings) -> None:
    """central and local: no car sends anything to a server."""
    federated = {"participation": 1.0, "car_failures": 0.0, "weighting": None, "aggregator": "mean", "clip_norm": None,
                 "attackers": 0}
    for setting, idle in federated.items():
        if getattr(settings, setting) != idle:
            raise SettingsError(f"{flag(setting)} belongs to federated algorithms; with {settings.algo} every car "
                                "trains in every round and no update is combined: leave it out")
    if settings.batchnorm not in (None, "recalibrate", "pooled"):
        raise SettingsError(f"--batchnorm {settings.batchnorm} says what cars of a federation share; with "
                            f"{settings.algo} take recalibrate or pooled")


def _check_training(settings: Settings, algorithm: type[Algorithm]) -> None:
    if settings.optimizer == "adam" and settings.momentum != type(settings).momentum:
        raise SettingsError("--momentum belongs to --optimizer sgd; adam has its own: leave it out")
    number = next((setting for setting in ("rho", "dyn_alpha")
                   if registry.ALGORITHM_OPTIONS[setting] in registry.fields_of(algorithm)), None)
    if settings.optimizer == "adam" and number and settings.number_or_word(number, "auto", "balanced") is None:
        raise SettingsError(f"{flag(number)} {getattr(settings, number) or 'auto'} matches it to the length of sgd's "
                            f"steps, which adam's do not have: give a number, e.g. {flag(number)} 0.01")
    if settings.optimizer == "adam" and not number and algorithm().needs_step_length:
        raise SettingsError(f"--optimizer adam does not go with {settings.algo}, which divides by the length of sgd's "
                            "steps: adam's do not scale with the gradient")
    if settings.norm == "group" and settings.batchnorm is not None:
        raise SettingsError("--batchnorm belongs to --norm batch; group normalisation has no statistics: leave it out")


def _check_data(settings: Settings) -> None:
    if settings.partition not in PARTITIONS and not os.path.isfile(settings.partition):
        raise SettingsError(f"--partition is {settings.partition!r}; choose from {', '.join(PARTITIONS)}, or name a "
                            "file that a run or `fedsim data inspect` has written (partition.json)")
    if settings.alpha is not None and settings.partition not in DEFAULT_ALPHA:
        raise SettingsError(f"--alpha belongs to --partition {', '.join(DEFAULT_ALPHA)}; {settings.partition} has "
                            "none: leave it out")
    if settings.out == "":
        raise SettingsError("--out is empty; name a new directory, or leave it out")
    check_data_root(settings)


def check_data_root(settings: Settings) -> None:
    """Raise SettingsError where a data set on disk has no folder, or a drawn one has."""
    if settings.data != "streets" and not settings.data_root:
        raise SettingsError(f"--data {settings.data} needs --data-root, its folder on this machine")
    if settings.data == "streets" and settings.data_root is not None:
        raise SettingsError("--data-root belongs to data sets on disk; streets is made by fedsim: leave it out, or "
                            "name the data set, e.g. --data camvid")
