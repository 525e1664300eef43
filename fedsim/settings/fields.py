"""The settings of a run: one frozen dataclass, validated once; command line and presets are made from it."""

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.aggregation import AGGREGATORS
from fedsim.algorithms.server_optimizers import SERVER_OPTIMIZERS
from fedsim.data import AUGMENTATIONS
from fedsim.data.datasets import SOURCES
from fedsim.errors import SettingsError
from fedsim.federation.attacks import ATTACKS
from fedsim.federation.batchnorm import NORM_RULES
from fedsim.federation.divergence import ACTIONS
from fedsim.models import MOST_CHANNELS, NORMS
from fedsim.models.loss import CLASS_WEIGHTS
from fedsim.settings import registry
from fedsim.settings.registry import flag

CHOICES = {
    "server_optimizer": tuple(SERVER_OPTIMIZERS),
    "aggregator": tuple(AGGREGATORS),
    "attack": tuple(ATTACKS),
    "local_start": ("global", "own"),
    "on_divergence": ACTIONS,
    "car_states": ("auto", "memory", "disk"),
    "optimizer": ("sgd", "adam"),
    "lr_schedule": ("cosine", "constant"),
    "weighting": ("images", "uniform"),
    "batchnorm": tuple(NORM_RULES),
    "norm": NORMS,
    "class_weights": tuple(CLASS_WEIGHTS),
    "data": SOURCES,
    "augment": tuple(AUGMENTATIONS),
    "eval_split": ("train", "val", "test"),
    "device": ("auto", "cpu", "cuda"),
    "backend": ("auto", "gloo", "nccl"),
}
MOST_THREADS = 1024
WORDS = ("rho", "dyn_alpha", "local_epochs")  # settings that are numbers or words: a number in TOML needs no quotes


