"""The directory of a run: made once, never overwritten, everything needed to repeat the run in it.

<path>/
  config.toml        the resolved settings; a valid --config
  environment.json   versions, device, ranks, threads, data fingerprint, cars
  partition.json     which car has which scenes; a valid --partition
  metrics.jsonl      one JSON object a round
  tensorboard/       event files, see fedsim/record/tensorboard.py
  checkpoints/
  report/            figures and summary
"""

import json
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.errors import OutputError, RunError

SPLIT_FILE = "partition.json"


@dataclass(frozen=True)
class RunDirectory:
    """A run's directory. `create` makes a new one; `RunDirectory(path)` is one that exists already."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: dict, environment: dict, header: str) -> "RunDirectory":
        """Make `path` with config.toml, environment.json, an empty metrics.jsonl and empty subdirectories.

        `header` becomes the comment on top of config.toml: how to repeat the run. None stands for "not
        set" in `config` and is left out; `environment` is JSON-able.
        Raises OutputError, with nothing changed, where `path` holds anything or cannot be made.
        """
        import tomli_w

        comment = "".join(f"# {line.removeprefix('# ')}\n" for line in header.splitlines())
        files = {
            "config.toml": comment + "\n" + tomli_w.dumps(_for_toml(config)),
            "environment.json": json.dumps(environment, indent=2, ensure_ascii=False) + "\n",
            "metrics.jsonl": "",
        }
        run = cls(Path(path))
        made_path = make_empty(run.path)
        try:
            for name, text in files.items():
                # "x": of two runs started at once in one empty directory, the first file has one maker.
                with open(run.path / name, "x", encoding="utf-8") as file:
                    file.write(text)
            for directory in (run.tensorboard, run.checkpoints, run.report):
                directory.mkdir()
        except FileExistsError as error:
            raise _not_empty(run.path) from error
        except OSError as error:
            run._remove(files, made_path)
            raise _cannot_make(run.path, error) from error
        return run

    @property
    def metrics(self) -> Path:
        """One JSON object a round."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """For `tensorboard --logdir`."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """What a run is resumed from, and its weights."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """Figures and the summary."""
        return self.path / "report"

    def append(self, record: dict) -> None:
        """Write one round's record as the next line of metrics.jsonl; a reader sees it at once.

        Raises RunError naming the round where a number is not finite or the line cannot be written.
        """
        where = f"round {record['round']}, rank 0"
        for key, value in _numbers(record):
            if not math.isfinite(value):
                raise RunError(f"{where}: {key} is {value}; a smaller --lr usually helps")
        line = json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n"
        try:
            with open(self.metrics, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise RunError(f"{where}: cannot write {self.metrics} ({error.strerror})") from error

    def _remove(self, files: dict[str, str], made_path: bool) -> None:
        """Take back what `create` has made so far, and nothing of anybody else's."""
        for name in files:
            with suppress(OSError):
                (self.path / name).unlink()
        directories = [self.tensorboard, self.checkpoints, self.report]
        for directory in [*directories, self.path] if made_path else directories:
            with suppress(OSError):
                directory.rmdir()


def default_path(parent: str, name: str) -> Path:
    """Make <parent>/<name>-<YYYYmmdd-HHMMSS>, with -2, -3, … where that is taken, an empty directory.

    Made rather than only named: a hundred jobs of a cluster may start within one second.
    Raises OutputError where it cannot be made.
    """
    plain = re.sub(r"[^\w.-]+", "-", name)  # that of a user's own algorithm has a colon
    stem = f"{plain}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 1
    while True:
        path = Path(parent) / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.parent.mkdir(exist_ok=True)
            path.mkdir()
        except FileExistsError as error:
            if not path.parent.is_dir():  # a file called "runs"
                raise _cannot_make(path, error) from error
            number += 1
        except OSError as error:
            raise _cannot_make(path, error) from error
        else:
            return path


def read_metrics(path: Path) -> list[dict]:
    """The records of a metrics.jsonl, in order of writing.

    A last line without its line feed is left out: the run was killed while writing it.
    Raises OutputError naming the line that is not a JSON object, or the file that cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise OutputError(f"cannot read {path} ({error.strerror}); is it a run's metrics.jsonl?") from error
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise OutputError(f"{path}, line {number}, is not a JSON object ({error.msg})") from error
    return records


def make_empty(path: Path) -> bool:
    """Make a directory unless it is there, and empty; True where it was made. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
        return True
    except FileExistsError as error:
        if not path.is_dir():
            raise _cannot_make(path, error) from error
    except OSError as error:
        raise _cannot_make(path, error) from error
    try:
        if any(path.iterdir()):
            raise _not_empty(path)
    except OSError as error:
        raise _cannot_make(path, error) from error
    return False


def _not_empty(path: Path) -> OutputError:
    return OutputError(f"{path} already holds a run or other files; choose a new directory with --out")


def _cannot_make(path: Path, error: OSError) -> OutputError:
    reason = "a file is in the way" if isinstance(error, FileExistsError) else error.strerror
    return OutputError(f"cannot make the directory {path} ({reason}); choose another with --out")


def _for_toml(value: Any) -> Any:
    """The same without None, which TOML lacks, and with paths as text."""
    if isinstance(value, dict):
        return {key: _for_toml(inner) for key, inner in value.items() if inner is not None}
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every float of a record with its place, e.g. ("cars[2].loss", 0.7)."""
    if isinstance(value, float):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{key}[{index}]")
