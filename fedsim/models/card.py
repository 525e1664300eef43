"""The model card, which is stored as text with a network's weights.

It has all that is needed to build the network, to prepare its input, and to name and paint its classes. No stored code
is run.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from fedsim.classes import VOID, ClassTable
from fedsim.errors import OutputError, SettingsError
from fedsim.models import MOST_CHANNELS, NORMS, build_model, check_image_size
from fedsim.version import __version__

STANDARDISED = "each picture to mean 0 and deviation 1 in each channel, by its own mean and deviation"
RESIZED = ("to width x height: by the mean over the area of each new pixel (Pillow's BOX) if neither side grows, else "
           "by Pillow's BILINEAR; first along rows, then along columns")
LABELS = ("upsample logits to the picture's own size (bilinear, centres of pixels aligned, not corners), then take the "
          "class of the largest at each pixel")
MOST_PIXELS = 2**26  # of a network's input


@dataclass(frozen=True)
class ModelCard:
    """The description of a trained network: its structure, its input, its classes, and the run that trained it."""

    model: str  # a name that build_model knows
    width: int | None  # channels of the first stage; None for the network's own
    norm: str
    input_size: tuple[int, int]  # (width, height) in pixels
    classes: ClassTable
    settings: Mapping[str, Any]  # of the run that trained it
    version: str = __version__  # of the program that trained it
    options: Mapping[str, str] = field(default_factory=dict)  # arguments of the network

    @property
    def algo(self) -> str:
        """The algorithm that trained the network."""
        return str(self.settings.get("algo", "unknown"))

    def network(self) -> nn.Module:
        """Build the network with fresh weights."""
        return build_model(self.model, len(self.classes), self.width, self.norm, self.options)

    def metadata(self) -> dict[str, str]:
        """Return the card as metadata of a file of weights."""
        width, height = self.input_size
        classes = [{"name": name, "colour": colour} for name, colour in
                   zip(self.classes.names, self.classes.colours, strict=True)]
        return {
            "fedsim": self.version,
            "network": json.dumps({"model": self.model, "width": self.width, "norm": self.norm} | (
                {"options": dict(self.options)} if self.options else {})),
            "input": json.dumps({"width": width, "height": height, "channels": "RGB", "resized": RESIZED,
                                 "standardised": STANDARDISED}),
            "output": json.dumps({"labels": LABELS}),
            "classes": json.dumps(classes, ensure_ascii=False),
            "void_colour": json.dumps(self.classes.void_colour),
            "settings": json.dumps(self.settings, ensure_ascii=False),
        }

    @classmethod
    def read(cls, metadata: Mapping[str, str], path: Path) -> "ModelCard":
        """Read the card of a file of weights. Raises OutputError if the file has no card or a damaged one."""
        if not {"fedsim", "network", "input", "classes"} <= metadata.keys():
            raise OutputError(f"{path} has no model card, so its network is unknown; take a file of weights "
                              "that a run of fedsim has written")
        parts = {part: _part(metadata, part, path) for part in _READERS}
        model, width, norm, options = parts["network"]
        names, colours = parts["classes"]
        try:
            check_image_size(model, parts["input"])
        except SettingsError as error:
            raise _damaged(path, "its network cannot see pictures of its input's size") from error
        return cls(model, width, norm, parts["input"], ClassTable(names, colours, parts["void_colour"]),
                   parts["settings"], metadata["fedsim"], options)


def _part(metadata: Mapping[str, str], part: str, path: Path) -> Any:
    """Read a part of a card. Raises OutputError if it is damaged."""
    try:
        return _READERS[part](json.loads(metadata[part]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise _damaged(path, f"its {part} cannot be read ({reason})") from error


def _damaged(path: Path, why: str) -> OutputError:
    return OutputError(f"the model card of {path} is damaged: {why}; get the file anew")


def _network(value: Any) -> tuple[str, int | None, str, dict[str, str]]:
    width = None if value["width"] is None else _number(value["width"], 1, MOST_CHANNELS)
    if value["norm"] not in NORMS:
        raise ValueError(f"norm must be {' or '.join(NORMS)}")
    options = {_text(name): _text(one) for name, one in _settings(value.get("options", {})).items()}
    return _text(value["model"]), width, value["norm"], options


def _input(value: Any) -> tuple[int, int]:
    width, height = _number(value["width"], 1, MOST_PIXELS), _number(value["height"], 1, MOST_PIXELS)
    return width, _number(height, 1, MOST_PIXELS // width)


def _classes(value: Any) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    names = tuple(_text(one["name"]) for one in value)
    if not 1 <= len(names) <= VOID or len(set(names)) < len(names):
        raise ValueError(f"there must be 1 to {VOID} names, each once")
    return names, tuple(_colour(one["colour"]) for one in value)


def _colour(value: Any) -> tuple[int, int, int]:
    red, green, blue = value
    return _number(red, 0, 255), _number(green, 0, 255), _number(blue, 0, 255)


def _settings(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("there must be names with values")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"there must be text instead of {value!r}")
    value.encode()  # raises ValueError if it cannot be printed
    return value


def _number(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"there must be a whole number from {least} to {most} instead of {value!r}")
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "network": _network, "input": _input, "classes": _classes, "void_colour": _colour, "settings": _settings,
}
