"""The directory of a run: made once, never overwritten, everything needed to repeat the run in it.

<path>/
  config.toml        the resolved settings; a valid --config
  environment.json   versions, device, ranks, threads, data fingerprint, cars
  partition.json     which car has which scenes; a valid --partition
  metrics.jsonl      one JSON object a round
  tensorboard/       event files, see fedsim/report/tensorboard/board.py
  checkpoints/       what the run is continued from, see fedsim/record/checkpoints.py, and weights
  lock               held by the process that works on the run
  report/            figures and summary
"""

import json
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import IO, Any

from fedsim.data.partition import SPLIT_FILE
from fedsim.errors import OutputError, RunError
from fedsim.record.metrics_file import as_line, check_records, numbers, read_metrics
from fedsim.system.files import beside, lock, write_whole

LOCK = "lock"
WAITS = (0.02, 0.1)  # seconds: whoever only asks holds a lock for a moment
CAR = re.compile(r"car-(\d+)-")  # the name of a car's own model
PART = re.compile(r"(?:global|car-\d{5,})-\d{6,}\.safetensors")  # of a checkpoint: no model
FIRST_FILES = ("environment.json", "metrics.jsonl", SPLIT_FILE, beside(Path("config.toml")).name)
FOLDERS = ("tensorboard", "checkpoints", "report")


@dataclass(frozen=True)
class RunDirectory:
    """A run's directory. `create` makes a new one; `RunDirectory(path)` is one that exists already."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: dict, environment: dict, header: str,
               write_others: Callable[[Path], None] = lambda folder: None) -> "RunDirectory":
        """Make `path` with config.toml, environment.json, an empty metrics.jsonl and empty subdirectories.

        `write_others` adds a partition.json. config.toml comes last: a directory with one is complete, and what a start
        that was killed before it has left is cleared away by the next. The lock is held meanwhile, and free afterwards.

        `header` becomes the comment on top of config.toml: how to repeat the run. None stands for "not
        set" in `config` and is left out; `environment` is JSON-able.
        Raises OutputError, with nothing changed, where `path` holds anything, cannot be made, or is just being made by
        another process.
        """
        comment = "".join(f"# {line.removeprefix('# ')}\n" for line in header.splitlines())
        run = cls(Path(path))
        made_path = not run._is_free() and make_empty(run.path)
        try:
            with run.lock():  # of starts in one directory at once, one looks and writes
                if not run._is_free():
                    raise not_empty(run.path)
                run._clear()
                run._fill(environment, write_others, _config_text(comment, config))
        except BaseException:
            if made_path:
                with suppress(OSError):  # another's by now
                    run.path.rmdir()
            raise
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """The directory of a run that is there. Raises OutputError where `path` is none."""
        if not (path / "config.toml").is_file():
            raise OutputError(f"{path} is no run directory: there is no config.toml in it")
        return cls(path)

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

    @property
    def summary(self) -> Path:
        """What the run came to, written last."""
        return self.report / "summary.md"

    def weights(self) -> list[Path]:
        """The file of the run's global model; where it has none, those of its cars' own, by car. Raises OutputError."""
        folder = self.checkpoints
        own = folder / "model.safetensors"
        if own.exists():
            return [own]
        numbers = {path: int(found[1]) for path in folder.glob("car-*.safetensors")
                   if (found := CAR.match(path.name)) and not PART.fullmatch(path.name)}
        if not numbers:
            raise OutputError(f"{folder} holds no weights: the run has not ended; let it end, or run it again")
        return sorted(numbers, key=lambda path: numbers[path])

    def update(self, config: dict) -> None:
        """Replace the settings of a run that goes on with others. Raises OutputError."""
        path = self.path / "config.toml"

        def text() -> str:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            return _config_text("".join(takewhile(lambda line: line.startswith("#"), lines)), config)

        _replace(path, text)

    def warn(self, warnings: Sequence[str]) -> None:
        """Keep what was said when the run goes on, beside what was said at its start. Raises OutputError."""
        path = self.path / "environment.json"

        def text() -> str:
            environment = json.loads(path.read_text(encoding="utf-8"))
            said = environment.get("warnings") or []
            environment["warnings"] = [*said, *(warning for warning in warnings if warning not in said)]
            return _environment_text(environment)

        if warnings:
            _replace(path, text)

    def lock(self) -> IO[str]:
        """Work on the run as the only process, as long as the file that is returned stays open.

        The system frees the lock even when its holder is killed. Raises OutputError where another process has it.
        """
        return hold(self.path / LOCK)

    def cut(self, last: int) -> list[dict]:
        """The records up to round `last`; later ones, which are about to come about again, are removed.

        So is the summary, which a run writes last: one that goes on has not ended.

        Raises OutputError where there is none of one of these rounds, or the file cannot be written.
        """
        records = [record for record in read_metrics(self.metrics) if record["round"] <= last]
        if [record["round"] for record in records] != list(range(last + 1)):
            raise OutputError(f"{self.metrics} does not hold a record of each round up to {last}, which the checkpoint "
                              "is of; restore it, or start a new run")
        check_records(records, self.metrics)
        try:
            self.summary.unlink(missing_ok=True)
            write_whole(self.metrics, "".join(map(as_line, records)))
        except OSError as error:
            raise OutputError(f"cannot write {self.metrics} ({error.strerror}); make room, then go on") from error
        return records

    def append(self, record: dict) -> None:
        """Write one round's record as the next line of metrics.jsonl; a reader sees it at once.

        Raises RunError naming the round where a number is not finite or the line cannot be written.
        """
        where = f"round {record['round']}, rank 0"
        for key, value in numbers(record):
            if not math.isfinite(value):
                raise RunError(f"{where}: {key} is {value}; a smaller --lr usually helps")
        try:
            with open(self.metrics, "a", encoding="utf-8") as file:
                file.write(as_line(record))
                file.flush()
                os.fsync(file.fileno())  # before the checkpoint of the round is
        except OSError as error:
            raise RunError(f"{where}: cannot write {self.metrics} ({error.strerror})") from error

    def _is_free(self) -> bool:
        """Whether the directory is there, with nothing in it or only what `create` makes before config.toml."""
        try:
            names = {path.name for path in self.path.iterdir()}
            return not names or (LOCK in names and names <= {LOCK, *FIRST_FILES, *FOLDERS}
                                 and not any(self.path.glob("*/*"))
                                 and not (self.metrics.exists() and self.metrics.stat().st_size))
        except OSError:
            return False

    def _fill(self, environment: dict, write_others: Callable[[Path], None], config: str) -> None:
        try:
            # "x": on a file system without locks between machines, the first file still has one maker.
            _write_new(self.path / "environment.json", _environment_text(environment))
            for directory in (self.tensorboard, self.checkpoints, self.report):
                directory.mkdir()
            _write_new(self.metrics, "")
            write_others(self.path)
            write_whole(self.path / "config.toml", config)
        except FileExistsError as error:
            raise not_empty(self.path) from error
        except BaseException as error:
            self._clear(also=(LOCK,))
            if isinstance(error, OSError):
                raise _cannot_make(self.path, error) from error
            if isinstance(error, UnicodeEncodeError):
                raise OutputError(f"cannot make {self.path}: its name, or that of a file among the settings, is no "
                                  "text; rename it") from error
            raise

    def _clear(self, also: Sequence[str] = ()) -> None:
        """Take back what `create` has made so far, and nothing of anybody else's."""
        for name in (*FIRST_FILES, *also):
            with suppress(OSError):
                (self.path / name).unlink()
        for name in FOLDERS:
            with suppress(OSError):
                (self.path / name).rmdir()


