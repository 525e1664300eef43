"""The settings of a run: one frozen dataclass, from which command line and presets are made."""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsim.aggregation import AGGREGATORS
from fedsim.algorithms.server_optimizers import SERVER_OPTIMIZERS
from fedsim.data import AUGMENTATIONS
from fedsim.data.datasets import SOURCES
from fedsim.data.partition import HELD_OUT, PARTITIONS, Scored
from fedsim.errors import SettingsError
from fedsim.options import BadOption, Option, flag, number_text
from fedsim.settings import registry
from fedsim.settings.conversion import convert, read_range, read_size
from fedsim.system.paths import read_path

MOST_THREADS = 1024
AUX_WEIGHT = 0.4  # of auxiliary logits, as in PSPNet (Zhao et al. 2017, arXiv:1612.01105, §5.2)
MOST_CHANNELS = 2**16  # of a network's first stage


def setting(theme: str, default: Any, text: str, choices: tuple[str, ...] = (), metavar: str = "",
            suggests: tuple[str, ...] = ()) -> Any:
    """Make a setting, which is an option of the command line with its theme and its help there.

    choices: the only words that it takes. suggests: words that a shell completes, if it takes others too. metavar: what
    the help shows in the place of a value.
    """
    return field(default=default, metadata={"theme": theme, "help": text, "choices": choices, "metavar": metavar,
                                            "suggests": suggests})


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """The settings that every method has; `Settings` has the options of methods as well."""

    algo: str = setting("Federation", "admm",
        "The algorithm, by name, or one of your own, as mypackage.mymodule:MyAlgorithm. central trains one model on "
        "the scenes of all cars; central-wide takes no more steps for it, one after another, than a federation; with "
        "local, cars never communicate. `fedsim algorithms` lists them all.",
        suggests=registry.NAMES, metavar="|".join((*registry.NAMES, "MODULE:CLASS")))
    cars: int | None = setting("Federation", None,
        "Number of cars. Default: as many as a partition file has; otherwise 4, or with --hold-out-drive the number of "
        "other drives if that is smaller, or the number of ranks if that is larger.")
    rounds: int = setting("Federation", 16, "Number of rounds.")
    participation: float = setting("Federation", 1.0,
        "Share of the cars that take part in a round, above 0 and at most 1.")
    car_failures: float = setting("Federation", 0.0,
        "Probability that a car of a round downloads and trains, but never answers, at least 0 and below 1.")
    weighting: str | None = setting("Federation", None,
        "Weight of a car in every mean: its number of images, or the same for all. Default: as in the algorithm's "
        "paper; `fedsim algorithms` tells which.", choices=("images", "uniform"))
    batchnorm: str | None = setting("Federation", None,
        "What cars share of BatchNorm layers. recalibrate measures the statistics again with the new parameters on "
        "each car's scenes; pooled combines the cars' running statistics; average averages them plainly; with "
        "local-statistics (SiloBN) each car keeps its statistics; with local (FedBN) it keeps weights and biases too. "
        "Default: recalibrate.", choices=("recalibrate", "pooled", "average", "local-statistics", "local"))
    seed: int = setting("Federation", 0, "Seed of every random draw.")

    server_optimizer: str | None = setting("Algorithm", None,
        "Server optimiser that takes the place of the plain server step; with avg, prox, nova and scaffold. Default: "
        "the plain step.", choices=tuple(SERVER_OPTIMIZERS))
    on_divergence: str = setting("Algorithm", "warn",
        "What to do when the step of theta or the mean dual variable keeps growing: warn once, stop, or rollback, "
        "which undoes the round and halves the learning rate.", choices=("warn", "stop", "rollback"))
    option: Mapping[str, Any] = field(default_factory=dict, hash=False, metadata={
        "theme": "Algorithm", "choices": (), "suggests": (), "metavar": "NAME=VALUE",
        "help": "Option of the algorithm that has no flag of its own, such as an option of your own algorithm; may be "
                "given several times. `fedsim algorithms` lists them."})

    aggregator: str = setting("Robustness", "mean",
        "How contributions are combined. All but mean and geometric-median give every car the same weight.",
        choices=tuple(AGGREGATORS))
    clip_norm: float | None = setting("Robustness", None,
        "Largest norm of a car's move, above 0: a longer move is shortened to it. Default: no limit.")
    attackers: int = setting("Robustness", 0, "Number of cars that send bad updates, drawn once.")
    attack: str | None = setting("Robustness", None,
        "What attackers send: their move, four times as long in the opposite direction; noise ten times as long; the "
        "move ten times as long; or what they learned from flipped labels. Default with --attackers: sign-flip.",
        choices=("sign-flip", "gaussian", "scale", "label-flip"))

    local_epochs: str = setting("Local training", "1",
        "Local epochs of a car in a round; or LEAST:MOST: then each car draws its own number in every round; or a "
        "number such as 0.25: then the next round goes on in the order of scenes where this one ends.",
        metavar="N|LEAST:MOST|X.Y")
    local_steps: int | None = setting("Local training", None,
        "Local steps of each car in a round, in place of --local-epochs; the next round goes on in the order of "
        "scenes where this one ends. To see as many pictures, central takes as many for each car, and central-wide "
        "takes larger ones. Default: by epochs.")
    batch_size: int = setting("Local training", 2, "Scenes in a local step.")
    optimizer: str = setting("Local training", "sgd",
        "Local optimiser; --momentum-across-rounds says what it starts a round with. adamw is adam whose weight decay "
        "is no part of the gradient.", choices=("sgd", "adam", "adamw"))
    lr: float = setting("Local training", 0.2, "Learning rate of the first round.")
    lr_schedule: str = setting("Local training", "cosine",
        "How the learning rate falls over the rounds: along half a cosine, as (1 - share of the rounds)^0.9, to a "
        "tenth after half and again after three quarters of them, or not at all.",
        choices=("cosine", "poly", "steps", "constant"))
    warmup: int = setting("Local training", 0,
        "Rounds at the beginning with a smaller learning rate, which rises by equal steps.")
    lr_floor: float = setting("Local training", 0.0, "Share of the learning rate that it falls to.")
    momentum: float = setting("Local training", 0.9, "Momentum of sgd, at least 0 and below 1.")
    momentum_across_rounds: str = setting("Local training", "none",
        "What momentum the local optimiser starts a round with: none starts anew; average combines the momenta of the "
        "round before and sends the result with theta; with own, each car goes on with its own; step takes the latest "
        "move of theta, per step (sgd only). Short rounds need one of these.",
        choices=("none", "average", "own", "step"))
    weight_decay: float = setting("Local training", 0.0,
        "Weight decay, of all parameters but biases and those of normalisation layers.")
    clip_gradient: float | None = setting("Local training", None,
        "Norm above which the gradient of a step is shortened to it. Default: no bound.")
    label_smoothing: float = setting("Local training", 0.0,
        "Share of a label that is spread over all classes in training, at least 0 and below 1.")
    augment: str = setting("Local training", "flip",
        "How scenes are varied in training: flip mirrors a scene with probability 1/2; standard also changes gamma, "
        "saturation, scale and crop; perturb also applies a driving perturbation with probability 1/2.",
        choices=tuple(AUGMENTATIONS))
    crop: str | None = setting("Local training", None,
        "Size in pixels of the part of a picture that is trained on, drawn anew each time; scores are of whole "
        "pictures. Default: whole pictures.", metavar="WIDTHxHEIGHT")
    scale_range: str | None = setting("Local training", None,
        "Smallest and largest size to which a picture is scaled in training, e.g. 0.5,2. Default: 1, and 0.75,1.5 with "
        "--augment standard.", metavar="LEAST,MOST")
    colour_jitter: float = setting("Local training", 0.0,
        "How much gamma and saturation change in training: between 1 / (1 + X) and 1 + X; 0.5 with --augment standard.")
    class_weights: str = setting("Local training", "sqrt-median-frequency",
        "Class weights of the loss, from the class frequencies over all cars.",
        choices=("none", "median-frequency", "sqrt-median-frequency"))

    model: str = setting("Model", "segnet-small",
        "Network: segnet-small, segnet-basic, segnet, torchvision:NAME, or one of your own, as "
        "mypackage.mymodule:MyNetwork.", suggests=("segnet-small", "segnet-basic", "segnet"),
        metavar="NAME|MODULE:NAME")
    model_option: Mapping[str, Any] = field(default_factory=dict, hash=False, metadata={
        "theme": "Model", "choices": (), "suggests": (), "metavar": "NAME=VALUE",
        "help": "Argument of a network of your own or of torchvision; may be given several times. A value is text, a "
                "number, a list, true, false or none."})
    aux_weight: float | None = setting("Model", None,
        "Weight of the loss of each of the auxiliary logits that a network of your own or of torchvision returns in "
        f"training. Default: {AUX_WEIGHT}.")
    init: str | None = setting("Model", None,
        "Weights to start from: the directory of a run, or a file of weights, .safetensors or a PyTorch state "
        "dictionary. Default: fresh ones, drawn from the seed.", metavar="RUN|FILE")
    freeze: tuple[str, ...] = field(default=(), metadata={
        "theme": "Model", "choices": (), "suggests": (), "metavar": "PREFIX",
        "help": "Part of the network, by the beginning of its name, that stays as it is and is not sent; may be given "
                "several times."})
    width: int | None = setting("Model", None,
        "Channels of a SegNet's first stage; the other stages change in proportion.")
    norm: str = setting("Model", "batch",
        "Normalisation layers: batch, or group, which needs no statistics of the batch.", choices=("batch", "group"))

    data: str = setting("Data", "streets",
        "Data set: streets is drawn by fedsim; camvid is read in any of three layouts; a drive of cityscapes is a "
        "city, a drive of cityscapes-sequences is a recorded sequence; folder is your own.", choices=tuple(SOURCES))
    data_root: str | None = setting("Data", None, "Folder of the data set. Default: data/NAME, or "
                                    "NAME in the folder FEDSIM_DATA.")
    classes: int | None = setting("Data", None,
        "Number of classes: 32 trains on all original classes of camvid, if the layout has them. Default: 11.")
    image_size: str | None = setting("Data", None,
        "Size in pixels of the pictures that the network sees; scores are at the labels' own size. Default: streets "
        "80x60, camvid 120x90, cityscapes 256x128, folder 120 wide.", metavar="WIDTHxHEIGHT")
    partition: str = setting("Data", "drive",
        "How scenes are dealt to cars: drive gives each car a drive (parts of one if there are more cars than "
        "drives); iid deals at random; with dirichlet a car prefers some classes, with classes it favours a few; "
        "quantity makes sizes follow a power law; condition is drive, with a driving condition for each car; FILE is "
        "a partition file of a run or of `fedsim data inspect`.",
        suggests=PARTITIONS, metavar="|".join((*PARTITIONS, "FILE")))
    alpha: float | None = setting("Data", None,
        "Skew of the partition; a smaller value makes cars more unequal. Default: 0.5 for dirichlet, 1 for quantity, "
        "2 for classes (the number of classes that a car favours).")
    hold_out_drive: str | None = setting("Data", None,
        "Drive of the training split that no car trains on, and that the model is scored on. Default: every drive is "
        "trained on.")
    eval_split: str | None = setting("Data", None,
        "Split that the model is scored on; held-out is the drive of --hold-out-drive. Default: held-out if there is "
        "such a drive, otherwise val.", choices=("train", "val", "test", HELD_OUT))
    evaluate_every: int = setting("Data", 1, "Rounds between scores; the last round is always scored.")

    out: str | None = setting("Machine", None, "Run directory, new or empty. Default: runs/ALGO-DATA-TIME.")
    device: str = setting("Machine", "auto",
        "Device: auto takes a CUDA device for every rank if there is one, otherwise the CPU.",
        choices=("auto", "cpu", "cuda"))
    backend: str = setting("Machine", "auto",
        "Communication: auto takes NCCL if every rank has a CUDA device of its own, otherwise gloo.",
        choices=("auto", "gloo", "nccl"))
    threads: int | None = setting("Machine", None,
        "CPU threads of a rank. Default: the cores, shared among the ranks of this machine.")
    car_states: str = setting("Machine", "auto",
        "Where cars keep their memory between rounds: in main memory; in memory-mapped files in the run directory "
        "(disk); or auto, which takes disk if main memory is too small.", choices=("auto", "memory", "disk"))
    timeout: float = setting("Machine", 600.0,
        "Seconds to wait for another rank before the run stops; more than the busiest rank trains in a round.")
    checkpoint_every: int = setting("Machine", 1, "Rounds between checkpoints; the last round always has one.")
    resume: str | None = setting("Machine", None,
        "Run directory of a run to continue from its latest checkpoint, to the same bits as if it had never stopped; "
        "--rounds may grow. auto continues the run in --out if there is one, and starts it otherwise. Default: a new "
        "run.", metavar="RUN|auto")

    def __post_init__(self) -> None:
        for one in fields(self):
            if one.name not in FLAGGED:  # `_spread_options` reads the options of methods
                object.__setattr__(self, one.name, convert(one, getattr(self, one.name)))
        object.__setattr__(self, "algo", registry.short_name(self.algo))
        self._spread_options()
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise SettingsError(f"{flag(name)} is {value!r}; choose from {', '.join(allowed)}")
        for name in ("cars", "rounds", "local_steps", "batch_size", "evaluate_every", "checkpoint_every"):
            _check(self, name, lambda value: value >= 1, "at least 1")
        _check(self, "width", lambda value: 1 <= value <= MOST_CHANNELS, f"at least 1 and at most {MOST_CHANNELS}")
        _check(self, "threads", lambda value: 1 <= value <= MOST_THREADS, f"at least 1 and at most {MOST_THREADS}")
        _check(self, "warmup", lambda value: value >= 0, "at least 0")
        _check(self, "colour_jitter", lambda value: 0 <= value <= 10, "at least 0 and at most 10")
        _check(self, "lr_floor", lambda value: 0 <= value <= 1, "at least 0 and at most 1")
        for name in ("lr", "alpha", "clip_norm", "clip_gradient"):
            _check(self, name, lambda value: 0 < value <= 1e38, "above 0 and at most 1e38")
        for name in ("weight_decay", "aux_weight"):
            _check(self, name, lambda value: 0 <= value <= 1e38, "at least 0 and at most 1e38")
        for name in ("momentum", "car_failures", "label_smoothing"):
            _check(self, name, lambda value: 0 <= value < 1, "at least 0 and below 1")
        _check(self, "timeout", lambda value: 0 < value <= 1e6, "above 0 and at most a million")
        _check(self, "participation", lambda value: 0 < value <= 1, "above 0 and at most 1")
        _check(self, "attackers", lambda value: value >= 0, "at least 0")
        least, most = self.epochs()
        # One text for each meaning: 3 for 3:3 and for 3.0.
        object.__setattr__(self, "local_epochs", f"{least}:{most}" if least < most else number_text(least))
        self.input_size(), self.crop_size(), self.scales()

    def _spread_options(self) -> None:
        """Check the options of methods by themselves; `option` may name those that are settings too."""
        own = {}
        for name, value in self.option.items():
            if name not in FLAGGED:
                own[name] = value
            elif getattr(self, name) is not None:
                raise SettingsError(f"--option {name} and {flag(name)} say the same: leave one of them out")
            else:
                object.__setattr__(self, name, value)
        object.__setattr__(self, "option", own)
        for name, option in FLAGGED.items():
            if (value := getattr(self, name)) is not None:
                try:
                    read = option.read(value)
                except BadOption as error:
                    raise SettingsError(error.typed) from error
                text = value if isinstance(read, str) or read is None else number_text(read)
                object.__setattr__(self, name, str(text) if option.words else read)

    def method_options(self) -> dict[str, Any]:
        """Return the options of methods that are set, by name."""
        return {name: value for name in FLAGGED if (value := getattr(self, name)) is not None} | dict(self.option)

    def epochs(self) -> tuple[float, float]:
        """Return the least and the most local epochs of a round. They are equal if the number is not a whole one."""
        whole = re.fullmatch(r"([1-9]\d{0,5}):([1-9]\d{0,5})", self.local_epochs)
        single = re.fullmatch(r"\d{1,6}(\.\d{0,9})?|\.\d{1,9}", self.local_epochs)
        least, most = map(int, whole.groups()) if whole else (float(self.local_epochs),) * 2 if single else (0, 0)
        if not 0 < least <= most:
            raise SettingsError(f"--local-epochs is {self.local_epochs}; it must be a number above 0, e.g. 2 or 0.25, "
                                "or LEAST:MOST, e.g. 1:5")
        return least, most

    def scored(self) -> Scored:
        """Return the scenes that the model is scored on."""
        return Scored(self.eval_split or ("val" if self.hold_out_drive is None else HELD_OUT), self.hold_out_drive)

    def input_size(self) -> tuple[int, int] | None:
        """Return the size of the pictures (width, height) in pixels; None for the data set's own size."""
        return read_size("image_size", self.image_size)

    def crop_size(self) -> tuple[int, int] | None:
        """Return the size (width, height) in pixels of what is trained on; None for whole pictures."""
        return read_size("crop", self.crop)

    def scales(self) -> tuple[float, float] | None:
        """Return the smallest and the largest scale of a picture in training; None if it is not scaled."""
        return read_range("scale_range", self.scale_range)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], origin: str) -> "CommonSettings":
        """Make settings from the values of a preset or a command line. Raises SettingsError for an unknown name."""
        known = [one.name for one in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            raise SettingsError(f"{origin}: unknown setting {unknown[0]!r}; known are {', '.join(known)}")
        try:
            return cls(**values)
        except SettingsError as error:
            raise SettingsError(f"{origin}: {error}") from error


def _merge_owners(name: str, by_owner: Mapping[str, Option]) -> Option:
    """Return the option that checks a value before it is known which method reads it."""
    first, *others = by_owner.values()
    assert all((other.kinds, other.choices) == (first.kinds, first.choices) for other in others), name
    return replace(first, words=tuple(dict.fromkeys(word for one in by_owner.values() for word in one.words)))


def _method_setting(name: str, option: Option, by_owner: Mapping[str, Option]) -> tuple[str, Any, Any]:
    """Return the setting that stands for an option of methods, as `make_dataclass` takes it."""
    defaults: dict[str, list[str]] = {}
    for owner, own in by_owner.items():
        defaults.setdefault(own.shown_default, []).append(owner)
    told = ", ".join(f"{default} with {', '.join(owners)}" for default, owners in defaults.items())
    kind = "str" if option.words or option.choices else option.kinds[-1].__name__
    metavar = "|".join((*option.words, "X")) if option.words else ""
    theme = "Robustness" if registry.is_of_aggregator(name) else "Algorithm"
    return name, f"{kind} | None", setting(theme, None, f"{option.help}  [default: {told}]", option.choices, metavar)


_OPTIONS = registry.flagged_options()
FLAGGED = {name: _merge_owners(name, by_owner) for name, by_owner in _OPTIONS.items()}

if TYPE_CHECKING:
    Settings = CommonSettings
else:
    # The options of methods become settings here: an algorithm that is added brings its own.
    Settings = make_dataclass("Settings", [_method_setting(name, FLAGGED[name], by_owner)
                                           for name, by_owner in _OPTIONS.items()],
                              bases=(CommonSettings,), frozen=True, kw_only=True)
    Settings.__module__ = __name__
    Settings.__doc__ = """All that decides what a run computes, and where it leaves its results.

    A setting that is None gets its value from the others. Here each setting is checked by itself; `compatible.check`
    checks that they go together.
    """
CHOICES: dict[str, tuple[str, ...]] = {one.name: one.metadata["choices"] for one in fields(Settings)
                                       if one.metadata["choices"]}


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read a TOML file of settings. Raises OSError, and ValueError if the file is not TOML."""
    try:
        return tomllib.loads(Path(read_path(path, "the settings file")).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _check(settings: CommonSettings, name: str, holds: Any, allowed: str) -> None:
    value = getattr(settings, name)
    if value is not None and not (math.isfinite(value) and holds(value)):
        raise SettingsError(f"{flag(name)} is {value}; it must be {allowed}")
