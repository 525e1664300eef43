"""Settings of tiny runs by chance: pairs and triples of options, of every setting that there is.

Names and choices come from `Settings` and from the registries, so that what is added there is drawn too.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from fedsim.aggregation import AGGREGATORS
from fedsim.algorithms import ALGORITHMS
from fedsim.algorithms.server_optimizers import SERVER_OPTIMIZERS
from fedsim.data.partition import DEFAULT_ALPHA, HELD_OUT, PARTITIONS
from fedsim.options import Option, as_arguments
from fedsim.settings import registry
from fedsim.settings.fields import CHOICES, FLAGGED, Settings

OWN, OWN_NETWORK, OWN_LOSS = "own_pairs:Own", "own_pairs:Net", "own_pairs:tilted"
OWN_CODE = '''
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from fedsim.algorithms import Algorithm


class Net(nn.Module):
    """Returns a dictionary, which has auxiliary logits too if it is deep."""

    def __init__(self, num_classes, width=2, deep=False):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)
        self.head, self.side = (nn.Conv2d(width, num_classes, 1) for _ in range(2))
        self.side.requires_grad_(deep)
        self.deep = deep

    def forward(self, images):
        hidden = self.norm(self.stem(images)).relu()
        return {"out": self.head(hidden)} | ({"aux": self.side(hidden[:, :, ::2, ::2])} if self.deep else {})


def tilted(logits, labels, tilt=1.0, ignore_index=255):
    """Has an option, and no class weights."""
    return tilt * nn.functional.cross_entropy(logits, labels, ignore_index=ignore_index)


class State(NamedTuple):
    theta: Any
    rounds: int
    pull: float
    drift: Any


class Memory(NamedTuple):
    w: Any
    visits: int
    last: float | None


@dataclass(frozen=True)
class Own(Algorithm):
    """Has a state of all types: numbers, a vector of the coordinator's in float64, a memory of several parts."""

    beta: float = 0.5
    sticky: bool = False
    server_only = ("drift",)

    def init_shared(self, theta):
        return State(theta, 0, 0.0, theta.double() * 0)

    def init_memory(self, theta):
        return Memory(theta * 0, 0, None)

    def start(self, shared, memory):
        return memory.w if self.sticky and memory.visits else shared.theta

    def correction(self, w, shared, memory):
        return shared.pull * (w - shared.theta)

    def contribute(self, local, shared, memory):
        return local.w - shared.theta, Memory(local.w, memory.visits + 1, shared.pull)

    def update(self, shared, mean, participation):
        drift = self.beta * shared.drift + participation * mean
        return State(shared.theta + drift, shared.rounds + 1, shared.pull + 0.01, drift)
