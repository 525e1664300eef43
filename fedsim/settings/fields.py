"""The settings of a run: one frozen dataclass, from which command line and presets are made."""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsim.data.partition import HELD_OUT, Scored
from fedsim.errors import SettingsError
from fedsim.losses.terms import read_terms, write_terms
from fedsim.options import BadOption, Option, flag, number_text
from fedsim.settings import registry
from fedsim.settings.conversion import convert, read_average, read_range, read_scales, read_size
from fedsim.settings.declared import Declared, setting
from fedsim.system.paths import read_path

MOST_THREADS = 1024
MOST_CHANNELS = 2**16  # of a network's first stage


@dataclass(frozen=True, kw_only=True)
class CommonSettings(Declared):
    """The settings that every method has, checked; `Settings` has the options of methods as well."""

    def __post_init__(self) -> None:
        for one in fields(self):
            if one.name not in FLAGGED:  # `_spread_options` reads the options of methods
                object.__setattr__(self, one.name, convert(one, getattr(self, one.name)))
        object.__setattr__(self, "algo", registry.short_name(self.algo))
        if self.precision == "float32":  # as without it: runs from before there was a choice go on
            object.__setattr__(self, "precision", None)
        object.__setattr__(self, "loss", write_terms(read_terms(self.loss)))
        self._spread_options()
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise SettingsError(f"{flag(name)} is {value!r}; choose from {', '.join(allowed)}")
        for name in ("cars", "rounds", "local_steps", "batch_size", "accumulate", "evaluate_every", "checkpoint_every",
                     "patience"):
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
        for name in ("momentum", "car_failures", "label_smoothing", "own_test"):
            _check(self, name, lambda value: 0 <= value < 1, "at least 0 and below 1")
        _check(self, "timeout", lambda value: 0 < value <= 1e6, "above 0 and at most a million")
        _check(self, "stop_at", lambda value: 0 < value <= 1, "above 0 and at most 1")
        _check(self, "participation", lambda value: 0 < value <= 1, "above 0 and at most 1")
        _check(self, "attackers", lambda value: value >= 0, "at least 0")
        least, most = self.epochs()
        # One text for each meaning: 3 for 3:3 and for 3.0.
        object.__setattr__(self, "local_epochs", f"{least}:{most}" if least < most else number_text(least))
        if (average := self.average()) is not None:
            # One text for each meaning, which is read again: 0.000000001 and not 1e-09.
            object.__setattr__(self, "average_weights", f"{average[0]}:{average[1]:.9f}".rstrip("0").rstrip("."))
        object.__setattr__(self, "test_scales", ",".join(map(number_text, read_scales(self.test_scales))))
        self.input_size(), self.crop_size(), self.scales(), read_size("tile", self.tile)

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

    def average(self) -> tuple[str, float] | None:
        """Return the kind of the average over rounds and its number; None if there is no average."""
        return read_average(self.average_weights)

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
