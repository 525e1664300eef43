"""Options of a method: the fields of its dataclass, with bounds and help.

A method is an algorithm, a server optimiser or an aggregator. Every field of its dataclass is an option, with or
without `option`, so a user's own algorithm has options too:

>>> @dataclasses.dataclass(frozen=True)
... class Mine:
...     beta: float = option(0.5, "Weight of the old direction.", at_least=0, below=1)
...     start: Literal["global", "own"] = "global"
>>> make(Mine, {"beta": "0.9"})
Mine(beta=0.9, start='global')
>>> make(Mine, {"beta": 1.5})
Traceback (most recent call last):
fedsim.options.BadOption: beta is 1.5; it must be a number at least 0 and below 1
"""

import ast
import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

NUMBERS = (int, float)
WORDS = {"none": None, "true": True, "false": False}


class BadOption(ValueError):
    """A value that an option does not take."""

    def __init__(self, option: "Option", value: Any) -> None:
        super().__init__(f"{option.field} is {value!r}; it must be {option.allowed}")
        self.typed = f"{option.typed} is {value}; it must be {option.allowed}"  # with the option as a user types it


@dataclass(frozen=True)
class Option:
    """An option of a method."""

    name: str  # of the setting: mu for --mu; by default the field's
    field: str
    default: Any
    kinds: tuple[type, ...]  # of int, float, str and bool
    choices: tuple[str, ...] = ()  # the only words that it takes
    optional: bool = False  # may be None
    words: tuple[str, ...] = ()  # words that stand for None; without them, "none" does
    flag: bool = False  # has a flag of its own on the command line, --name; otherwise --option name=value
    help: str = ""
    default_text: str = ""  # what the default None means
    bounds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def typed(self) -> str:
        """The option as a user types it."""
        return flag(self.name) if self.flag else f"--option {self.name}"

    @property
    def allowed(self) -> str:
        """The values that it takes, in words."""
        limits = " and ".join(f"{BOUNDS[name]} {bound:g}" for name, bound in self.bounds.items())
        numbers = [kind for kind in self.kinds if kind in NUMBERS]
        number = ("a whole number" if numbers == [int] else "a number") + (f" {limits}" if limits else "")
        found = [*self.words, *self.choices]
        found += ["none"] if self.optional and not self.words and not self.default_text else []
        found += ["true", "false"] if bool in self.kinds else []
        found += [number] if numbers else []
        found += ["text"] if str in self.kinds and not self.choices else []
        return " or ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)

    def read(self, value: Any) -> Any:
        """Return a value, or the text that stands for one, as the field's own type. Raises BadOption."""
        if self.optional and (value is None or value in (self.words or ("none",))):
            return None
        found = _number(value, self.kinds) if not isinstance(value, bool) else None
        if found is not None and all(HOLDS[name](found, bound) for name, bound in self.bounds.items()):
            return found
        if bool in self.kinds and str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        if isinstance(value, str) and str in self.kinds and (not self.choices or value in self.choices):
            return value
        raise BadOption(self, value)

    def word(self, value: Any) -> Any:
        """Return a value of the field as a setting has it: None as the word that stands for it, if one does."""
        return next(iter(self.words), None) if value is None else value

    @property
    def shown_default(self) -> str:
        """The default as a table shows it; empty if there is nothing to say."""
        if self.default is None:
            return self.default_text or next(iter(self.words), "")
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


BOUNDS = {"above": "above", "at_least": "at least", "below": "below", "at_most": "at most"}
HOLDS: Mapping[str, typing.Callable[[float, float], bool]] = {
    "above": lambda value, bound: value > bound, "at_least": lambda value, bound: value >= bound,
    "below": lambda value, bound: value < bound, "at_most": lambda value, bound: value <= bound}


def option(default: Any, help: str, *, name: str | None = None, words: tuple[str, ...] = (), default_text: str = "",
           flag: bool = True, **bounds: float) -> Any:
    """Make a dataclass field that is an option with help and bounds.

    name: the name of the setting, if the field's own says too little beside those of other methods. words: what a
    user may type for None. default_text: what the default None means. flag: whether it has a flag of its own on the
    command line, --name, beside --option name=value. bounds: above, at_least, below, at_most.
    """
    assert bounds.keys() <= BOUNDS.keys(), f"bounds are {', '.join(BOUNDS)}"
    return field(default=default, metadata={"name": name, "help": help, "words": words, "default_text": default_text,
                                            "flag": flag, "bounds": bounds})


