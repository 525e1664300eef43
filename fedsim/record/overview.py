"""A run at a glance, read from its files without importing torch.

A thousand runs are listed in seconds. Nothing here raises an error: the overview of a damaged run tells the damage.
"""

import json
import os
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from fedsim.options import spread_options
from fedsim.own_code import options_that_say_it
from fedsim.system.files import is_locked

RUN_FILES = ("environment.json", "metrics.jsonl")  # a directory with one of them belongs to a run
REPEAT = "repeat with: "  # in the comment on top of config.toml


class ScoreSummary(NamedTuple):
    """The latest and the best score in a metrics.jsonl."""

    round: int  # the latest recorded one
    last: float | None  # mIoU of the latest evaluated round; None if no round was evaluated
    best: float | None
    best_round: int
    ended: bool  # whether a score has ended the run with the latest round, before its last one


@dataclass(frozen=True)
class Overview:
    """A run's settings, environment, scores and state."""

    path: Path
    settings: dict[str, Any]  # from config.toml; empty if it cannot be read
    environment: dict[str, Any]  # from environment.json; empty if it cannot be read
    repeat: str | None  # the command that repeats the run
    scores: ScoreSummary | None  # None if there is no record yet
    fault: str | None  # a sentence on the first damaged file
    changed: float  # when the latest record was written, in seconds since the epoch

    @classmethod
    def of(cls, path: Path) -> "Overview":
        """Read the overview of the run in the directory `path`."""
        settings, comment, faults = _config(path / "config.toml")
        environment = read_environment(path)
        scores = None
        try:
            scores = _scores(path / "metrics.jsonl")
        except _Damaged as error:
            faults.append(str(error))
        return cls(path, settings, environment, comment, scores, faults[0] if faults else None, _changed(path))

    @cached_property
    def state(self) -> str:
        """The state of the run: "running", "finished", "stopped" or "damaged"."""
        if self.fault:
            return "damaged"
        return "running" if is_locked(self.path / "lock") else "finished" if self.has_ended else "stopped"

    @property
    def has_ended(self) -> bool:
        """True if the run has played all rounds and written its models and, last of all, its summary."""
        played = self.scores is not None and type(self.rounds) is int and (
            self.scores.round >= self.rounds or self.scores.ended)
        return played and not self.fault and (self.path / "report" / "summary.md").exists()

    @property
    def standing(self) -> str:
        """The state, and after "damaged" the fault."""
        return f"{self.state}: {self.fault}" if self.fault else self.state

    @property
    def rounds(self) -> Any:
        """The number of rounds that the settings ask for; "?" if they cannot be read."""
        return self.settings.get("rounds", "?")

    @property
    def given(self) -> dict[str, Any]:
        """The settings that the user gave; the others have their defaults."""
        names = list_of_texts(self.environment, "given")
        return {name: value for name, value in self.settings.items() if name.split()[0] in names}

    @property
    def resume(self) -> str:
        """The command that goes on with the run."""
        ranks = self.environment.get("ranks")
        return (f"fedsim run --ranks {ranks if type(ranks) is int else 1} --resume {shlex.quote(str(self.path))}"
                f"{options_that_say_it(self.settings)}")


def find_runs(folder: Path) -> Iterator[Path]:
    """Find the directories of runs in a folder and all folders below it, but hidden ones and links."""
    for parent, folders, files in os.walk(folder):
        if any(name in files for name in RUN_FILES):
            folders.clear()
            yield Path(parent)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def read_environment(path: Path) -> dict[str, Any]:
    """Return the environment.json of the run in the directory `path`; an empty dict if it is missing or damaged."""
    try:
        read = json.loads((path / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def list_of_texts(values: dict[str, Any], key: str) -> list[str]:
    """Return the list under a key of an environment.json, as texts; an empty one if it has no such list."""
    found = values.get(key)
    return [str(text) for text in found] if isinstance(found, list) else []


class _Damaged(Exception):
    """A file that is not as the run wrote it."""


def _config(path: Path) -> tuple[dict[str, Any], str | None, list[str]]:
    """Return the settings in a config.toml, the command in the comment above them, and the faults."""
    try:
        text = path.read_text(encoding="utf-8")
        settings = tomllib.loads(text)
    except FileNotFoundError:
        return {}, None, ["it has no config.toml"]
    except (OSError, ValueError, RecursionError):
        return {}, None, ["config.toml cannot be read"]
    comment = [line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), text.splitlines())]
    repeat = [line.removeprefix(REPEAT) for line in comment if line.startswith(REPEAT)]
    return spread_options(settings), repeat[0] if repeat else None, []


def _scores(path: Path) -> ScoreSummary | None:
    """Return the scores in a metrics.jsonl, or None if it is empty. Raises _Damaged.

    Only the global score of a line is parsed, because the line may hold a thousand cars. The last line is parsed whole.
    """
    parse, last = json.JSONDecoder().raw_decode, ""
    found: dict[int, float] = {}  # round -> mIoU
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith("\n"):  # the run was killed while it wrote this line
                    break
                last, start = line, line.find('"global": ')
                scores = parse(line, start + len('"global": '))[0] if start >= 0 else None
                miou = scores.get("miou") if isinstance(scores, dict) else None
                if isinstance(miou, int | float):
                    found[number - 1] = miou
            record = json.loads(last) if last else None
    except FileNotFoundError as error:
        raise _Damaged("it has no metrics.jsonl") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _Damaged("metrics.jsonl cannot be read") from error
    if record is None:
        return None
    if not isinstance(record, dict) or type(record.get("round")) is not int:
        raise _Damaged("metrics.jsonl does not end with the record of a round")
    best = max(found, key=found.__getitem__, default=0)
    return ScoreSummary(record["round"], found[max(found)] if found else None, found.get(best), best,
                        "ended" in record)


def _changed(path: Path) -> float:
    """Return when the latest record was written, in seconds since the epoch; 0 if the directory is gone."""
    for name in ("metrics.jsonl", "."):
        try:
            return (path / name).stat().st_mtime
        except OSError:
            continue
    return 0.0
