"""Values of settings from files and programs, converted to the setting's own type."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import Field
from typing import Any

from fedsim import own_code
from fedsim.errors import SettingsError
from fedsim.options import flag, read_value
from fedsim.system.paths import read_path

PATHS = ("data_root", "init", "partition", "out", "resume")  # the settings that may name a file or a folder
LISTS = ("freeze",)  # the settings that are lists of texts
TABLES = ("option", "model_option", "loss_option")  # the settings that are tables of values by name


def type_name(kind: Any) -> str:
    """Return the name of a setting's type, such as "int" or "int | None"."""
    return kind.__name__ if isinstance(kind, type) else str(kind)


def convert(one: "Field[Any]", value: Any) -> Any:
    """Convert a value from a file or a program to the setting's own type. Raises SettingsError.

    It also takes a number for local_epochs, which is a text, a whole number for a decimal one, NumPy's numbers, and a
    path for its text.
    """
    if value is None and one.default is None:
        return value
    value = value.item() if hasattr(value, "item") and not isinstance(value, type) else value
    kind, number = type_name(one.type).removesuffix(" | None"), type(value) in (int, float)
    if one.name in TABLES and isinstance(value, Mapping):
        return dict(value) if one.name == "option" else {
            str(key): _as_text(f"{flag(one.name)} {key}", said) for key, said in value.items()}
    if one.name in LISTS and isinstance(value, list | tuple | str):
        return _list_texts(one.name, (value,) if isinstance(value, str) else value)
    if one.name in own_code.NAMING and callable(value):
        return _name_code(one.name, value)
    if one.name == "local_epochs" and number:
        return str(value)
    if kind == "str" and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if kind == "float" and number and abs(value) < 1e300:
        return float(value)
    if type(value).__name__ != kind or (kind == "int" and abs(value) >= 2**63):
        expected = ("a table of options by name" if one.name in TABLES else
                    "a list of texts" if one.name in LISTS else "true or false" if kind == "bool" else kind)
        raise SettingsError(f"{flag(one.name)} is {value!r}; expected {expected}")
    return read_path(value, flag(one.name)) if one.name in PATHS else value


def _list_texts(setting: str, values: Iterable[Any]) -> tuple[str, ...]:
    """Return a list of texts in order, each once. Raises SettingsError."""
    for value in values:
        if not isinstance(value, str) or not value:
            raise SettingsError(f"{flag(setting)} has {value!r} among its values; expected text")
    return tuple(sorted({*values}))


def read_name(text: str) -> str:
    """Return the name of an option that is typed as NAME=VALUE."""
    return text.partition("=")[0].strip().replace("-", "_")


def _as_text(option: str, value: Any) -> str:
    """Return the value of an option as a user types it: one text for each value. Raises SettingsError."""
    read = read_value(value)
    if isinstance(read, str):
        return str(value)
    if read is None or isinstance(read, bool):
        return str(read).lower()
    if read_value(repr(read)) == read:
        return repr(read)
    raise SettingsError(f"{option} is {value!r}; it must be text, a number, a list, true, false or none")


def _name_code(setting: str, value: Any) -> str:
    """Return MODULE:NAME of a class or a function. Raises SettingsError if it has no such name."""
    name = own_code.name_of(value)
    if name is None:
        raise SettingsError(f"{flag(setting)} is {value!r}, which cannot be found under its name; define it at the top "
                            "of a module")
    return name


def read_size(setting: str, text: str | None) -> tuple[int, int] | None:
    """Return the width and the height that a text says; None if there is no text. Raises SettingsError."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", str(text))
    if not match:
        raise SettingsError(f"{flag(setting)} is {text!r}; write WIDTHxHEIGHT in pixels, e.g. 120x90")
    return int(match[1]), int(match[2])


def read_scales(text: str) -> tuple[float, ...]:
    """Return the numbers that a text says, each once and in order. Raises SettingsError."""
    texts = text.split(",") if isinstance(text, str) else []
    if not texts or not all(re.fullmatch(r"\d{1,2}(\.\d{0,6})?|\.\d{1,6}", one) and 0.1 <= float(one) <= 10
                            for one in texts):
        raise SettingsError(f"--test-scales is {text!r}; write numbers from 0.1 to 10 with commas between them, e.g. "
                            "0.75,1,1.25")
    return tuple(sorted({float(one) for one in texts}))


def read_average(text: str | None) -> tuple[str, float] | None:
    """Return the kind of average and its number that a text says; None if there is no text. Raises SettingsError."""
    if text is None:
        return None
    match = re.fullmatch(r"(ema|swa):(0?\.\d{1,9}|0)", text)
    if not match:
        raise SettingsError(f"--average-weights is {text!r}; write ema:DECAY or swa:SHARE with a number of at least 0 "
                            "and below 1, e.g. ema:0.998 or swa:0.75")
    return match[1], float(match[2])


def read_range(setting: str, text: str | None) -> tuple[float, float] | None:
    """Return the two numbers above 0 that a text says; None if there is no text. Raises SettingsError."""
    if text is None:
        return None
    number = r"(\d{1,3}(?:\.\d{0,6})?|\.\d{1,6})"
    match = re.fullmatch(f"{number},{number}", text)
    least, most = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    if not 0 < least <= most:
        raise SettingsError(f"{flag(setting)} is {text!r}; write LEAST,MOST, two numbers above 0, e.g. 0.5,2")
    return least, most
