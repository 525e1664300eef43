"""Refuse settings that contradict each other, or that nothing would read."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

from fedsim.algorithms import Algorithm
from fedsim.data.partition import DEFAULT_ALPHA, HELD_OUT, PARTITIONS
from fedsim.errors import SettingsError
from fedsim.losses.terms import check_meaning, make_losses
from fedsim.options import flag, options_of
from fedsim.own_code import is_own
from fedsim.settings import registry
from fedsim.settings.fields import Settings
from fedsim.settings.methods import Methods, make_methods

# A setting that is read only with some values of another: its name -> the other's name, and which values of it.
READ_WITH: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "attack": ("attackers", bool),
    "momentum": ("optimizer", lambda optimizer: optimizer == "sgd"),
    "nesterov": ("optimizer", lambda optimizer: optimizer == "sgd"),
    "batchnorm": ("norm", lambda norm: norm == "batch"),
    "width": ("model", lambda model: ":" not in str(model)),
    "model_option": ("model", lambda model: ":" in str(model)),
    "aux_weight": ("model", lambda model: not str(model).startswith("segnet")),
    "eval_split": ("hold_out_drive", lambda drive: drive is None),  # which is scored instead
    "cars": ("partition", lambda partition: partition in PARTITIONS),  # a split file has its own number
}
# Settings that belong to one value of another: they say nothing about its other values.
OF_ONE = {"data": ("data_root", "classes"), "loss": ("loss_option",)}


def check(settings: Settings) -> Methods:
    """Return the methods that the settings name. Raises SettingsError for the first contradiction."""
    methods = make_methods(settings)
    if settings.attack and not settings.attackers:
        raise SettingsError(f"--attack {settings.attack} needs cars that attack: say how many with --attackers")
    if methods.algorithm.pooled or methods.algorithm.personal:
        _check_without_federation(settings)
    _check_training(settings, methods.algorithm)
    if not is_own(settings.loss):  # code of a user's own is asked when the run is put together
        losses = make_losses(settings.loss, settings.loss_option)
        check_meaning(settings.loss, losses, settings.class_weights, settings.label_smoothing)
    _check_momentum(settings)
    _check_data(settings)
    _check_choice(settings, methods.algorithm)
    return methods


def unread(values: Mapping[str, Any], fixed: Mapping[str, Any]) -> set[str]:
    """Return the names of those `values` that nothing reads once `fixed` settings take the place of others."""
    found = {name for name, (other, reads) in READ_WITH.items() if other in fixed and not reads(fixed[other])}
    for other, owned in OF_ONE.items():
        if fixed.get(other) not in (None, values.get(other, getattr(Settings, other))):
            found |= {*owned}
    return found & values.keys() - fixed.keys()


def fitting(values: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return fixed settings, and those of the other `values` that go together with them.

    Settings are added one by one in the order of `Settings`, in which a setting stands after those it depends on. A
    setting that contradicts the ones before it is dropped. Only settings that belong to an algorithm, an aggregator or
    a partition can be dropped.
    """
    belongs = {one.name for one in fields(Settings)
               if one.metadata["theme"] in ("Federation", "Algorithm", "Robustness")} | {"alpha"}
    others = {name: value for name, value in values.items() if name not in belongs} | dict(fixed)
    kept = {name: value for name, value in others.items() if name == "partition"}
    for name in [one.name for one in fields(Settings) if one.name in belongs]:
        if name == "option":
            kept[name] = (_fitting_options(values.get(name, {}), kept.get("algo", Settings.algo))
                          | dict(fixed.get(name, {})))
        elif name in fixed:
            kept[name] = fixed[name]
        elif name in values and (_goes(more := kept | {name: values[name]}) or not _goes(kept)):
            kept = more
    return {name: value for name, value in (others | kept).items() if value != {}}


def _fitting_options(given: Mapping[str, Any], algo: str) -> dict[str, Any]:
    """Return the options without a flag of their own that an algorithm has."""
    known = options_of(registry.algorithm_class(algo))
    return {name: value for name, value in given.items() if name in known}


def _goes(values: Mapping[str, Any]) -> bool:
    with suppress(SettingsError):
        check(Settings(**values))
        return True
    return False


def _check_without_federation(settings: Settings) -> None:
    """Refuse settings of a federation for central and local, in which no car sends anything to a server."""
    federated = {"participation": 1.0, "car_failures": 0.0, "weighting": None, "aggregator": "mean", "clip_norm": None,
                 "attackers": 0}
    for setting, idle in federated.items():
        if getattr(settings, setting) != idle:
            raise SettingsError(f"{flag(setting)} belongs to federated algorithms; with {settings.algo} every car "
                                "trains in every round and no update is combined: leave it out")
    if settings.algo == "local" and settings.average_weights is not None:
        raise SettingsError("--average-weights averages the global model over rounds; with local there is none: leave "
                            "it out")
    if settings.batchnorm not in (None, "recalibrate", "pooled"):
        raise SettingsError(f"--batchnorm {settings.batchnorm} says what cars of a federation share; with "
                            f"{settings.algo} take recalibrate or pooled")


