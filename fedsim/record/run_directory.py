"""The directory of a run: made once, never overwritten, enough to repeat the run.

<path>/
  config.toml        the resolved settings; a valid --config
  environment.json   versions, device, ranks, threads, data fingerprint, cars
  partition.json     the scenes of each car; a valid --partition
  start.safetensors  the weights that the run has taken over, if it did not start with fresh ones
  metrics.jsonl      one JSON object for each round
  tensorboard/       event files, see fedsim/report/tensorboard/board.py
  checkpoints/       the files from which a run continues, see fedsim/record/checkpoints.py, and weights
  lock               held by the process that works on the run
  report/            figures and summary
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import IO, Any

from fedsim.data.partition import SPLIT_FILE
from fedsim.errors import OutputError, RunError
from fedsim.record.metrics_file import as_line, check_records, floats_in, read_metrics
from fedsim.record.output_folder import LOCK, cannot_make, hold_lock, make_empty_folder, not_empty
from fedsim.system.console import LOG
from fedsim.system.files import beside, write_whole

CAR = re.compile(r"car-(\d+)-")  # how the name of a car's own model begins
PART = re.compile(r"(?:global|car-\d{5,})-\d{6,}\.safetensors")  # a checkpoint's part, which is not a model
START_FILE = "start.safetensors"  # the weights that a run has taken over, if it did not start with fresh ones
FIRST_FILES = ("environment.json", "metrics.jsonl", SPLIT_FILE, START_FILE, beside(Path("config.toml")).name)
FOLDERS = ("tensorboard", "checkpoints", "report")


@dataclass(frozen=True)
class RunDirectory:
    """A run's directory. `create` makes a new one; `RunDirectory(path)` stands for one that exists."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: dict, environment: dict, header: str,
               write_others: Callable[[Path], None] = lambda folder: None) -> "RunDirectory":
        """Make `path` with config.toml, environment.json, an empty metrics.jsonl and empty subdirectories.

        config.toml comes last: a directory that has one is complete. If a start was killed before, the next start
        clears its files away. The lock is held meanwhile, and free afterwards.

        config: None stands for "not set" and is left out. environment: JSON-able. header: the comment on top of
        config.toml, which tells how to repeat the run. write_others: adds copies of files.
        Raises OutputError, with nothing changed, if `path` holds anything, cannot be made, or is being made by another
        process.
        """
        comment = "".join(f"# {line.removeprefix('# ')}\n" for line in header.splitlines())
        run = cls(Path(path))
        made_path = not run._is_free() and make_empty_folder(run.path)
        try:
            with run.lock():  # of several starts in one directory, only one at a time looks and writes
                if not run._is_free():
                    raise not_empty(run.path)
                run._clear()
                run._fill(environment, write_others, _config_text(comment, config))
        except BaseException:
            if made_path:
                with suppress(OSError):  # another process may use it by now
                    run.path.rmdir()
            raise
        return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Return the directory of an existing run. Raises OutputError if `path` holds no run."""
        if not (path / "config.toml").is_file():
            raise OutputError(f"{path} is not a run directory: there is no config.toml in it")
        return cls(path)

    @property
    def metrics(self) -> Path:
        """The records: one JSON object for each round."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """The folder for `tensorboard --logdir`."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints that a run goes on from, and of its weights."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """The folder of the figures and the summary."""
        return self.path / "report"

    @property
    def summary(self) -> Path:
        """The result of the run as text. It is written last: a run that has it has ended."""
        return self.report / "summary.md"

    def weights(self) -> list[Path]:
        """Return the file of the global model, or the files of the cars' own models, in the order of cars.

        A run that goes on after its end keeps the models of that end until the next one, and a warning says so. Raises
        OutputError if there are no weights yet.
        """
        files = self._find_weights()
        if not self.summary.exists():
            LOG.warning("%s has gone on and has not ended again: its models are those of its earlier end", self.path)
        return files

    def _find_weights(self) -> list[Path]:
        places = self.models()
        return [file for place, file in places if place is None] or [file for _, file in places]

    def models(self) -> list[tuple[int | None, Path]]:
        """Return the files of all models with the numbers of their cars, None for the global one, which comes first.

        Raises OutputError if there are no weights yet.
        """
        shared, folder = self.checkpoints / "model.safetensors", self.checkpoints
        cars = sorted((int(found[1]), path) for path in folder.glob("car-*.safetensors")
                      if (found := CAR.match(path.name)) and not PART.fullmatch(path.name))
        if not (cars or shared.exists()):
            raise OutputError(f"{folder} holds no weights: the run has not ended; let it end, or run it again")
        return [*([(None, shared)] if shared.exists() else []), *cars]

    def update(self, config: dict) -> None:
        """Replace the settings of a run that goes on with other ones. Raises OutputError if they cannot be written."""
        path = self.path / "config.toml"

        def text() -> str:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            return _config_text("".join(takewhile(lambda line: line.startswith("#"), lines)), config)

        _rewrite(path, text)

    def warn(self, warnings: Sequence[str]) -> None:
        """Add the warnings of a run that goes on to those of its start. Raises OutputError."""
        path = self.path / "environment.json"

        def text() -> str:
            environment = json.loads(path.read_text(encoding="utf-8"))
            said = environment.get("warnings") or []
            environment["warnings"] = [*said, *(warning for warning in warnings if warning not in said)]
            return _environment_text(environment)

        if warnings:
            _rewrite(path, text)

    def lock(self) -> IO[str]:
        """Lock the run as long as the returned file stays open, so that no other process works on it.

        The system frees the lock even if its holder is killed. Raises OutputError if another process has it.
        """
        return hold_lock(self.path)

    def cut(self, last: int) -> list[dict]:
        """Return the records up to round `last` and remove later ones, whose rounds will be played again.

        The summary is removed too, because a run writes it last and one that goes on has not ended.

        Raises OutputError if the record of one of these rounds is missing, or the file cannot be written.
        """
        records = [record for record in read_metrics(self.metrics) if record["round"] <= last]
        if [record["round"] for record in records] != list(range(last + 1)):
            raise OutputError(f"{self.metrics} does not hold a record of each round up to {last}, the round of the "
                              "checkpoint; restore it, or start a new run")
        check_records(records, self.metrics)
        try:
            self.summary.unlink(missing_ok=True)
            write_whole(self.metrics, "".join(map(as_line, records)))
        except OSError as error:
            raise OutputError(f"cannot write {self.metrics} ({error.strerror}); make room, then go on") from error
        return records

    def append(self, record: dict) -> None:
        """Write the record of a round as the next line of metrics.jsonl; readers see it at once.

        Raises RunError naming the round if a number is not finite or the line cannot be written.
        """
        with self._writing_metrics(record), open(self.metrics, "a", encoding="utf-8") as file:
            file.write(as_line(record))
            file.flush()
            os.fsync(file.fileno())  # the record is on the disk before the checkpoint of its round

    def rewrite(self, records: Sequence[dict]) -> None:
        """Write all records anew, the last of which has changed. A kill leaves all of the old or all of the new ones.

        Raises RunError as `append` does.
        """
        with self._writing_metrics(records[-1]):
            write_whole(self.metrics, "".join(map(as_line, records)))

    @contextmanager
    def _writing_metrics(self, record: dict) -> Iterator[None]:
        """Raise RunError naming the round if a number of the record is not finite or the block cannot write."""
        where = f"round {record['round']}, rank 0"
        for key, value in floats_in(record):
            if not math.isfinite(value):
                raise RunError(f"{where}: {key} is {value}; try a smaller --lr")
        try:
            yield
        except OSError as error:
            raise RunError(f"{where}: cannot write {self.metrics} ({error.strerror})") from error

    def _is_free(self) -> bool:
        """Return whether the directory exists and is empty, or holds only what `create` makes before config.toml."""
        try:
            names = {path.name for path in self.path.iterdir()}
            return not names or (LOCK in names and names <= {LOCK, *FIRST_FILES, *FOLDERS}
                                 and not any(self.path.glob("*/*"))
                                 and not (self.metrics.exists() and self.metrics.stat().st_size))
        except OSError:
            return False

    def _fill(self, environment: dict, write_others: Callable[[Path], None], config: str) -> None:
        try:
            # "x" fails if the file exists: on a file system without locks, still only one process can make it.
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
                raise cannot_make(self.path, error) from error
            if isinstance(error, UnicodeEncodeError):
                raise OutputError(f"cannot make {self.path}: its name, or that of a file among the settings, is not "
                                  "text; rename it") from error
            raise

    def _clear(self, also: Sequence[str] = ()) -> None:
        """Remove the files and empty folders that `create` makes, and nothing else."""
        for name in (*FIRST_FILES, *also):
            with suppress(OSError):
                (self.path / name).unlink()
        for name in FOLDERS:
            with suppress(OSError):
                (self.path / name).rmdir()