def options_of(method: type) -> dict[str, Option]:
    """Return the options of a method by the names of their settings; no options if it is not a dataclass.

    Raises TypeError if a field has a type that cannot be typed as an option.
    """
    if not dataclasses.is_dataclass(method):
        return {}
    hints = typing.get_type_hints(method)
    found = [_option(one, hints[one.name]) for one in dataclasses.fields(method) if one.init]
    return {one.name: one for one in found}


def make(method: type, values: Mapping[str, Any]) -> Any:
    """Make a method with the options that `values` names; the others keep their defaults.

    Raises BadOption if an option does not take its value, and whatever the method's own check raises.
    """
    options = options_of(method)
    return method(**{options[name].field: options[name].read(value) for name, value in values.items()})


def check(method: Any) -> None:
    """Raise BadOption if a field of a method that was made in Python is out of its bounds."""
    for one in options_of(type(method)).values():
        one.read(getattr(method, one.field))


def as_arguments(values: Mapping[str, Any]) -> list[str]:
    """Return the command line that asks for these settings; a setting that is None was not given.

    >>> as_arguments({"lr": 0.1, "mu": None, "nesterov": True, "option": {"beta": 0.5}})
    ['--lr', '0.1', '--nesterov', '--option', 'beta=0.5']
    """
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            value = tuple(f"{option}={one}" for option, one in value.items())
        for one in value if isinstance(value, tuple) else () if value is None else (value,):
            words += [switch(name, one)] if isinstance(one, bool) else [flag(name), str(one)]
    return words


def read_value(value: Any) -> Any:
    """Return what an option's text stands for: a number, a list, none, true or false; otherwise the text itself.

    >>> [read_value(text) for text in ("resnet18", "0.5", "[2, 2]", "none", "true", "'none'")]
    ['resnet18', 0.5, [2, 2], None, True, 'none']
    """
    if not isinstance(value, str):
        return value
    if value.lower() in WORDS:
        return WORDS[value.lower()]
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        return ast.literal_eval(value)
    return value


def number_text(value: float) -> str:
    """Return the shortest text that reads back to the same number: one text for each number, in files and names.

    >>> [number_text(value) for value in (0.10, 1.0, 1e30, 0.30000000000000004, 3)]
    ['0.1', '1', '1e+30', '0.30000000000000004', '3']
    """
    return repr(value).removesuffix(".0")


def spread_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings for tables and pages: each value of a table as "option NAME", and lists as text.

    >>> spread_options({"lr": 0.1, "option": {"beta": 0.5}, "freeze": ["encoder", "head"]})
    {'lr': 0.1, 'freeze': 'encoder, head', 'option beta': 0.5}
    """
    tables = {table: value for table, value in settings.items() if isinstance(value, Mapping)}
    others = {name: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
              for name, value in settings.items() if name not in tables}
    return others | {f"{table} {name}": value for table, values in tables.items() for name, value in values.items()}


def flag(setting: str) -> str:
    """Return the flag of a setting: --local-epochs for local_epochs."""
    return "--" + setting.replace("_", "-")


def switch(setting: str, on: bool) -> str:
    """Return the flag that turns a setting on or off: --nesterov or --no-nesterov."""
    return flag(setting) if on else flag(f"no_{setting}")


def _option(one: "dataclasses.Field[Any]", hint: Any) -> Option:
    kinds, choices, optional = _kinds(one.name, hint)
    told = dict(one.metadata)
    return Option(told.pop("name", None) or one.name, one.name, one.default, kinds, choices, optional, **told)


def _kinds(name: str, hint: Any) -> tuple[tuple[type, ...], tuple[str, ...], bool]:
    """Return the types that a field takes, the only words that it takes, and whether it may be None."""
    if typing.get_origin(hint) is Literal:
        return (str,), tuple(map(str, typing.get_args(hint))), False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [_kinds(name, part) for part in typing.get_args(hint) if part is not type(None)]
        kinds = tuple(kind for own, _, _ in parts for kind in own)
        return kinds, tuple(word for _, own, _ in parts for word in own), type(None) in typing.get_args(hint)
    if hint not in (int, float, str, bool):
        raise TypeError(f"option {name} has the type {hint}; an option is a number, text, true or false, or a Literal")
    return (hint,), (), False


def _number(value: Any, kinds: tuple[type, ...]) -> Any:
    """Return the finite number that a value is or stands for, of the first of the types that fits; else None."""
    if hasattr(value, "item"):  # NumPy's
        value = value.item()
    for kind in (int, float):
        if kind in kinds and isinstance(value, str | int | kind):
            try:
                found = kind(value)
            except (ValueError, OverflowError):
                continue
            if math.isfinite(found) and (isinstance(value, str) or found == value):
                return found
    return None