def _check_training(settings: Settings, algorithm: Algorithm) -> None:
    if settings.local_steps is not None and settings.local_epochs != type(settings).local_epochs:
        raise SettingsError("--local-epochs and --local-steps both say how much a car trains in a round: leave one of "
                            "them out")
    if settings.optimizer != "sgd" and settings.momentum != type(settings).momentum:
        raise SettingsError(f"--momentum belongs to --optimizer sgd; {settings.optimizer} has its own: leave it out")
    if settings.lr_floor and settings.lr_schedule == "constant":
        raise SettingsError("--lr-floor belongs to a learning rate that falls; --lr-schedule is constant: leave it out")
    if settings.optimizer != "sgd" and algorithm.needs_step_length:
        matched = [(name, option) for name, option in options_of(type(algorithm)).items()
                   if option.words and getattr(algorithm, option.field) is None]
        for name, option in matched:
            raise SettingsError(f"{option.typed} {option.word(None)} matches it to the length of sgd's steps, which "
                                f"{settings.optimizer}'s do not have: give a number, e.g. {flag(name)} 0.01")
        raise SettingsError(f"--optimizer {settings.optimizer} does not go with {settings.algo}, which divides by the "
                            f"length of sgd's steps: {settings.optimizer}'s do not scale with the gradient")
    if settings.norm == "group" and settings.batchnorm is not None:
        raise SettingsError("--batchnorm belongs to --norm batch; group normalisation has no statistics: leave it out")


def _check_momentum(settings: Settings) -> None:
    rule = settings.momentum_across_rounds
    if settings.nesterov and (settings.optimizer != "sgd" or not settings.momentum):
        what = settings.optimizer if settings.optimizer != "sgd" else "sgd with --momentum 0"
        raise SettingsError(f"--nesterov belongs to sgd with momentum; this is {what}: leave it out")
    if settings.nesterov and rule == "step":
        raise SettingsError("--nesterov does not go with --momentum-across-rounds step: a move of theta is not the "
                            "velocity of such steps; take average or own")
    if rule == "none":
        return
    if settings.optimizer == "sgd" and not settings.momentum:
        raise SettingsError(f"--momentum-across-rounds {rule} with --momentum 0: there is no momentum to go on with; "
                            "leave one of them out")
    if rule == "step" and settings.optimizer != "sgd":
        raise SettingsError(f"--momentum-across-rounds step is the velocity of sgd, which {settings.optimizer} does "
                            "not have; take average or own")


def _check_choice(settings: Settings, algorithm: Algorithm) -> None:
    """Refuse to choose a model by the scores that are reported, and to keep a model that there is not."""
    chosen = [name for name in ("stop_at", "patience") if getattr(settings, name) is not None]
    chosen += ["keep_best"] if settings.keep_best else []
    if chosen and settings.scored().split in ("test", HELD_OUT):
        raise SettingsError(f"{flag(chosen[0])} would choose a model by the {settings.scored().name}, and flatter its "
                            "score there: choose by --eval-split val, and score the model with `fedsim evaluate` later")
    if settings.keep_best and algorithm.personal:
        raise SettingsError(f"--keep-best keeps the global model; with {settings.algo} there is none: leave it out")


def _check_data(settings: Settings) -> None:
    if settings.partition not in PARTITIONS and not os.path.exists(settings.partition):
        raise SettingsError(f"--partition is {settings.partition!r}; choose from {', '.join(PARTITIONS)}, or name a "
                            "file that a run or `fedsim data inspect` has written (partition.json), or a published "
                            "split")
    if settings.alpha is not None and settings.partition not in DEFAULT_ALPHA:
        raise SettingsError(f"--alpha belongs to --partition {', '.join(DEFAULT_ALPHA)}; {settings.partition} does "
                            "not read it: leave it out")
    check_data(settings)


def check_data(settings: Settings) -> None:
    """Refuse a folder for a data set that needs none, and a split that only a drive that is held out could be."""
    if settings.scored().split == HELD_OUT and settings.hold_out_drive is None:
        raise SettingsError(f"--eval-split {HELD_OUT} scores a drive that nobody trains on, and no drive was held out "
                            "with --hold-out-drive: score train, val or test")
    if settings.data == "streets" and settings.data_root is not None:
        raise SettingsError("--data-root belongs to data sets on disk; streets is made by fedsim: leave it out, or "
                            "name the data set, e.g. --data camvid")
