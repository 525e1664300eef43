"""Ranks that stop, die or leave in training: the others say who it was, and nothing of the job is left.

The jobs are started by the real torchrun, on two and four ranks. FedAvg, with a fault from faulty.py in round 4.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from test_torchrun import command

HERE, ROOT = Path(__file__).parent, Path(__file__).parent.parent.parent
TORCHRUN, LAUNCHER = ["-m", "torch.distributed.run"], ["-m", "fedsim.distributed.torchrun"]
TIMEOUT = 5  # seconds that a rank waits for another
MESSAGE = re.compile(r"^fedsim: rank (\d+) (.*)$", re.MULTILINE)


class Job(NamedTuple):
    process: subprocess.Popen
    out: Path  # the run directory, which every process of the job has in its command line

    @property
    def errors(self) -> str:
        return self.out.with_suffix(".errors").read_text()

    def messages(self) -> dict[int, str]:
        """What each rank says."""
        return {int(rank): said for rank, said in MESSAGE.findall(self.errors)}

    def processes(self) -> list[int]:
        """The ids of those that are left."""
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline")
                if str(self.out).encode() in read(path)]

    def car(self, rank: int) -> str:
        """The car that a rank trains first in a round."""
        partition = json.loads((self.out / "environment.json").read_text())["partition"]
        number, name = next((number, car["name"]) for number, car in enumerate(partition) if car["rank"] == rank)
        return f"training car {number} ({name}) in round 4"


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def start(launcher: list[str], ranks: int, fault: str, fault_rank: int, data: Path, out: Path, *options: str) -> Job:
    program = ["--standalone", f"--nproc_per_node={ranks}", "-m", "fedsim.main",
               *command(data, out, "--algo", "faulty:Faulty", "--timeout", str(TIMEOUT)), "--rounds", "4", *options]
    told = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "FAULT": fault, "FAULT_RANK": str(fault_rank)}
    with out.with_suffix(".errors").open("w") as errors:
        process = subprocess.Popen([sys.executable, *launcher, *program], stdout=subprocess.DEVNULL, stderr=errors,
                                   cwd=HERE, env=os.environ | told)
    return Job(process, out)


@pytest.fixture(scope="module")
def stopped(tiny_camvid, tmp_path_factory) -> Iterator[Job]:
    """Four ranks of which 2 stopped in training; the others have spoken. torchrun takes 30 s to end what is left."""
    job = start(TORCHRUN, 4, "SIGSTOP", 2, tiny_camvid, tmp_path_factory.mktemp("stopped") / "run")
    deadline = time.monotonic() + 60
    while len(job.messages()) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    yield job
    for left in job.processes():
        os.kill(left, signal.SIGKILL)
    job.process.wait()


def test_every_other_rank_names_the_one_that_stopped_its_car_and_the_round(stopped):
    """Catches a rank that names another which waits as it does, and a wait without end."""
    messages = stopped.messages()
    assert set(messages) == {0, 1, 3}, stopped.errors
    blames = re.compile(rf"waited (\d+\.\d) s (for|and lost) rank 2, last heard of {re.escape(stopped.car(2))}; "
                        "no sign of life since")
    for said in messages.values():
        blame = blames.fullmatch(said)
        assert blame and float(blame[1]) < TIMEOUT + 2, said
    assert any("for rank 2" in said for said in messages.values())


@pytest.mark.parametrize(("fault", "torchrun_says"), [
    ("SIGKILL", ["fedsim: rank 1 was ended by signal 9"]), ("exit", [])])
def test_a_rank_that_ends_in_training_is_named_at_once_and_nothing_is_left(fault, torchrun_says, tiny_camvid, tmp_path):
    """Catches a wait for the time-out, and a status of 0 because the rank that left had it."""
    job = start(LAUNCHER, 2, fault, 1, tiny_camvid, tmp_path / "run")
    assert job.process.wait(60) == 1
    blame = re.compile(rf"fedsim: rank 0 waited \d\.\d s and lost rank 1, last heard of {re.escape(job.car(1))}; "
                       "no sign of life since")
    said, *others = job.errors.splitlines()
    assert blame.fullmatch(said) and others == torchrun_says, job.errors
    assert not job.processes()


def test_an_error_that_only_the_coordinator_meets_is_said_once(tiny_camvid, tmp_path):
    """One step with such a rate: cars send finite numbers, and the score is not finite.

    Catches another rank that has lost the coordinator: a comparison would take its words for the reason.
    """
    job = start(LAUNCHER, 2, "none", -1, tiny_camvid, tmp_path / "run", "--lr", "1e30", "--norm", "group",
                "--batch-size", "50")
    assert job.process.wait(60) == 1
    assert re.fullmatch(r"fedsim: round 1, rank 0: \S+ is (nan|inf); try a smaller --lr\n", job.errors), job.errors


def test_a_signal_to_the_launcher_ends_the_job_with_its_number_and_no_traceback(tiny_camvid, tmp_path):
    job = start(LAUNCHER, 2, "none", -1, tiny_camvid, tmp_path / "run", "--rounds", "100000")
    metrics, deadline = job.out / "metrics.jsonl", time.monotonic() + 60
    while not read(metrics) and time.monotonic() < deadline:
        time.sleep(0.1)
    job.process.terminate()
    assert job.process.wait(60) == 128 + signal.SIGTERM
    assert "Traceback" not in job.errors and not job.processes()


def test_torchrun_ends_a_stopped_rank_too(stopped):
    """A process that is stopped does not hear SIGTERM: it has to be killed."""
    assert stopped.process.wait(60) == 1
    assert not stopped.processes()
