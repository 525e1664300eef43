"""Runs that continue: which run a command means, and the settings that it continues with."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fedsim.data.partition import PARTITIONS
from fedsim.data.partition.split_file import KEYS, read_cars, read_named_cars, scenes_of
from fedsim.errors import DataError, OutputError, SettingsError
from fedsim.experiment.identity import FREE
from fedsim.experiment.past_run import PastRun
from fedsim.options import flag, options_of, read_value, switch
from fedsim.own_code import check_said
from fedsim.record.overview import Overview, read_environment
from fedsim.record.part_files import digest_of
from fedsim.record.run_directory import find_weights
from fedsim.settings.fields import Settings
from fedsim.settings.methods import make_methods
from fedsim.system.launchers import PARENT

OF_THE_COMMAND = ("resume", "out", "config")  # options that name a place, and do not belong to the run itself

_starts: Counter[str] = Counter()  # of runs in this process, by what was asked for


def run_to_continue(settings: Settings, launch: str | None = None) -> Path | None:
    """Return the directory of the run to continue; None for a new run. Raises OutputError, SettingsError.

    Ranks that torchrun has started again continue the run that they were playing. launch: as by `name_launch`.
    """
    if settings.resume == "auto":
        if settings.out is None:
            raise SettingsError("--resume auto goes on with the run in --out: name one")
        return Path(settings.out) if _is_run(Path(settings.out)) else None
    if settings.resume is not None:
        path = Path(settings.resume)
        if settings.out is not None and Path(settings.out).resolve() != path.resolve():
            raise SettingsError(f"--out is {settings.out}, but a run continues in its own directory, {path}: "
                                "leave --out out")
        if not _is_run(path):
            raise OutputError(f"--resume {path}: there is no run in it (no config.toml); name the directory of a run")
        return path
    return _find_own_run(settings, launch) if launch else None


def name_launch(given: Mapping[str, Any]) -> str | None:
    """Return a name for this start of a run, which it has again after torchrun has restarted its ranks.

    No other start has it: not that of another launch, although machines and torchrun use names and numbers again, and
    not the next one of a program that starts several runs. Every call counts as a start. Without torchrun the name is
    None.

    torchrun's count of restarts would not do: on several machines, each machine counts only the restarts that its own
    ranks have caused. given: the settings that the user gave.
    """
    launch = os.environ.get("TORCHELASTIC_RUN_ID")
    if not launch:
        return None
    asked = json.dumps(dict(given), sort_keys=True, default=str)
    _starts[asked] += 1
    return digest_of(os.fsencode(f"{launch} {PARENT} {asked} {_starts[asked]}"))


def settings_to_continue(path: Path, given: Mapping[str, Any]) -> Settings:
    """Return the settings of a run that continues.

    given: what the command line or its preset asks for, by setting. Raises SettingsError if one of these would change
    the result.
    """
    settings = PastRun.open(path).settings_here
    check_said(settings, given, f"{path / 'config.toml'}")
    asked = Settings(**{name: value for name, value in given.items() if name not in OF_THE_COMMAND})
    for name in [one.name for one in fields(Settings) if one.name in given.keys() - {*OF_THE_COMMAND, *FREE}]:
        said, was, wanted = flag(name), getattr(settings, name), getattr(asked, name)
        if name == "option":
            said, was, wanted = _first_other_option(settings, wanted)
        if name in ("model_option", "loss_option"):
            said, was, wanted = _first_other(flag(name), was, wanted)
        if was != wanted and not _says_the_same(name, was, wanted):
            if isinstance(wanted, bool):
                raise SettingsError(f"{switch(name, wanted)} is given, but {path} was run with {switch(name, was)}, "
                                    "and that would change the result: leave it out, or start a new run")
            earlier = "without it" if was is None else f"with {was}"
            raise SettingsError(f"{said} is {wanted}, but {path} was run {earlier}, and that would change the result: "
                                f"leave {said} out, or start a new run")
    return replace(settings, out=str(path), **{name: getattr(asked, name) for name in given.keys() & set(FREE)})


def _is_run(path: Path) -> bool:
    return os.path.isfile(path / "config.toml")


def _find_own_run(settings: Settings, launch: str) -> Path | None:
    """Return the run that this launch has begun; None if it has not made a directory yet.

    A run that has ended is continued only if torchrun says that it has restarted the ranks: its report may be missing.
    """
    folders = Path("runs").glob("*") if settings.out is None else [Path(settings.out)]
    begun = [path for path in folders if _is_run(path) and read_environment(path).get("launch") == launch
             and (_is_restarted() or not Overview.of(path).has_ended)]
    return max(begun, key=lambda path: (path / "config.toml").stat().st_mtime, default=None)


def _is_restarted() -> bool:
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")


def _first_other_option(settings: Settings, wanted: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """Return the first option that differs from the run's, as a user types it, with its values before and now.

    settings: the settings of the run. wanted: values of options by name. The two values are equal if no option differs.
    Raises SettingsError if the algorithm has no such option, or if an option does not take its value.
    """
    before, now = (make_methods(replace(settings, option={**settings.option, **more})) for more in ({}, wanted))
    known = {name: option for part in now for name, option in options_of(type(part)).items()}
    was, will_be = (methods.resolve(settings)["option"] for methods in (before, now))
    pairs = [(f"--option {name}", *(values.get(name, known[name].default) for values in (was, will_be)))
             for name in wanted]
    return next((pair for pair in pairs if pair[1] != pair[2]), ("--option", None, None))


def _first_other(table: str, had: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """Return the first option of a table that differs from the run's, with its values before and now.

    table: as a user types it, such as --model-option.
    """
    other = next((name for name, value in wanted.items() if read_value(had.get(name)) != read_value(value)), None)
    return f"{table} {other}", had.get(str(other)), wanted.get(str(other))


def _says_the_same(name: str, was: Any, wanted: Any) -> bool:
    """Return whether two values of a setting mean the same although they are written differently."""
    if name == "partition" and wanted not in PARTITIONS and was not in PARTITIONS:
        return _deals_the_same(Path(was), Path(wanted))
    if name == "init" and was is not None:  # the run's own copy of what it has taken over
        start = read_environment(Path(was).parent).get("start")
        return isinstance(start, dict) and str(find_weights(Path(wanted)).resolve()) == start.get("source")
    return False


def _deals_the_same(was: Path, wanted: Path) -> bool:
    """Return whether a partition file deals the scenes of a run, whose own copy of its file is `was`."""
    own = read_cars(was)
    try:
        theirs = read_named_cars(wanted, [scene for car in own for scene in scenes_of(car)])
    except DataError:  # other pictures
        return False
    if {car["name"]: sorted(scenes_of(car)) for car in own} != {
            car["name"]: sorted(scenes_of(car)) for car in theirs}:
        return False
    if PastRun.open(was.parent).settings.own_test is not None:  # which decides what is held out, whatever the file says
        return _list_content(own, ["condition"]) == _list_content(theirs, ["condition"])
    return _list_content(own, KEYS) == _list_content(theirs, KEYS)


def _list_content(cars: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[list[Any]]:
    """Return these parts of the cars of a partition file, lists of scenes in an order that does not depend on it."""
    return [[sorted(value) if isinstance(value := car.get(key) or None, list) else value for key in keys]
            for car in cars]
