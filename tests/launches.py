"""Launches of ranks that cost milliseconds: processes forked from one that has imported everything.

A launch is a command line on some ranks, as torchrun starts them. One rank may fall at an occasion: a call of a
collective, or a file of the run that is opened, renamed or removed. Occasions are counted, so that a launch falls at
the same place each time.
"""

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from undrawn import draw_nothing

FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir")
SECONDS = 120.0  # after which a launch hangs
GRACE = 3.0  # seconds that ranks outlive one that has failed
COUNTED = "occasions: "
PRELOADED = ["__main__", "launches", "fedsim.main", "fedsim.experiment.journal", "fedsim.report.run",
             "fedsim.report.run_figures"]
ROOT = Path(__file__).parent.parent
FORKS = multiprocessing.get_context("forkserver")


class Fall(NamedTuple):
    """What happens to a rank."""

    signal: int
    rank: int
    occasion: int  # at which the rank sends itself the signal, counted from 1
    near: str = ""  # only files with this in their paths are occasions; "": all files of the run, and collectives


class Ended(NamedTuple):
    """How a launch ended."""

    status: int  # of the rank that speaks; minus the signal that killed a rank
    said: str  # on stderr, by all ranks
    occasions: int  # of rank 0, if it was not killed


def launch(arguments: Sequence[str], folder: Path, out: Path, *, ranks: int = 1, name: str = "",
           fall: Fall | None = None, before: Mapping[str, Any] | None = None) -> Ended:
    """Play a command line on so many ranks and return how it ended. All ranks end with the same status.

    folder: the working directory, in which the files of stderr lie. out: the run directory. name: of the launch, as
    torchrun gives it to its ranks; "" for a launch without torchrun. before: attributes of modules, as
    "package.module.NAME", that have other values in these processes.
    """
    FORKS.set_forkserver_preload(PRELOADED)
    common = {"LOCAL_WORLD_SIZE": ranks, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(),
              "TORCHELASTIC_RUN_ID": name} if ranks > 1 or name else {}
    places = [{key: str(value) for key, value in common.items()}
              | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if common else {}) for rank in range(ranks)]
    logs = [folder / f"rank-{rank}.log" for rank in range(ranks)]
    processes = [FORKS.Process(target=_play, args=([*map(str, arguments)], folder, out, place, log, dict(before or {}),
                                                   fall if fall and fall.rank == rank else None))
                 for rank, (place, log) in enumerate(zip(places, logs, strict=True))]
    for process in processes:
        process.start()
    statuses = _wait(processes)
    texts, _, counts = zip(*(log.read_text(errors="replace").partition(COUNTED) for log in logs), strict=True)
    assert fall or len({*statuses}) == 1, f"ranks end with {statuses}: {texts}"
    return Ended(min(statuses), "".join(texts), int(counts[0] or 0))


def type_command(words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Type `fedsim` and these words in a folder, without figures and pages. Runs that it starts import all anew."""
    FORKS.set_forkserver_preload(PRELOADED)
    files = [folder / name for name in ("typed.out", "typed.err")]
    process = FORKS.Process(target=_type, args=([*words], folder, files, dict(os.environ)))
    process.start()
    process.join(SECONDS)
    assert process.exitcode is not None, f"{words} hangs"
    return subprocess.CompletedProcess(words, process.exitcode, *(file.read_text() for file in files))


def _type(words: list[str], folder: Path, files: list[Path], environment: dict[str, str]) -> None:
    """Be the console script, in a process of its own."""
    _redirect(*files)
    os.environ.clear()
    os.environ.update(environment | {"PYTHONPATH": str(ROOT)})
    os.chdir(folder)
    sys.path.insert(0, "")  # as `python -m fedsim` does, for modules in the folder
    sys.argv = ["fedsim", *words]
    import torch

    from fedsim.cli import main

    torch.set_num_threads(1)
    draw_nothing(setattr)
    main()


def _redirect(out: Path, err: Path) -> None:
    """Let stdout and stderr of this process be files."""
    for number, path in ((1, out), (2, err)):
        with open(path, "wb", buffering=0) as file:
            os.dup2(file.fileno(), number)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(processes: Sequence[Any]) -> list[int]:
    """Wait for all, as torchrun does: after one that has failed, the others are ended."""
    started, failed = time.monotonic(), 0.0
    while left := [process for process in processes if process.exitcode is None]:
        now = time.monotonic()
        assert now < started + SECONDS, "a launch hangs"
        if any(process.exitcode for process in processes):
            failed = failed or now
            if now > failed + GRACE or any((process.exitcode or 0) < 0 for process in processes):
                for process in left:
                    process.kill()
        left[0].join(0.02)
    return [process.exitcode for process in processes]


def _play(arguments: list[str], folder: Path, out: Path, place: dict[str, str], log: Path, before: dict[str, Any],
          fall: Fall | None) -> None:
    """Be a rank, in a process of its own."""
    _redirect(Path(os.devnull), log)
    os.environ.update({"TORCHELASTIC_USE_AGENT_STORE": "False"} | place)
    os.chdir(folder)
    import torch

    from fedsim.main import main

    torch.set_num_threads(1)
    draw_nothing(setattr)
    for name, value in before.items():
        module, _, attribute = name.rpartition(".")
        assert hasattr(sys.modules[module], attribute), name
        setattr(sys.modules[module], attribute, value)
    count = _count_occasions(out, fall)
    status = main(arguments)
    print(f"{COUNTED}{count()}", file=sys.stderr)
    sys.exit(status)


def _count_occasions(out: Path, fall: Fall | None) -> Callable[[], int]:
    """Count occasions from now on, and let the rank fall at the one that is asked for. Returns a function that tells
    how many there were.
    """
    from fedsim.distributed.world import World

    seen, inside, collective, near = [0], str(out), World._collective, fall.near if fall else ""

    def pass_one() -> None:
        seen[0] += 1
        if fall and seen[0] == fall.occasion:
            os.kill(os.getpid(), fall.signal)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and str(arguments[0]).startswith(inside) and near in str(arguments[0]):
            pass_one()

    def counted(self: World, *others: Any) -> None:
        if not near:
            pass_one()
        collective(self, *others)

    World._collective = counted  # type: ignore
    sys.addaudithook(hear)
    return lambda: seen[0]