def hold(path: Path) -> IO[str]:
    """Hold a lock as long as the file that is returned stays open. Raises OutputError where another process does."""
    new = not path.exists()
    try:
        for wait in WAITS:
            try:
                return lock(path)
            except BlockingIOError:
                time.sleep(wait)
        return lock(path)
    except BlockingIOError as error:
        raise OutputError(f"another process works on {path.parent}; wait for its end, or choose another with "
                          "--out") from error
    except OSError as error:
        if error.filename:
            raise OutputError(f"cannot write in {path.parent} ({error.strerror}); it must be a directory that you may "
                              "write to") from error
        if new:
            path.unlink(missing_ok=True)
        raise OutputError(f"cannot lock {path} ({error.strerror}); take a file system that has locks") from error


def _write_new(path: Path, text: str) -> None:
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, text: Callable[[], str]) -> None:
    """Write a file anew. Raises OutputError."""
    try:
        write_whole(path, text())
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}); make room, then go on") from error


def _environment_text(environment: dict) -> str:
    return json.dumps(environment, indent=2, ensure_ascii=False) + "\n"


def _config_text(comment: str, config: dict) -> str:
    import tomli_w

    return comment + "\n" + tomli_w.dumps(_for_toml(config))


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
            raise not_empty(path)
    except OSError as error:
        raise _cannot_make(path, error) from error
    return False


def not_empty(path: Path) -> OutputError:
    """What is said of a directory that should be empty."""
    return OutputError(f"{path} already holds a run or other files; choose a new directory with --out")


def _cannot_make(path: Path, error: OSError) -> OutputError:
    reason = "a file is in the way" if isinstance(error, FileExistsError) else error.strerror
    return OutputError(f"cannot make the directory {path} ({reason}); choose another with --out")


def _for_toml(value: Any) -> Any:
    """The same without None, which TOML lacks, and with paths as text."""
    if isinstance(value, dict):
        return {key: _for_toml(inner) for key, inner in value.items() if inner is not None}
    return os.fspath(value) if isinstance(value, os.PathLike) else value