def _write_new(path: Path, text: str) -> None:
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _rewrite(path: Path, text: Callable[[], str]) -> None:
    """Replace the text of a file. Raises OutputError if it cannot be read or written."""
    try:
        write_whole(path, text())
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}); make room, then go on") from error


def _environment_text(environment: dict) -> str:
    return json.dumps(environment, indent=2, ensure_ascii=False) + "\n"


def find_weights(path: Path) -> Path:
    """Return the file of weights that a path names: the global model of a run's directory, or the file itself.

    Raises OutputError if there is none.
    """
    if not path.exists():
        raise OutputError(f"there is no {path}; name the directory of a run, or a file of weights")
    if not path.is_dir():
        return path
    file = RunDirectory.open(path).weights()[0]
    if file.stem != "model":
        raise OutputError(f"{path} has a model for each car and no global one; name one of its files, such as {file}")
    return file


def _config_text(comment: str, config: dict) -> str:
    import tomli_w

    return comment + "\n" + tomli_w.dumps(_for_toml(config))


def _for_toml(value: Any) -> Any:
    """Return a value without None, which TOML lacks, and with paths as text."""
    if isinstance(value, dict):
        return {key: _for_toml(inner) for key, inner in value.items() if inner is not None}
    return os.fspath(value) if isinstance(value, os.PathLike) else value
