"""Which runs a comparison is made of, and playing them, each in a process of its own.

FOLDER/
  comparison.toml    what all of its runs have in common
  tuning/ALGO-lrX    runs that learning rates are chosen by
  runs/ALGO-SEED     the runs that are compared; beside each, in ALGO-SEED.log, what it has said
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from fedsim import catalogue, compatible
from fedsim.catalogue import flag
from fedsim.dealing import cars_of, source_of
from fedsim.errors import OutputError, SettingsError, Stopped
from fedsim.record.comparison import Tuning
from fedsim.record.comparison_models import has_ended
from fedsim.record.past_run import PastRun
from fedsim.record.run_directory import make_empty, read_metrics
from fedsim.resuming import FREE
from fedsim.screen import LOG
from fedsim.settings import Settings, read_settings
from fedsim.waiting import waiting
from fedsim.world import Place, fair_threads, places

COMMON_FILE = "comparison.toml"
OF_ALGORITHMS = ("Federation", "Algorithm", "Robustness")  # themes whose options only some algorithms read
MAY_CHANGE = {*FREE} - {"rounds", "evaluate_every", "device"}  # settings that a comparison may go on with others of
TUNING_SPLIT, TUNING_SEED = "val", 0
POLL = 0.2  # seconds


@dataclass(frozen=True)
class Job:
    """A run to play, and its options."""

    path: Path
    options: Mapping[str, Any]

    def has_ended(self) -> bool:
        """Whether there is nothing left to play."""
        written_last = self.path / "report" / "summary.md"
        return written_last.exists() and has_ended(PastRun.open(self.path))

    def records(self) -> int:
        """How many rounds it has recorded, round 0 included."""
        try:
            return (self.path / "metrics.jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0

    def final(self) -> float | None:
        """mIoU of its last round; None where it has not ended."""
        if not self.has_ended():
            return None
        return float(read_metrics(self.path / "metrics.jsonl")[-1]["global"]["miou"])


@dataclass(frozen=True)
class Plan:
    """What a comparison plays."""

    options: Mapping[str, Mapping[str, Any]]  # algorithm -> settings, without seed
    seeds: int
    lrs: Sequence[float]  # to choose from for each algorithm; none: that of the options
    ranks: int  # of each run
    threads: int  # a rank

    def tuning_jobs(self, folder: Path) -> dict[str, dict[float, Job]]:
        """By algorithm and learning rate."""
        return {algo: {lr: self._job(folder / "tuning" / f"{_plain(algo)}-lr{lr:g}", algo, lr=lr, seed=TUNING_SEED,
                                     eval_split=TUNING_SPLIT) for lr in self.lrs} for algo in self.options}

    def jobs(self, folder: Path, tuning: Tuning | None) -> list[Job]:
        """The runs to compare, seed by seed; an algorithm for which no learning rate was found has none."""
        chosen: dict[str, dict[str, Any]] = {
            algo: {"lr": tuning.chosen(algo)} if tuning else {} for algo in self.options}
        return [self._job(folder / "runs" / f"{_plain(algo)}-{seed}", algo, **chosen[algo], seed=seed)
                for seed in range(self.seeds) for algo in self.options if chosen[algo].get("lr", 1) is not None]

    def _job(self, path: Path, algo: str, **more: Any) -> Job:
        return Job(path, {"algo": algo} | dict(self.options[algo]) | more | {"ranks": self.ranks})


def make_plan(algos: Sequence[str], given: Mapping[str, Any], seeds: int, lrs: Sequence[float], at_once: int,
              folder: Path | None) -> Plan:
    """Raises UserError where settings do not go together. folder: of a comparison that goes on, if any.

    given: settings that were asked for, by name; each goes to the algorithms that read it.
    """
    algos = [catalogue.short_name(algo) for algo in algos]
    for algo in algos:
        catalogue.algorithm_class(algo)
    if len(set(algos)) < len(algos):
        raise SettingsError(f"--algos is {','.join(algos)}; name every algorithm once")
    if lrs and len(set(lrs)) < 2:
        raise SettingsError("--lrs needs two learning rates at least, which one is chosen from; --lr sets one")
    asked = Settings(**given)
    cars = cars_of(asked, ranks=1)
    source = source_of(asked, cars)
    for split in ("train", asked.eval_split, *([TUNING_SPLIT] if lrs else [])):
        source.identity(split)  # or every run would find out for itself that there is none
    ranks = max(1, min(cars, places(asked.device, asked.threads)) // at_once)
    threads = asked.threads or _threads_of(folder) or fair_threads(Place(local_size=ranks * at_once))
    common = dict(given) | {"cars": cars, "threads": threads}  # or they might depend on the machine
    options = {algo: {name: value for name, value in common.items() if name in _read_by(algo, common)}
               for algo in algos}
    for name in common:
        if not any(name in own for own in options.values()):
            raise SettingsError(f"{flag(name)} is read by none of {', '.join(algos)}: leave it out")
    for algo, own in options.items():
        compatible.check(Settings(algo=algo, **own))
        if others := [flag(name) for name in common if name not in own]:
            LOG.info("%s does not read %s and goes without", algo, ", ".join(others))
    return Plan(options, seeds, lrs, ranks, threads)


def begin(plan: Plan, given: Mapping[str, Any], folder: Path) -> None:
    """Make the folder of a comparison, or check that the one that is there was begun with the same settings.

    Raises SettingsError naming what is not the same; OutputError where the folder cannot be made or holds other files.
    """
    common = dict(given) | {"threads": plan.threads, "lrs": [*plan.lrs]}
    if not (folder / COMMON_FILE).exists():
        import tomli_w

        make_empty(folder)
        with open(folder / COMMON_FILE, "x", encoding="utf-8") as file:
            file.write("# What all runs of this comparison have in common.\n\n" + tomli_w.dumps(common))
        return
    was = _common(folder)
    defaults = {setting.name: setting.default for setting in fields(Settings)} | {"lrs": []}
    for name in sorted((was.keys() | common.keys()) - MAY_CHANGE):
        before, now = was.get(name, defaults.get(name)), common.get(name, defaults.get(name))
        if before != now:
            raise SettingsError(f"{flag(name)} is {_word(now)}, but {folder} was begun with {_word(before)}: take the "
                                "same, or another directory with --out")


def play(jobs: Sequence[Job], at_once: int, what: str) -> list[Job]:
    """Play what has not ended, so many at once; returns those that have failed. Raises Stopped after a signal.

    The first signal lets the runs under way write a checkpoint, the second kills them.
    """
    left = deque(job for job in jobs if not job.has_ended())
    steps = sum(job.options.get("rounds", Settings.rounds) + 1 - job.records() for job in left)
    ended, failed = len(jobs) - len(left), []
    if ended:
        LOG.info("%d of %d runs have ended already", ended, len(jobs))
    if not left:
        return []
    running: list[_Child] = []
    with _Signals() as signals, waiting(what, steps) as advance:
        while running or (left and not signals.heard):
            while left and len(running) < at_once and not signals.heard:
                taken = {child.slot for child in running}
                slot = next(slot for slot in range(at_once) if slot not in taken)
                running.append(_Child(left.popleft(), slot, share_of_gpus(slot, at_once, gpus())))
            time.sleep(POLL)
            signals.pass_on(running)
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
        self.log = job.path.parent / f"{job.path.name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        options = [word for name, value in job.options.items() for word in (flag(name), str(value))]
        with open(self.log, "a", encoding="utf-8") as log:
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
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        return f"{self.job.path.name} failed with status {status}: {last} (all it has said is in {self.log})"


class _Signals:
    """Hears SIGINT and SIGTERM while its block runs, and hands them to the runs under way."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self._passed_on = 0

    def __enter__(self) -> "_Signals":
        self._before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def pass_on(self, children: Sequence[_Child]) -> None:
        """Ask them to stop; kill them where that was asked for before."""
        if len(self.heard) > self._passed_on:
            for child in children:
                child.process.send_signal(signal.SIGKILL if self._passed_on else signal.SIGTERM)
            self._passed_on = len(self.heard)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard.append(number)


