"""Playing runs, each in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from fedsim.comparison.plan import Job, writing
from fedsim.errors import Stopped
from fedsim.experiment.signals import Signals
from fedsim.options import flag
from fedsim.settings.fields import Settings
from fedsim.system.console import LOG, show_steps

POLL = 0.2  # seconds
PATIENCE = 10.0  # seconds for runs to stop in, where an error ends the comparison


def play(jobs: Sequence[Job], at_once: int, what: str) -> list[Job]:
    """Play what has not ended, so many at once; returns those that have failed. Raises Stopped after a signal.

    The first signal lets the runs under way write a checkpoint, the second kills them with their ranks. An error lets
    them write one too: they end by themselves when their round is over, which is awaited for a little.
    """
    left = deque(job for job in jobs if not job.has_ended())
    steps = sum(job.options.get("rounds", Settings.rounds) + 1 - job.records() for job in left)
    ended, failed = len(jobs) - len(left), []
    if ended:
        LOG.info("%d of %d runs have ended already", ended, len(jobs))
    if not left:
        return []
    running: list[_Child] = []
    told = 0  # signals that the runs under way know of
    with Signals(*_stopping_signals()) as signals, show_steps(what, steps) as advance, _asked_to_stop(running):
        while running or (left and not signals.heard):
            while left and len(running) < at_once and not signals.heard:
                taken = {child.slot for child in running}
                slot = next(slot for slot in range(at_once) if slot not in taken)
                running.append(_Child(left.popleft(), slot, share_of_gpus(slot, at_once, gpus())))
            time.sleep(POLL)
            if len(signals.heard) > told:
                for child in running:
                    child.kill() if told else child.process.terminate()
                told = len(signals.heard)
            for child in [*running]:
                status = child.process.poll()
                for _ in range(child.news()):
                    advance()
                if status is None:
                    continue
                running.remove(child)
                ended += child.job.has_ended()
                if not (signals.heard or (status == 0 and child.job.has_ended())):
                    failed.append(child.job)
                    LOG.warning("%s", child.failure(status))
                elif not signals.heard:
                    LOG.info("%s: mIoU %.3f (%d of %d runs)", child.job.path.name, child.job.final(), ended, len(jobs))
    if signals.heard:
        number, folder = signals.heard[0], jobs[0].path.parent.parent
        raise Stopped(f"stopped by {signal.Signals(number).name}, {ended} of {len(jobs)} runs have ended: the same "
                      f"command with --out {folder} goes on", number)
    return failed


def gpus() -> list[str]:
    """The names of this machine's GPUs that may be used, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]


def share_of_gpus(slot: int, at_once: int, names: Sequence[str]) -> str | None:
    """CUDA_VISIBLE_DEVICES for one of so many runs at once, which share GPUs fairly; None where there is no choice."""
    if at_once == 1 or not names:
        return None
    return ",".join(names[slot::at_once] or [names[slot % len(names)]])


class _Child:
    """A run in a process of its own."""

    def __init__(self, job: Job, slot: int, devices: str | None) -> None:
        """slot: which of the runs at once it is."""
        self.job, self.slot = job, slot
        self._told = job.records()
        options = [word for name, value in job.options.items() for word in (flag(name), str(value))]
        with writing(job.log):
            job.log.parent.mkdir(parents=True, exist_ok=True)
            log = open(job.log, "a", encoding="utf-8")  # noqa: SIM115 closed below
        with log:
            # A session of its own: Ctrl-C reaches it once, through this process, and not a second time by itself.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fedsim", "run", *options, "--out", str(job.path), "--resume", "auto"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=os.environ | ({"CUDA_VISIBLE_DEVICES": devices} if devices else {}))

    def news(self) -> int:
        """How many rounds it has recorded since the last call."""
        before, self._told = self._told, max(self._told, self.job.records())
        return self._told - before

    def failure(self, status: int) -> str:
        """What has become of it, with its last words."""
        return (f"{self.job.path.name} failed with status {status}: {self.job.last_words()} (all it has said is in "
                f"{self.job.log})")

    def kill(self) -> None:
        """End it at once, and its ranks, which torchrun has started in sessions of their own."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # it starts no more
            for pid in _family(self.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _stopping_signals() -> list[signal.Signals]:
    """Return the signals that ask a comparison to stop.

    A closed terminal sends SIGHUP to what runs in it. `nohup` lets a process ignore it, and then fedsim does too.
    """
    hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]


@contextmanager
def _asked_to_stop(running: Sequence[_Child]) -> Iterator[None]:
    """Whatever ends the block, the runs under way are asked to stop."""
    try:
        yield
    finally:
        for child in running:
            child.process.terminate()
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit and any(child.process.poll() is None for child in running):
            time.sleep(POLL)


def _family(pid: int) -> list[int]:
    """A process and all that it has started, directly or not; without a /proc, as Linux has it, the process alone."""
    children = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            parent = path.read_text(errors="replace").rpartition(")")[2].split()[1]
            children[int(parent)].append(int(path.parent.name))
    family = [pid]
    for one in family:  # which grows meanwhile
        family += children[one]
    return family
