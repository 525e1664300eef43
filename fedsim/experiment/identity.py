"""The identity of a run: all that decides its result, and whether a run that continues is still the same."""

import hashlib
import json
import platform
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedsim.data.partition.dealt import Dealt
from fedsim.distributed.world import World
from fedsim.errors import DataError, OutputError, SettingsError
from fedsim.experiment.past_run import PastRun
from fedsim.experiment.starting import Start
from fedsim.record.overview import read_environment
from fedsim.settings.fields import Settings
from fedsim.settings.viewing import NAMES as NAMES_OF_VIEW
from fedsim.version import __version__

# Settings that decide how long and where a run continues, but not what it computes. The data's own digests tell
# whether it is the same data.
FREE = ("rounds", "backend", "timeout", "car_states", "evaluate_every", "checkpoint_every", "device", "data_root",
        "stop_at", "patience", "keep_best")
# Settings that came after runs of this version had been stopped: at their defaults, such runs go on with them.
LATER = ("accumulate", "compile", "loss", "nesterov")
ENVIRONMENT = {"device": str, "data": dict, "versions": dict}  # the parts of environment.json that are compared


def config(settings: Settings) -> dict[str, Any]:
    """Return the settings as a preset that repeats the run, wherever it is written."""
    return {name: value for name, value in asdict(settings).items()
            if value not in (None, {}, ()) and name not in ("out", "resume")}


def current_versions() -> dict[str, str]:
    """Return the versions of the programs that compute."""
    return {"fedsim": __version__, "python": platform.python_version(), "torch": torch.__version__,
            "numpy": np.__version__}


def identity(settings: Settings, dealt: Dealt, start: Start | None, device: str) -> str:
    """Return a digest of all that decides a run's state, however it is scored. Every checkpoint carries it."""
    others = (*FREE, *NAMES_OF_VIEW, "partition", "own_test", "init")  # the first two say what the cars' scenes are
    defaults = {one.name: one.default for one in fields(Settings) if one.name in LATER}
    values = {name: value for name, value in config(settings).items()
              if name not in others and defaults.get(name) != value}
    if start is not None:
        values["init"] = start.digest
    names = dealt.train_set.names
    cars = [[shard.name, shard.condition, [names[index] for index in shard.indices]] for shard in dealt.shards]
    content = [values, dealt.train_set.fingerprint, device, cars]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_same(path: Path, world: World, dealt: Dealt, settings: Settings) -> list[str]:
    """Check that the run in `path` continues with the same data and kind of device.

    Returns warnings of differences that change its last digits. Raises UserError if the data or the kind of device is
    another.
    """
    environment = read_environment(path)
    if not all(type(environment.get(name)) is kind for name, kind in ENVIRONMENT.items()):
        raise OutputError(f"{path / 'environment.json'} is missing or damaged; restore it, or start a new run")
    kind, now = environment["device"].split(":")[0], world.device.type
    if kind != now:
        raise SettingsError(f"--device: {path} was run on {kind}, and this is {now}, which rounds differently: start "
                            "a new run")
    for split, fingerprint in dealt.fingerprints.items():
        if environment["data"].get(split) != fingerprint:
            raise DataError(f"the {split} scenes of {settings.data} are not those that {path} was run with; restore "
                            "them, or start a new run")
    versions, earlier = environment["versions"], PastRun.open(path)
    rounds_before, has_ended = earlier.settings.rounds, earlier.has_ended()
    warnings = [f"{name} was {was} and is {is_now}: the last digits of results may change"
                for name, is_now in current_versions().items() if (was := versions.get(name)) != is_now]
    warnings += other_gpus(environment.get("accelerators"), [own.kind for own in world.hardware if own.is_gpu])
    if settings.rounds > rounds_before and rounds_before % settings.evaluate_every and has_ended:
        warnings.insert(0, f"round {rounds_before} was scored because it was the last: a run of {settings.rounds} "
                        f"rounds from the start has no score there (--evaluate-every {settings.evaluate_every})")
    if settings.rounds != rounds_before and (settings.average_weights or "").startswith("swa"):
        warnings.insert(0, f"--rounds is {settings.rounds} and was {rounds_before}, so that the average of "
                        f"--average-weights {settings.average_weights} is over other rounds and begins anew")
    if settings.rounds != rounds_before and settings.lr_schedule != "constant":
        warnings.insert(0, f"--rounds is {settings.rounds} and was {rounds_before}, so that the learning rate falls "
                        f"along another {settings.lr_schedule} from here on: the run becomes neither of the two")
    return warnings


def other_gpus(before: Any, now: list[str]) -> list[str]:
    """Return a warning if a run goes on with GPUs of other kinds. before: of every rank, as environment.json has it."""
    was = sorted({str(kind) for kind in before}) if isinstance(before, list) else []
    if not was or was == sorted(set(now)):
        return []
    return [f"GPUs were {'; '.join(was)} and are {'; '.join(sorted(set(now)))}: the last digits of results may change"]