def _read_by(algo: str, given: Mapping[str, Any]) -> set[str]:
    """The settings that an algorithm reads: those of training, model, data and machine, and what it does not refuse.

    Options are tried in the order of `Settings`, where what another builds on stands before it.
    """
    kept: dict[str, Any] = {}
    for setting in fields(Settings):
        if setting.name in given and setting.metadata["theme"] in OF_ALGORITHMS:
            try:
                compatible.check(Settings(algo=algo, **kept | {setting.name: given[setting.name]}))
            except SettingsError:
                continue
            kept[setting.name] = given[setting.name]
    others = {setting.name for setting in fields(Settings) if setting.metadata["theme"] not in OF_ALGORITHMS}
    return kept.keys() | others


def _threads_of(folder: Path | None) -> int | None:
    """Threads of the runs that are there: with others, their bits would not be comparable."""
    if folder is None or not (folder / COMMON_FILE).exists():
        return None
    threads = _common(folder).get("threads")
    return threads if isinstance(threads, int) else None


def _common(folder: Path) -> dict[str, Any]:
    try:
        return read_settings(folder / COMMON_FILE)
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder / COMMON_FILE} cannot be read ({error}): compare in another directory with "
                          "--out") from error


def _plain(name: str) -> str:
    """A name for files: that of a user's own algorithm has a colon."""
    return re.sub(r"[^\w.-]+", "-", name)


def _word(value: Any) -> str:
    return "not given" if value in (None, []) else ",".join(f"{one:g}" for one in value) if isinstance(
        value, list) else str(value)