'''

ELSEWHERE = ("rounds", "out", "resume", "data_root")  # decided by what is played and where
# Values of the settings without choices. A setting that is not here, and has no choices, fails the test.
VALUES: Mapping[str, tuple[Any, ...]] = {
    "algo": (*registry.NAMES, OWN), "cars": (1, 2, 3, 5, 7), "participation": (0.3, 0.5, 0.75),
    "car_failures": (0.2, 0.5, 0.9), "seed": (1, 2**40), "clip_norm": (0.01, 1, 100), "attackers": (1, 2),
    "local_epochs": ("2", "1:2", "1:3", "0.3", "1.5"), "local_steps": (1, 3, 8), "batch_size": (1, 2, 5, 50),
    "accumulate": (1, 2, 3),
    "lr": (0.01, 0.05, 1, 1e3),
    "momentum": (0, 0.5), "weight_decay": (1e-3, 0.1), "model": ("segnet-basic", "segnet", "segnet-small", OWN_NETWORK),
    "width": (2, 3, 4, 8), "classes": (11, 32, 7), "image_size": ("32x24", "33x35", "48x32"),
    "partition": (*PARTITIONS, "split.json"), "alpha": (0.1, 1, 2), "evaluate_every": (1, 2, 3),
    "hold_out_drive": ("train0", "train3", "0001TP", "nowhere"), "own_test": (0, 0.25, 0.5),
    "stop_at": (0.01, 0.05, 0.9), "patience": (1, 2), "keep_best": (True, False),
    "threads": (1, 1, 1, 2), "timeout": (60,), "checkpoint_every": (1, 2, 3, 50),
    "option": ("kappa=2", "beta=0.9", "sticky=true"), "model_option": ("width=3", "deep=true"),
    "nesterov": (True, False), "compile": (False,),  # which takes minutes
    "crop": ("16x12", "24x16", "200x100"), "scale_range": ("0.5,2", "1,1"), "colour_jitter": (0.1, 1),
    "warmup": (0, 1, 3), "lr_floor": (0.1, 0.5), "clip_gradient": (0.1, 1), "label_smoothing": (0.1, 0.5),
    "loss": ("ohem", "focal", "dice+lovasz", "0.5*lovasz", OWN_LOSS), "loss_option": ("gamma=1", "keep=0.5", "tilt=2"),
    "average_weights": ("ema:0.9", "swa:0.5"), "test_scales": ("0.75,1", "1.5", "0.1"), "test_flip": (True, False),
    "tile": ("16x16", "20x999", "1x1"), "precision": ("float32", "bf16", "fp16"),
    "aux_weight": (0, 0.25, 1), "init": ("split", "split", "nowhere"), "freeze": ("encoder", "decoder.0", "nowhere"),
}
# What a value of a setting needs beside it, so that most of the combinations can be played.
PARTNERS: Mapping[str, Callable[[Any], Mapping[str, Any]]] = {
    "attack": lambda attack: {"attackers": 1}, "momentum": lambda momentum: {"optimizer": "sgd"},
    "nesterov": lambda on: {"optimizer": "sgd"},
    "batchnorm": lambda rule: {"norm": "batch"}, "server_optimizer": lambda name: {"algo": "avg"},
    "optimizer": lambda name: {"algo": "avg"} if name == "adam" else {},
    "option": lambda text: {"algo": "dyn" if "kappa" in text else OWN}, "classes": lambda number: {"data": "camvid"},
    "model": lambda name: {"image_size": "33x35", "width": None if name == OWN_NETWORK else 2},
    "model_option": lambda text: {"model": OWN_NETWORK, "width": None},
    "aux_weight": lambda weight: {"model": OWN_NETWORK, "width": None, "model_option": "deep=true"},
    "aggregator": lambda name: {"cars": 7} if "krum" in name else {},
    "eval_split": lambda split: {"hold_out_drive": "train1"} if split == HELD_OUT else {},
    "loss_option": lambda text: {"loss": {"g": "focal", "k": "ohem", "t": OWN_LOSS}[text[0]]},
    "norm": lambda name: {"batchnorm": None} if name == "group" else {},
}
METHODS = ("aggregator", "attack", "augment", "batchnorm", "car_states", "norm", "optimizer", "server_optimizer")
ROOTS = {"camvid": "camvid", "folder": "own", "cityscapes": "cityscapes"}  # data set -> its folder
SLOW = 0.03  # how often the slow data set of drawn streets is taken where it could be
PLAIN = {"algo": "avg", "data": "camvid", "cars": 4, "batch_size": 4, "image_size": "32x24", "width": 2, "threads": 1,
         "device": "cpu"}


def names() -> list[str]:
    """Return the settings that are drawn here."""
    return [one.name for one in fields(Settings) if one.name not in ELSEWHERE]


def value_of(name: str, chance: random.Random) -> Any:
    """Draw a value of a setting."""
    if name in VALUES:
        return chance.choice(VALUES[name])
    if name in CHOICES:
        return chance.choice([value for value in CHOICES[name] if value not in ("cuda", "nccl")])
    return _option_value(FLAGGED[name], chance)


def choose(chance: random.Random, folder: Path, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Draw some settings, and return them with those that every tiny run has.

    folder: where the data sets are. fixed: settings that are not drawn.
    """
    chosen: dict[str, Any] = dict(PLAIN)
    for name in chance.sample(sorted({*names()} - fixed.keys()), chance.choice([2, 2, 3, 3, 4, 6])):
        value = value_of(name, chance)
        if chance.random() < 0.93:
            chosen |= _partners(name, value, chance)
        chosen[name] = value
    if chosen["data"] == "streets" and chance.random() > SLOW:
        chosen["data"] = "camvid"
    if chosen["data"] in ROOTS:
        chosen["data_root"] = str(folder / ROOTS[chosen["data"]])
    if "classes" in chosen and chosen["classes"] > 11:
        chosen["data_root"] = str(folder / "fastai")
    if chosen.get("partition") == "split.json":
        del chosen["cars"]
    return {name: value for name, value in chosen.items() if value is not None} | dict(fixed)


def each_method() -> list[dict[str, Any]]:
    """Return every choice of what a run computes with and keeps, one by one, beside what it needs."""
    choices = {"algo": registry.NAMES} | {name: CHOICES[name] for name in METHODS}
    choices |= {name: (*option.words, *option.choices) for name, option in FLAGGED.items()
                if option.words or option.choices}
    return [{**_partners(name, value, random.Random(0)), name: value} for name, values in choices.items()
            for value in values]


def to_words(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as words of a command line."""
    return as_arguments(settings)


def _partners(name: str, value: Any, chance: random.Random) -> Mapping[str, Any]:
    if name == "alpha":
        return {"partition": "classes" if value == 2 else chance.choice([*DEFAULT_ALPHA])}
    if name not in FLAGGED:
        return PARTNERS.get(name, lambda value: {})(value)
    owner = chance.choice([*registry.flagged_options()[name]])
    if owner in SERVER_OPTIMIZERS:
        return {"algo": chance.choice(["avg", "prox", "nova", "scaffold"]), "server_optimizer": owner}
    return {"aggregator": owner, "cars": 7} if owner in AGGREGATORS else {
        "algo": owner if owner in ALGORITHMS else "scaffold"}


def _option_value(option: Option, chance: random.Random) -> Any:
    """Draw a word or a number that an option takes."""
    if option.words and chance.random() < 0.5:
        return chance.choice(option.words)
    numbers = [1, 0, 2] if int in option.kinds else [0.1, 1, 0.01, 0.4, 3, 0]
    return chance.choice([number for number in numbers
                          if option.bounds.get("above", -math.inf) < number < option.bounds.get("below", math.inf)
                          and option.bounds.get("at_least", -math.inf) <= number])
