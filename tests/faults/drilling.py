"""Jobs that are killed while they work on a run, and what the run must have in the end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FEDSIM = ("-m", "fedsim.main")
ALGORITHMS = {
    "avg": ["--algo", "avg"],
    "admm": ["--algo", "admm", "--participation", "0.5", "--car-states", "disk"],
    "scaffold": ["--algo", "scaffold", "--batchnorm", "local"],
    # A server's Adam, and all that a recipe of local training keeps or draws.
    "adam": ["--algo", "adam", "--optimizer", "adamw", "--lr", "0.002", "--momentum-across-rounds", "own", "--warmup",
             "2", "--local-steps", "2", "--accumulate", "2", "--crop", "24x16", "--scale-range", "0.8,1.2",
             "--colour-jitter", "0.3", "--loss", "cross-entropy+lovasz", "--average-weights", "ema:0.5"],
}
RESTARTS = 10**6
ROUND = re.compile(r"-(\d{6})\.(?:safetensors|json)$")


def options(algo: str, data: Path, rounds: int) -> list[str]:
    """Of a tiny run."""
    return [*ALGORITHMS[algo], "--data", "camvid", "--data-root", str(data), "--cars", "5", "--rounds", str(rounds),
            "--batch-size", "2", "--image-size", "32x24", "--width", "4", "--evaluate-every", "4", "--threads", "1"]


class Job:
    """The processes that work on a run: torchrun, unless `ranks` is None, and its ranks.

    They are found by the run directory in their command lines: ranks have sessions of their own, and outlive torchrun.
    """

    def __init__(self, ranks: int | None, out: Path, arguments: Sequence[str],
                 program: Sequence[str] = FEDSIM) -> None:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}",
                    f"--max-restarts={RESTARTS}"] if ranks else []
        self.out, self.log = out, out.with_suffix(".log")
        with open(self.log, "a") as log:
            self._process = subprocess.Popen(
                [sys.executable, *torchrun, *program, *arguments, "--out", str(out)], stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    @property
    def launcher(self) -> int:
        """The id of the process that was started here."""
        return self._process.pid

    def wait(self, seconds: float) -> int | None:
        """The exit status; None if it still runs after so many seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def processes(self) -> list[int]:
        wanted = os.fsencode(self.out)
        return [int(place.name) for place in Path("/proc").glob("[0-9]*")
                if wanted in _read(place / "cmdline").split(b"\0")]

    def ranks(self) -> dict[int, int]:
        """Rank -> id of its process."""
        found = {}
        for process in self.processes():
            entries = _read(Path(f"/proc/{process}/environ")).split(b"\0")
            variables = dict(entry.partition(b"=")[::2] for entry in entries)
            if b"RANK" in variables:
                found[int(variables[b"RANK"])] = process
        return found

    def kill(self) -> None:
        """All at once, and those that torchrun has begun to start meanwhile; returns when all are gone."""
        killed: set[int] = set()
        while found := self.processes():
            killed.update(found)
            send(signal.SIGKILL, found)
            time.sleep(0.01)
        while any(map(_lives, killed)):  # one that ends has no command line any more, but still its files and locks
            time.sleep(0.01)
        self._process.wait()

    def kill_rank(self, rank: int) -> None:
        """One of those there are."""
        send(signal.SIGKILL, [self.ranks()[rank]])

    def kill_in_a_checkpoint(self) -> None:
        """All at once, when parts of a checkpoint later than those there are now are written, but not itself."""
        folder = self.out / "checkpoints"
        before = _last_round(folder, "*.*")
        while True:
            self.until(lambda: _is_half_written(folder, before), 120, pause=0)
            found = self.processes()
            send(signal.SIGSTOP, found)
            time.sleep(0.02)  # a process stops once its call into the system, such as that to write, is over
            if _is_half_written(folder, before):
                return self.kill()
            send(signal.SIGCONT, found)

    def until(self, happened: Callable[[], bool], seconds: float, pause: float = 0.01) -> None:
        """Wait for something to happen. The job must not end before it does."""
        limit = time.monotonic() + seconds
        while not happened():
            assert self._process.poll() is None and time.monotonic() < limit, self.log.read_text()
            time.sleep(pause)


def send(number: signal.Signals, processes: Iterable[int]) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def records(run: Path) -> list[dict]:
    """The rounds that are recorded; a line that is being written is none yet."""
    text = _read(run / "metrics.jsonl").decode()
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def digests(run: Path) -> list[tuple[int, str, str | None]]:
    """(round, digest of theta after it, digest of what was measured for its score) in the order of records."""
    return [(record["round"], record["theta_sha256"], record.get("statistics_sha256")) for record in records(run)]


def _is_half_written(folder: Path, before: int) -> bool:
    """Whether a round after `before` has parts in a run's checkpoints, but no checkpoint."""
    return _last_round(folder, "*.safetensors") > max(before, _last_round(folder, "round-*.json"))


def _last_round(folder: Path, names: str) -> int:
    """Of the files of checkpoints; names end in a round, those of models do not."""
    return max((int(number[1]) for path in folder.glob(names) if (number := ROUND.search(path.name))), default=0)


def _lives(process: int) -> bool:
    """Whether any thread of a process has not ended; one that has may wait for its parent to ask."""
    threads = [_read(path).rpartition(b")")[2].split() for path in Path(f"/proc/{process}/task").glob("*/stat")]
    return any(thread and thread[0] != b"Z" for thread in threads)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # not there yet, or a process that has ended meanwhile
        return b""
