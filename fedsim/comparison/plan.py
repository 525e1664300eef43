"""Which runs a comparison is made of."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fedsim.comparison.trials import Tuning
from fedsim.distributed.devices import Place, fair_threads, ranks_that_fit
from fedsim.errors import OutputError, SettingsError
from fedsim.experiment.dealing import cars_of, source_of
from fedsim.experiment.past_run import PastRun
from fedsim.experiment.resuming import FREE
from fedsim.options import flag
from fedsim.record.metrics_file import check_records, read_metrics
from fedsim.record.output_folder import LOCK, hold_lock, make_empty_folder, not_empty
from fedsim.report.words import format_setting
from fedsim.settings import compatible, registry
from fedsim.settings.fields import Settings, read_settings
from fedsim.system.console import LOG
from fedsim.system.files import beside, write_whole

COMMON_FILE = "comparison.toml"
MAY_CHANGE = {*FREE} - {"rounds", "evaluate_every", "device"}  # settings that a comparison may go on with others of
TUNING_SPLIT, TUNING_SEED = "val", 0
DIVERGED = re.compile("fedsim: .*a smaller --lr")  # what a run advises in its last words if its numbers ran away


@dataclass(frozen=True)
class Job:
    """A run to play, and its options."""

    path: Path
    options: Mapping[str, Any]

    @property
    def log(self) -> Path:
        """What it has said."""
        return self.path.parent / f"{self.path.name}.log"

    def last_words(self) -> str:
        """The last line of what it has said."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            lines = []
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def has_ended(self) -> bool:
        """Whether there is nothing left to play."""
        return (self.path / "config.toml").exists() and PastRun.open(self.path).has_ended()

    def has_diverged(self) -> bool:
        """Whether it gave up, as it would again: the learning rate is too large for it."""
        return bool(DIVERGED.match(self.last_words())) and not self.has_ended()

    def records(self) -> int:
        """How many rounds it has recorded, round 0 included."""
        try:
            return (self.path / "metrics.jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0

    def final(self) -> float | None:
        """mIoU of its last round; None where it has not ended. Raises OutputError."""
        if not self.has_ended():
            return None
        path = self.path / "metrics.jsonl"
        records = read_metrics(path)
        check_records(records, path)
        if records[-1]["global"] is None:
            raise OutputError(f"{path} is damaged: the last round has no score; restore it, or start a new run")
        return float(records[-1]["global"]["miou"])


@dataclass(frozen=True)
class Plan:
    """What a comparison plays."""

    options: Mapping[str, Mapping[str, Any]]  # algorithm -> settings, without seed
    seeds: int
    lrs: Sequence[float]  # to choose from for each algorithm; none: that of the options
    ranks: int  # of each run, but of those that pool all scenes in one car: one rank plays it
    threads: int  # a rank

    def tuning_jobs(self, folder: Path) -> dict[str, dict[float, Job]]:
        """By algorithm and learning rate."""
        return {algo: {lr: self._job(folder / "tuning" / f"{_plain(algo)}-lr{lr:g}", algo, lr=lr, seed=TUNING_SEED,
                                     eval_split=TUNING_SPLIT) for lr in self.lrs} for algo in self.options}

    def jobs(self, folder: Path, tuning: Tuning | None) -> list[Job]:
        """The runs to compare, seed by seed; an algorithm for which no learning rate was found has none."""
        jobs = []
        for seed in range(self.seeds):
            for algo in self.options:
                if tuning is None:
                    jobs.append(self._job(folder / "runs" / f"{_plain(algo)}-{seed}", algo, seed=seed))
                elif (lr := tuning.chosen(algo)) is not None:
                    jobs.append(self._job(folder / "runs" / f"{_plain(algo)}-lr{lr:g}-{seed}", algo, lr=lr, seed=seed))
        return jobs

    def _job(self, path: Path, algo: str, **more: Any) -> Job:
        ranks = 1 if registry.algorithm_class(algo).pooled else self.ranks
        return Job(path, {"algo": algo} | dict(self.options[algo]) | more | {"ranks": ranks})


def make_plan(algos: Sequence[str], given: Mapping[str, Any], seeds: int, lrs: Sequence[float], at_once: int,
              folder: Path | None) -> Plan:
    """Raises UserError where settings do not go together. folder: of a comparison that goes on, if any.

    given: settings that were asked for, by name; each goes to the algorithms that read it.
    """
    algos = [registry.short_name(algo) for algo in algos]
    for algo in algos:
        registry.algorithm_class(algo)
    if len(set(algos)) < len(algos):
        raise SettingsError(f"--algos is {','.join(algos)}; name every algorithm once")
    if lrs and len(set(lrs)) < 2:
        raise SettingsError("--lrs needs two learning rates at least, which one is chosen from; --lr sets one")
    asked = Settings(**given)
    cars = cars_of(asked, ranks=1)
    source = source_of(asked, cars)
    for split in ("train", asked.eval_split, *([TUNING_SPLIT] if lrs else [])):
        source.identity(split)  # or every run would find out for itself that there is none
    ranks = max(1, min(cars, ranks_that_fit(asked.device, asked.threads) // at_once))
    threads = asked.threads or _threads_of(folder) or fair_threads(Place(local_size=ranks * at_once))
    common = dict(given) | {"cars": cars, "threads": threads}  # or they might depend on the machine
    options = {algo: {name: value for name, value in compatible.fitting(common, {"algo": algo}).items()
                      if name != "algo"} for algo in algos}
    for name in common:
        if not any(name in own for own in options.values()):
            raise SettingsError(f"{flag(name)} is read by none of {', '.join(algos)}: leave it out")
    for algo, own in options.items():
        compatible.check(Settings(algo=algo, **own))
        if others := [flag(name) for name in common if name not in own]:
            LOG.info("%s does not read %s and goes without", algo, ", ".join(others))
    return Plan(options, seeds, lrs, ranks, threads)


@contextmanager
def begun(plan: Plan, given: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """The folder of a comparison, made or begun with the same settings; no other process works in it meanwhile.

    Raises SettingsError naming what is not the same; OutputError where the folder cannot be made, holds other files, or
    another process works in it.
    """
    if not {path.name for path in folder.glob("*")} & {COMMON_FILE, LOCK}:
        make_empty_folder(folder)
    with hold_lock(folder):
        _begin(dict(given) | {"threads": plan.threads, "lrs": [*plan.lrs]}, folder)
        yield


def _begin(common: Mapping[str, Any], folder: Path) -> None:
    path = folder / COMMON_FILE
    if not path.exists():
        import tomli_w

        if any(other.name not in (LOCK, beside(path).name) for other in folder.iterdir()):
            raise not_empty(folder)
        with writing(path):
            write_whole(path, "# What all runs of this comparison have in common.\n\n" + tomli_w.dumps(common))
        return
    was = _common(folder)
    defaults = {setting.name: setting.default for setting in fields(Settings)} | {"lrs": []}
    for name in sorted((was.keys() | common.keys()) - MAY_CHANGE):
        before, now = was.get(name, defaults.get(name)), common.get(name, defaults.get(name))
        # Rates may be added to those that one is chosen from: a run's directory names its own.
        if bool(before) != bool(now) if name == "lrs" else before != now:
            absent = "not given"
            raise SettingsError(f"{flag(name)} is {format_setting(now, absent)}, but {folder} was begun with "
                                f"{format_setting(before, absent)}: take the same, or another directory with --out")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses becomes an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror or error}); make room, or compare in another "
                          "directory with --out") from error


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
