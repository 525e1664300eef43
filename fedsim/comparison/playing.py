"""Play the runs of a comparison, each in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from fedsim.comparison.plan import Job, explain_refusal
from fedsim.errors import Stopped
from fedsim.experiment.signals import Signals, stopping_signals
from fedsim.options import as_arguments
from fedsim.settings.fields import Settings
from fedsim.system.children import find_descendants, send
from fedsim.system.console import LOG, show_steps
from fedsim.system.launchers import make_child_environment

POLL = 0.2  # seconds
PATIENCE = 10.0  # seconds in which runs must stop if an error ends the comparison


def play(jobs: Sequence[Job], at_once: int, what: str) -> list[Job]:
    """Play the jobs that have not ended, `at_once` at a time, and return those that failed. Raises Stopped on a signal.

    On the first signal, the runs under way finish their round and write a checkpoint. The second signal kills them with
    their ranks. If an error ends the comparison, they are asked to stop too, and have a few seconds for it.

    what: the title of the progress bar.
    """
    left = deque(job for job in jobs if not job.has_ended())
    steps = sum(job.options.get("rounds", Settings.rounds) + 1 - job.count_records() for job in left)
    ended, failed = len(jobs) - len(left), []
    if ended:
        LOG.info("%d of %d runs have ended already", ended, len(jobs))
    if not left:
        return []
    running: list[_Child] = []
    told = 0  # signals that the runs under way know of
    with Signals(*stopping_signals()) as signals, show_steps(what, steps) as advance, _stop_on_exit(running):
        while running or (left and not signals.heard):
            while left and len(running) < at_once and not signals.heard:
                taken = {child.slot for child in running}
                slot = next(slot for slot in range(at_once) if slot not in taken)
                running.append(_Child(left.popleft(), slot, share_of_gpus(slot, at_once, visible_gpus())))
            time.sleep(POLL)
            if len(signals.heard) > told:
                for child in running:
                    child.kill() if told else child.process.terminate()
                told = len(signals.heard)
            for child in [*running]:
                status = child.process.poll()
                for _ in range(child.count_new_records()):
                    advance()
                if status is None:
                    continue
                running.remove(child)
                ended += (has_ended := child.job.has_ended())
                if not signals.heard and not (status == 0 and has_ended):
                    LOG.warning("%s", child.describe_failure(status))
                if not (signals.heard or has_ended):
                    failed.append(child.job)
                elif not signals.heard:  # if only its report has failed, a comparison lacks nothing
                    LOG.info("%s: mIoU %.3f (%d of %d runs)", child.job.path.name, child.job.read_final(), ended,
                             len(jobs))
        if signals.heard:
            number, folder = signals.heard[0], jobs[0].path.parent.parent
            raise Stopped(f"stopped by {signal.Signals(number).name}, {ended} of {len(jobs)} runs have ended: the same "
                          f"command with --out {folder} goes on", number)
    return failed


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that may be used, in the form of CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]


def share_of_gpus(slot: int, at_once: int, names: Sequence[str]) -> str | None:
    """Return CUDA_VISIBLE_DEVICES for one of the runs at once, so that they share the GPUs fairly.

    slot: the number of the run, below `at_once`; names: of the GPUs. None leaves the variable as it is.
    """
    if at_once == 1 or not names:
        return None
    return ",".join(names[slot::at_once] or [names[slot % len(names)]])


class _Child:
    """A run in a process of its own."""

    def __init__(self, job: Job, slot: int, devices: str | None) -> None:
        """Start the process. slot: its number among the runs at once, which decides its GPUs."""
        self.job, self.slot = job, slot
        self._counted = job.count_records()
        options = as_arguments(job.options)
        with explain_refusal(job.log):
            job.log.parent.mkdir(parents=True, exist_ok=True)
            log = open(job.log, "a", encoding="utf-8")  # noqa: SIM115 closed below
        with log:
            # In a session of its own, Ctrl-C reaches it once, through this process, and not a second time by itself.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fedsim", "run", *options, "--out", str(job.path), "--resume", "auto"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | make_child_environment() | ({"CUDA_VISIBLE_DEVICES": devices} if devices else {}))

    def count_new_records(self) -> int:
        """Return the number of rounds that the run has recorded since the last call."""
        before, self._counted = self._counted, max(self._counted, self.job.count_records())
        return self._counted - before

    def describe_failure(self, status: int) -> str:
        """Describe a failure by the exit status and the last line that the run has printed; or say that it diverged."""
        what = "has diverged" if self.job.has_diverged() else f"failed with status {status}"
        return f"{self.job.path.name} {what}: {self.job.last_words()} (all it has said is in {self.job.log})"

    def kill(self) -> None:
        """Kill the run and its ranks, which torchrun has started in sessions of their own."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # so that it starts no further process
            send(signal.SIGKILL, find_descendants(self.process.pid))


@contextmanager
def _stop_on_exit(running: Sequence[_Child]) -> Iterator[None]:
    """Ask the runs under way to stop, whatever ends the block."""
    try:
        yield
    finally:
        for child in running:
            child.process.terminate()
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit and any(child.process.poll() is None for child in running):
            time.sleep(POLL)