def option(theme: str, default: Any, text: str) -> Any:
    """A setting that is also an option of the command line, with its help text and its theme there."""
    return field(default=default, metadata={"theme": theme, "help": text})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides what a run computes, and where it leaves its results. None: decided by others.

    Each is checked by itself; `compatible.check` tells whether they go together.
    """

    algo: str = option("Federation", "admm", "avg, prox, admm, scaffold, dyn, nova: FedAvg, FedProx, FedADMM, "
                       "SCAFFOLD, FedDyn, FedNova; avgm, adagrad, adam, yogi: avg with that --server-optimizer; "
                       "central: one model on the scenes of all cars pooled; local: cars that never communicate; or "
                       "your own, as mypackage.mymodule:MyAlgorithm. `fedsim algorithms` tells more.")
    cars: int | None = option("Federation", None, "Cars. Default: a partition file's; else 4, or as many as ranks "
                              "where those are more.")
    rounds: int = option("Federation", 16, "Rounds.")
    participation: float = option("Federation", 1.0, "Share of the cars that take part in a round, above 0 "
                                  "and at most 1.")
    car_failures: float = option("Federation", 0.0, "Probability that a car of a round downloads, trains and never "
                                 "answers, at least 0 and below 1.")
    weighting: str | None = option("Federation", None, "Weight of a car in every mean: its images, or "
                                   "uniform. Default: the paper's; `fedsim algorithms` has it.")
    batchnorm: str | None = option("Federation", None, "BatchNorm layers: recalibrate re-estimates statistics with "
                                   "the new parameters on each car's scenes, pooled combines the cars' running ones, "
                                   "average averages them plainly; with local-statistics (SiloBN) they stay with the "
                                   "car, with local (FedBN) weights and biases too. Default: recalibrate.")
    seed: int = option("Federation", 0, "Seed of every random draw.")

    mu: float | None = option("Algorithm", None, "Weight of the proximal term of prox and nova, at least 0. Default: "
                              "0.01 with prox, 0 with nova.")
    rho: str | None = option("Algorithm", None, "Penalty of admm: a number > 0; auto, which matches it to each round's "
                             "local work; or balanced, which starts so and follows the residuals. Default: auto.")
    dyn_alpha: str | None = option("Algorithm", None, "alpha of dyn: a number > 0, or auto, which matches it to each "
                                   "round's local work. Default: auto.")
    local_start: str | None = option("Algorithm", None, "Where a car of admm starts its local training: at the global "
                                     "vector or at its own. Default: global.")
    server_step: float | None = option("Algorithm", None, "How far the server goes along the combined move, above 0. "
                                       "Default: 1, of adaptive server optimisers 0.03, of admm the weight of the "
                                       "round's cars (any other is biased).")
    server_optimizer: str | None = option("Algorithm", None, "What takes the server step in the place of a plain one, "
                                          "with avg, prox, nova and scaffold. Default: none.")
    server_momentum: float | None = option("Algorithm", None, "beta of momentum, beta1 of adam and yogi. Default: 0.9.")
    server_beta2: float | None = option("Algorithm", None, "beta2 of adam and yogi. Default: 0.99.")
    server_tau: float | None = option("Algorithm", None, "Adaptivity of adagrad, adam and yogi: coordinates that move "
                                      "by less are hardly scaled. Default: 0.01.")
    on_divergence: str = option("Algorithm", "warn", "When the step of theta or the mean dual grows and grows: warn "
                                "once, stop, or rollback: undo the round and halve the learning rate.")

    aggregator: str = option("Robustness", "mean", "How contributions are combined. All but the mean and the "
                             "geometric median give every car the same weight.")
    trim_fraction: float | None = option("Robustness", None, "Share of the cars that trimmed-mean drops at each end, "
                                         "at least 0 and below 0.5. Default: 0.2.")
    krum_hostile: int | None = option("Robustness", None, "Hostile cars that krum and multi-krum expect. Default: 1.")
    clip_norm: float | None = option("Robustness", None, "Shorten longer moves of a car to this norm, above 0. "
                                     "Default: no bound.")
    attackers: int = option("Robustness", 0, "Cars that send bad updates, drawn once.")
    attack: str | None = option("Robustness", None, "What they send: their move with its sign flipped and four times "
                                "as long, noise ten times as long, the move ten times as long, or what they learned "
                                "from flipped labels. Default with --attackers: sign-flip.")

    local_epochs: str = option("Local training", "1", "Epochs over a car's scenes in a round, or LEAST:MOST, of which "
                               "each car and round draws its own number.")
    batch_size: int = option("Local training", 2, "Scenes a step.")
    optimizer: str = option("Local training", "sgd", "Local optimiser, fresh every round.")
    lr: float = option("Local training", 0.2, "Learning rate of the first round.")
    lr_schedule: str = option("Local training", "cosine", "Learning rate over the rounds.")
    momentum: float = option("Local training", 0.9, "Momentum of sgd, 0 <= momentum < 1.")
    weight_decay: float = option("Local training", 0.0, "Weight decay, added to the gradient.")
    augment: str = option("Local training", "flip", "Other views of a scene: flip mirrors it with probability 1/2; "
                          "standard adds gamma, saturation, scale and crop; perturb puts it with probability 1/2 under "
                          "a driving perturbation as well.")
    class_weights: str = option("Local training", "sqrt-median-frequency", "Class weights of the loss, from "
                                "the frequencies over all cars.")

    model: str = option("Model", "segnet-small", "segnet-small, segnet-basic, segnet or torchvision:NAME.")
    width: int | None = option("Model", None, "Channels of a SegNet's first stage, the others in proportion.")

    norm: str = option("Model", "batch", "Normalisation layers: batch, or group, which has no statistics of the batch.")

    data: str = option("Data", "streets", "streets: procedural, built in. In a folder of yours: camvid, in any of "
                       "three layouts; cityscapes, a drive a city, or cityscapes-sequences, a drive a recorded "
                       "sequence; folder: your own.")
    data_root: str | None = option("Data", None, "Folder of the data set.")
    classes: int | None = option("Data", None, "32 trains on all original classes of camvid, where the layout has "
                                 "them. Default: 11.")
    image_size: str | None = option("Data", None, "WIDTHxHEIGHT in pixels that the network sees; scores are at the "
                                    "labels' own size. Default: streets 80x60, camvid 120x90, cityscapes 256x128, "
                                    "folder 120 wide.")
    partition: str = option("Data", "drive", "How scenes are dealt to cars: a drive each (cut in time, if there are "
                            "more cars); iid; by Dirichlet preferences over classes; by a few favoured classes a car; "
                            "in power-law quantities; a drive each under a condition of the car's own; or as a file "
                            "has it that a run or `fedsim data inspect` has written.")
    alpha: float | None = option("Data", None, "Skew of a partition, the smaller the more. Default: dirichlet 0.5, "
                                 "quantity 1, classes 2 (favoured classes of a car).")
    eval_split: str = option("Data", "val", "Split that the model is scored on.")
    evaluate_every: int = option("Data", 1, "Rounds between scores; the last round is always scored.")

    out: str | None = option("Machine", None, "Run directory, new or empty. Default: runs/ALGO-DATA-TIME.")
    device: str = option("Machine", "auto", "auto: a CUDA device for every rank if there is one, else the "
                         "CPU.")
    backend: str = option("Machine", "auto", "auto: NCCL if every rank has its own CUDA device, else gloo.")
    threads: int | None = option("Machine", None, "CPU threads a rank. Default: cores shared among local "
                                 "ranks.")
    car_states: str = option("Machine", "auto", "Where what cars keep between rounds lies: in memory, in memory-mapped "
                             "files under the run directory (disk), or auto: there if memory would not hold it.")
    timeout: float = option("Machine", 600.0, "Seconds to wait for another rank before giving up; longer than "
                            "the busiest rank trains in a round.")
    checkpoint_every: int = option("Machine", 1, "Rounds between checkpoints; the last round always has one.")
    resume: str | None = option("Machine", None, "Go on from the latest checkpoint of a run, to the same bits as if it "
                                "had never stopped; --rounds may grow. auto goes on with --out if a run is there, and "
                                "starts it if not. Default: a new run.")

    def __post_init__(self) -> None:
        for setting in fields(self):
            object.__setattr__(self, setting.name, _typed(setting, getattr(self, setting.name)))
        object.__setattr__(self, "algo", registry.short_name(self.algo))
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise SettingsError(f"{flag(name)} is {value!r}; choose from {', '.join(allowed)}")
        for name in ("cars", "rounds", "batch_size", "evaluate_every", "checkpoint_every"):
            _check(self, name, lambda value: value >= 1, "at least 1")
        _check(self, "width", lambda value: 1 <= value <= MOST_CHANNELS, f"at least 1 and at most {MOST_CHANNELS}")
        _check(self, "threads", lambda value: 1 <= value <= MOST_THREADS, f"at least 1 and at most {MOST_THREADS}")
        for name in ("lr", "alpha", "clip_norm", "server_step", "server_tau"):
            _check(self, name, lambda value: 0 < value <= 1e38, "above 0 and at most 1e38")
        for name in ("weight_decay", "mu"):
            _check(self, name, lambda value: 0 <= value <= 1e38, "at least 0 and at most 1e38")
        for name in ("momentum", "server_momentum", "server_beta2", "car_failures"):
            _check(self, name, lambda value: 0 <= value < 1, "at least 0 and below 1")
        _check(self, "timeout", lambda value: 0 < value <= 1e6, "above 0 and at most a million")
        _check(self, "participation", lambda value: 0 < value <= 1, "above 0 and at most 1")
        _check(self, "trim_fraction", lambda value: 0 <= value < 0.5, "at least 0 and below 0.5")
        _check(self, "krum_hostile", lambda value: value >= 0, "at least 0")
        _check(self, "attackers", lambda value: value >= 0, "at least 0")
        self.epochs()
        self.input_size()
        self.number_or_word("rho", "auto", "balanced")
        self.number_or_word("dyn_alpha", "auto")

    def number_or_word(self, name: str, *words: str) -> float | None:
        """A setting's number, 1e-30 to 1e30; None where it is one of the words, the first of which is its default."""
        text = getattr(self, name)
        if text is None or text in words:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 1e-30 <= value <= 1e30:
            raise SettingsError(f"{flag(name)} is {text!r}; it must be {', '.join(words)} or a number from 1e-30 to "
                                f"1e30, e.g. {flag(name)} 0.01")
        return value

    def epochs(self) -> tuple[int, int]:
        """Least and most local epochs of a round."""
        match = re.fullmatch(r"([1-9]\d{0,5})(?::([1-9]\d{0,5}))?", self.local_epochs)
        least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= least <= most:
            raise SettingsError(f"--local-epochs is {self.local_epochs}; it must be a number of at least 1, or "
                                "LEAST:MOST, e.g. 1:5")
        return least, most

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
        known = [setting.name for setting in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            raise SettingsError(f"{origin}: unknown setting {unknown[0]!r}; known are {', '.join(known)}")
        try:
            return cls(**values)
        except SettingsError as error:
            raise SettingsError(f"{origin}: {error}") from error


def read_settings(path: str | Path) -> dict[str, Any]:
    """What a TOML file of settings holds. Raises OSError, and ValueError where it is none."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def type_name(kind: Any) -> str:
    """The name of a setting's type, such as "int" or "int | None"."""
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _typed(setting: "Field[Any]", value: Any) -> Any:
    """A value of a file's or a program's, of the setting's own type. Raises SettingsError.

    A number may stand for a word that is one, a whole number for a decimal, NumPy's for Python's, a path for its text.
    """
    if value is None and setting.default is None:
        return None
    value = value.item() if isinstance(value, np.generic) else value
    kind, number = type_name(setting.type).removesuffix(" | None"), type(value) in (int, float)
    if kind == "str" and setting.name in WORDS and number:
        return str(value)
    if kind == "str" and isinstance(value, os.PathLike):
        return os.fspath(value)
    if kind == "float" and number and abs(value) < 1e300:
        return float(value)
    if type(value).__name__ != kind or (kind == "int" and abs(value) >= 2**63):
        raise SettingsError(f"{flag(setting.name)} is {value!r}; expected {kind}")
    return value


def _check(settings: Settings, name: str, holds: Any, allowed: str) -> None:
    value = getattr(settings, name)
    if value is not None and not (math.isfinite(value) and holds(value)):
        raise SettingsError(f"{flag(name)} is {value}; it must be {allowed}")

