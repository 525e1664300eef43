"""Which run a command goes on with, and whether it may."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedsim.data.partition import PARTITIONS, SPLIT_FILE
from fedsim.data.partition.dealt import Dealt
from fedsim.data.partition.split_file import read_cars
from fedsim.distributed.world import World
from fedsim.errors import DataError, OutputError, SettingsError
from fedsim.experiment.assembly import config, current_versions
from fedsim.experiment.past_run import PastRun
from fedsim.options import flag, options_of
from fedsim.record.overview import read_environment
from fedsim.settings import registry
from fedsim.settings.fields import Settings
from fedsim.settings.registry import check_own_code

# Settings that decide how long and where a run goes on, and not what it computes; what data is there, its digest tells.
FREE = ("rounds", "backend", "timeout", "car_states", "evaluate_every", "checkpoint_every", "device", "data_root")
OF_THE_COMMAND = ("resume", "out", "config")
ENVIRONMENT = {"device": str, "data": dict, "versions": dict}  # what is read of environment.json


def run_to_continue(settings: Settings) -> Path | None:
    """The directory of the run that is asked for; None for a new one. Raises OutputError, SettingsError.

    A group of ranks that torchrun has started again goes on with what it was doing.
    """
    if settings.resume == "auto":
        if settings.out is None:
            raise SettingsError("--resume auto goes on with the run in --out: name one")
        return Path(settings.out) if _is_run(Path(settings.out)) else None
    if settings.resume is not None:
        path = Path(settings.resume)
        if settings.out is not None and Path(settings.out).resolve() != path.resolve():
            raise SettingsError(f"--out is {settings.out}, but a run goes on where it is, in {path}: leave --out out")
        if not _is_run(path):
            raise OutputError(f"--resume {path}: there is no run in it (no config.toml); name the directory of a run")
        return path
    return _own_run(settings) if launch_id() else None


def launch_id() -> str | None:
    """The same in ranks that one torchrun has started, and started again; None without torchrun.

    Not its count of restarts: on several machines each counts those that its own ranks have caused. Not the name that
    it gives to the launch alone: that may be "none" for all.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"{name} {platform.node()} {os.getppid()}" if name else None


def continued(path: Path, given: Mapping[str, Any]) -> Settings:
    """The settings of a run that goes on. given: what the command line or its preset has asked for, by setting.

    Raises SettingsError where one of these would change the result.
    """
    settings = PastRun.open(path).settings
    check_own_code(settings.algo, given, f"{path / 'config.toml'}")
    if settings.partition not in PARTITIONS:
        settings = replace(settings, partition=str(path.resolve() / SPLIT_FILE))  # the run may have been moved
    asked = Settings(**{name: value for name, value in given.items() if name not in OF_THE_COMMAND})
    for name in given.keys() - {*OF_THE_COMMAND, *FREE}:
        was, wanted = getattr(settings, name), getattr(asked, name)
        if was != wanted and not _says_the_same(settings, name, was, wanted):
            raise SettingsError(f"{flag(name)} is {wanted}, but {path} was run with {was}, and that would change the "
                                f"result: leave {flag(name)} out, or start a new run")
    return replace(settings, out=str(path), **{name: getattr(asked, name) for name in given.keys() & set(FREE)})


def check_same(path: Path, world: World, dealt: Dealt, settings: Settings) -> list[str]:
    """Raise UserError where data or device are not those of the run; returns warnings of what else is not."""
    environment = read_environment(path)
    if not all(type(environment.get(name)) is kind for name, kind in ENVIRONMENT.items()):
        raise OutputError(f"{path / 'environment.json'} is missing or damaged; restore it, or start a new run")
    kind, now = environment["device"].split(":")[0], world.device.type
    if kind != now:
        raise SettingsError(f"--device: {path} was run on {kind}, and this is {now}, which rounds differently: start "
                            "a new run")
    data = {"train": dealt.train_set.fingerprint, settings.eval_split: dealt.eval_set.fingerprint}
    for split, fingerprint in data.items():
        if environment["data"].get(split) != fingerprint:
            raise DataError(f"the {split} scenes of {settings.data} are not those that {path} was run with; restore "
                            "them, or start a new run")
    versions, was_asked = environment["versions"], PastRun.open(path).settings.rounds
    grown = [f"--rounds is {settings.rounds} and was {was_asked}, so that the learning rate falls along another cosine "
             "from here on: the run becomes neither of the two"] if (
        settings.rounds != was_asked and settings.lr_schedule == "cosine") else []
    return grown + [f"{name} was {was} and is {is_now}: the last digits of results may change"
            for name, is_now in current_versions().items() if (was := versions.get(name)) != is_now]


def identity(settings: Settings, dealt: Dealt, device: str) -> str:
    """A digest of all that decides a run's result: its checkpoints carry it."""
    values = {name: value for name, value in config(settings).items() if name not in (*FREE, "partition")}
    names = dealt.train_set.names
    cars = [[shard.name, shard.condition, [names[index] for index in shard.indices]] for shard in dealt.shards]
    content = [values, dealt.train_set.fingerprint, device, cars]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _is_run(path: Path) -> bool:
    return os.path.isfile(path / "config.toml")


def _own_run(settings: Settings) -> Path | None:
    """The run that this launch has begun, or None if it has not come so far."""
    places = Path("runs").glob("*") if settings.out is None else [Path(settings.out)]
    begun = [path for path in places if _is_run(path) and read_environment(path).get("launch") == launch_id()]
    return max(begun, key=lambda path: (path / "config.toml").stat().st_mtime, default=None)


def _says_the_same(settings: Settings, name: str, was: Any, wanted: Any) -> bool:
    """Return whether two values of a setting mean the same although they are written differently.

    settings: of the run.
    """
    if name == "option":
        known = options_of(registry.algorithm_class(settings.algo))
        return all(option in known and known[option].read(value) == was.get(option, known[option].default)
                   for option, value in wanted.items())
    if name == "partition" and wanted not in PARTITIONS and was not in PARTITIONS:
        return _content(Path(wanted)) == _content(Path(was))
    return False


def _content(split: Path) -> list[tuple[str, str | None, list[str]]]:
    return [(car["name"], car.get("condition"), sorted(car["scenes"])) for car in read_cars(split)]
