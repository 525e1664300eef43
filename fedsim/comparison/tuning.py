"""Settings that are chosen by trying them: candidates from a grid, and their mIoUs."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fedsim.errors import SettingsError
from fedsim.options import BadOption, Option, flag, number_text, options_of, read_value
from fedsim.report.words import format_setting
from fedsim.settings import registry
from fedsim.settings.conversion import TABLES, read_name, type_name
from fedsim.settings.fields import FLAGGED, Settings

Candidate = tuple[tuple[str, Any], ...]  # settings that are tried together, (name, value) each
Grid = Mapping[str, Sequence[str]]  # name of a setting or an option -> the values to try, as they were typed

# Settings that can be tried although they are no options of a method: they say how a car trains.
TRIED = {setting.name: setting for setting in fields(Settings)
         if setting.metadata["theme"] == "Local training"}

READERS: Mapping[str, Callable[[str], Any]] = {"float": float, "int": int, "bool": read_value}


@dataclass(frozen=True)
class Tuning:
    """The candidates that every algorithm has tried, and the mIoU of each."""

    split: str
    # algorithm -> candidate -> final mIoU, None if the run failed; without algorithms that read nothing of the grid
    scores: Mapping[str, Mapping[Candidate, float | None]]

    def chosen(self, algo: str) -> Candidate | None:
        """Return the candidate with the highest mIoU, the lowest if there are several.

        It is empty if there was nothing to choose, and None if no candidate has a score.
        """
        if algo not in self.scores:
            return ()
        scored = {candidate: miou for candidate, miou in self.scores[algo].items() if miou is not None}
        return max(sorted(scored, key=_order), key=lambda candidate: scored[candidate], default=None)

    def at_edge(self, algo: str) -> list[str]:
        """Return the names whose chosen value is the lowest or highest one tried: a better one may lie beyond."""
        names = []
        for name, value in self.chosen(algo) or ():
            tried = [number for candidate in self.scores[algo] if (number := _as_number(dict(candidate)[name]))
                     is not None]
            if _as_number(value) is not None and _as_number(value) in (min(tried), max(tried)) and len({*tried}) > 1:
                names.append(name)
        return names


def read_grid(lrs: str | None, texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the values to try, by name, from `--lrs V,V` and `--grid NAME=V,V`. Raises SettingsError."""
    grid: dict[str, list[str]] = {}
    for option, text in [*([("--lrs", f"lr={lrs}")] if lrs is not None else []), *(("--grid", text) for text in texts)]:
        name, equals, values = text.partition("=")
        name, typed = name.strip().replace("-", "_"), [value.strip() for value in values.split(",")]
        if not (name and equals and all(typed)):
            raise SettingsError(f"{option} is {values if option == '--lrs' else text}; write values with commas "
                                f"between them, e.g. {'--lrs 0.1,0.2,0.4' if option == '--lrs' else '--grid mu=0.1,1'}")
        if name in grid:
            raise SettingsError(f"{set_by(name)} is tried twice; name all of its values in one option")
        if len(set(typed)) < 2:
            raise SettingsError(f"{option} needs at least two values to choose from; {set_by(name)} sets a "
                                "single one")
        grid[name] = typed
    return grid


def names_of(grid: Grid) -> list[tuple[str, str]]:
    """Return the names of the settings and options that the grid has values of, as `name_of` has them."""
    return [name_of(name, read_name(text)) if name in TABLES else ("", name) for name, texts in grid.items()
            for text in texts]


def name_of(table: str, name: str) -> tuple[str, str]:
    """Return the table of an option, and its name. An algorithm's options are tried by their names alone."""
    return "" if table == "option" else table, name


def candidates(algo: str, grid: Grid) -> list[Candidate]:
    """Return all combinations of the grid's values that an algorithm reads; empty if it reads nothing of the grid.

    Raises SettingsError for a value that a setting or an option does not take.
    """
    values = {name: [_convert(algo, name, text) for text in texts] for name, texts in grid.items() if reads(algo, name)}
    for name, found in values.items():
        if len(set(found)) < 2:
            raise SettingsError(f"{set_by(name)}: {', '.join(grid[name])} mean the same; name at least two values to "
                                "choose from")
    if not values:
        return []
    return [tuple(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]


def reads(algo: str, name: str) -> bool:
    """Return whether an algorithm reads a setting or an option."""
    return name in TRIED or name in _method_options(algo)


def set_by(name: str) -> str:
    """Return what a user types to give a setting or an option one value."""
    return flag(name) if name in TRIED or name in FLAGGED else f"--option {name}"


def with_candidate(settings: Mapping[str, Any], candidate: Candidate) -> dict[str, Any]:
    """Return settings with those of a candidate; an option without a flag of its own goes into `option`."""
    merged = dict(settings)
    for name, value in candidate:
        if name in TABLES:
            key, _, text = value.partition("=")
            merged[name] = {**merged.get(name, {}), key: text}
        elif name in TRIED or name in FLAGGED:
            merged[name] = value
        else:
            merged["option"] = {**merged.get("option", {}), name: value}
    return merged


def describe(candidate: Candidate) -> str:
    """Return a candidate in words: "lr 0.1, rho 0.01"."""
    return ", ".join(f"{name} {format_setting(value)}" for name, value in candidate)


def file_suffix(candidate: Candidate) -> str:
    """Return a candidate as part of a file's name: "-lr0.1-rho0.01"."""
    text = "".join(f"-{name}{format_setting(value)}" for name, value in candidate)
    return re.sub(r"[^\w.+-]+", "-", text)


def _method_options(algo: str) -> dict[str, Option]:
    kind = registry.algorithm_class(algo)
    server = options_of(registry.server_class(registry.COMBINATIONS.get(algo))) if kind.free_server_step else {}
    return server | options_of(kind)


def _convert(algo: str, name: str, text: str) -> Any:
    """Return a value as the setting or the option has it. Raises SettingsError."""
    if name in TABLES:
        key, equals, typed = text.partition("=")
        if not (key.strip() and equals):
            grid = f"--grid {name.replace('_', '-')}"
            raise SettingsError(f"{grid}: {text} is no value of {flag(name)}; write NAME=VALUE for each, e.g. "
                                f"{grid}=gamma=1,gamma=2")
        key = read_name(key)
        number = read_value(typed.strip())
        return f"{key}={number_text(number) if type(number) in (int, float) else typed.strip()}"
    if name in TRIED:
        kind = type_name(TRIED[name].type).removesuffix(" | None")
        try:
            value: Any = READERS.get(kind, str)(text)
        except ValueError as error:
            raise SettingsError(f"{flag(name)} is {text}; expected {kind}") from error
        return getattr(Settings(**{name: value}), name)
    option = FLAGGED.get(name) or _method_options(algo)[name]
    try:
        value = option.read(text)
    except BadOption as error:
        raise SettingsError(error.typed) from error
    if option.words:
        return text if value is None else number_text(value)
    return "none" if value is None and name not in FLAGGED else value  # as a setting's table has it, and a command line


def _order(candidate: Candidate) -> list[tuple[bool, float, str]]:
    """Return a key that sorts candidates by their values, words after numbers: an option may take both."""
    numbers = [_as_number(value) for _, value in candidate]
    return [(number is None, number or 0.0, str(value)) for number, (_, value) in zip(numbers, candidate, strict=True)]


def _as_number(value: Any) -> float | None:
    """Return a value as a number, that of gamma=2 too; None if it is a word."""
    try:
        return float(value.rpartition("=")[2] if isinstance(value, str) else value)
    except (TypeError, ValueError):
        return None
