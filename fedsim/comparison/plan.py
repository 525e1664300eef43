"""The runs that a comparison is made of, and its folder."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fedsim.comparison.tuning import (
    TRIED,
    Candidate,
    Grid,
    Tuning,
    candidates,
    file_suffix,
    reads,
    with_candidate,
)
from fedsim.distributed.devices import Place, fair_threads, ranks_that_fit
from fedsim.errors import OutputError, SettingsError
from fedsim.experiment.dealing import cars_of, check_scenes, source_of
from fedsim.experiment.identity import FREE
from fedsim.experiment.past_run import PastRun
from fedsim.options import flag
from fedsim.record.metrics_file import check_records, read_metrics
from fedsim.record.output_folder import LOCK, hold_lock, make_empty_folder, not_empty
from fedsim.report.words import format_setting
from fedsim.settings import compatible, registry
from fedsim.settings.conversion import TABLES
from fedsim.settings.fields import Settings, read_settings
from fedsim.system.console import LOG
from fedsim.system.files import beside, write_whole

COMMON_FILE = "comparison.toml"
MAY_CHANGE = {*FREE} - {"rounds", "evaluate_every", "device"}  # settings that may differ if it goes on
TUNING_SPLIT, TUNING_SEED = "val", 0
DIVERGED = re.compile("fedsim: .*a smaller --lr")  # the last line of a run whose numbers have diverged


@dataclass(frozen=True)
class Job:
    """A run to play, and its options."""

    path: Path
    options: Mapping[str, Any]

    @property
    def log(self) -> Path:
        """The file that holds everything the run has printed."""
        return self.path.parent / f"{self.path.name}.log"

    def last_words(self) -> str:
        """Return the last line that the run has printed."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            lines = []
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def has_ended(self) -> bool:
        """Return whether the run has nothing left to play."""
        return (self.path / "config.toml").exists() and PastRun.open(self.path).has_ended()

    def has_diverged(self) -> bool:
        """Return whether the run gave up because its learning rate is too large, so that it would give up again."""
        return bool(DIVERGED.match(self.last_words())) and not self.has_ended()

    def count_records(self) -> int:
        """Return the number of rounds on record, round 0 included."""
        try:
            return (self.path / "metrics.jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0

    def read_final(self) -> float | None:
        """Return the mIoU of the last round; None if the run has not ended. Raises OutputError."""
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
    """The runs of a comparison, described by algorithms, seeds and a grid to choose settings from."""

    options: Mapping[str, Mapping[str, Any]]  # algorithm -> settings, without seed
    seeds: int
    grid: Grid  # each algorithm tries the values that it reads, and is then played with the best
    ranks: int  # of each run; a run that pools all scenes in one car has one rank
    threads: int  # of each rank

    def tuning_jobs(self, folder: Path) -> dict[str, dict[Candidate, Job]]:
        """Return the runs for choosing settings, by algorithm and candidate, without algorithms that have no choice."""
        tries = {algo: {candidate: self._job(folder / "tuning" / f"{_file_name(algo)}{file_suffix(candidate)}", algo,
                                             candidate, seed=TUNING_SEED, eval_split=TUNING_SPLIT)
                        for candidate in candidates(algo, self.grid)} for algo in self.options}
        return {algo: jobs for algo, jobs in tries.items() if jobs}

    def jobs(self, folder: Path, tuning: Tuning | None) -> list[Job]:
        """Return the runs to compare, seed by seed. An algorithm has no run if none of its candidates has a score."""
        jobs = []
        for seed in range(self.seeds):
            for algo in self.options:
                candidate = tuning.chosen(algo) if tuning else ()
                if candidate is not None:
                    name = f"{_file_name(algo)}{file_suffix(candidate)}-{seed}"
                    jobs.append(self._job(folder / "runs" / name, algo, candidate, seed=seed))
        return jobs

    def _job(self, path: Path, algo: str, candidate: Candidate, **more: Any) -> Job:
        ranks = 1 if registry.algorithm_class(algo).pooled else self.ranks
        settings = with_candidate(self.options[algo], candidate)
        return Job(path, {"algo": algo} | settings | more | {"ranks": ranks})


def make_plan(algos: Sequence[str], given: Mapping[str, Any], seeds: int, grid: Grid, at_once: int,
              folder: Path | None) -> Plan:
    """Plan a comparison. Raises UserError if its settings contradict each other.

    given: the settings that the user gave, by name; each goes to the algorithms that read it. at_once: the number of
    runs at the same time. folder: that of the comparison, if it goes on.
    """
    algos = [registry.short_name(algo) for algo in algos]
    for algo in algos:
        registry.algorithm_class(algo)
    if len(set(algos)) < len(algos):
        raise SettingsError(f"--algos is {','.join(algos)}; name every algorithm once")
    for name in grid:
        if not any(reads(algo, name) for algo in algos):
            raise SettingsError(f"--grid {name}: it is neither an option of {', '.join(algos)}, nor a setting of local "
                                f"training ({', '.join(TRIED)})")
    asked = Settings(**given)
    cars = cars_of(asked, ranks=1)
    source = source_of(asked, cars)
    check_scenes(asked, source)  # raises here, and not in every run
    if grid:
        source.count(TUNING_SPLIT)
    ranks = max(1, min(cars, ranks_that_fit(asked.device, asked.threads) // at_once))
    threads = asked.threads or _read_threads(folder) or fair_threads(Place(local_size=ranks * at_once))
    # Cars and threads are fixed, because their defaults may depend on the machine.
    common = dict(given) | {"cars": cars, "threads": threads}
    options = {algo: {name: value for name, value in compatible.fitting(common, {"algo": algo}).items()
                      if name != "algo"} for algo in algos}
    for name in common:
        if not any(name in settings for settings in options.values()):
            raise SettingsError(f"{flag(name)} is read by none of {', '.join(algos)}: leave it out")
    for algo, settings in options.items():
        for candidate in candidates(algo, grid) or [()]:
            compatible.check(Settings(algo=algo, **with_candidate(settings, candidate)))
        if unread := [flag(name) for name in common if name not in settings]:
            LOG.info("%s does not read %s and is played without it", algo, ", ".join(unread))
    return Plan(options, seeds, grid, ranks, threads)


@contextmanager
def open_folder(plan: Plan, given: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """Make the folder of a comparison, or go on in it; no other process may work in it during the block.

    Raises SettingsError if it was begun with other settings, and names them. Raises OutputError if the folder cannot be
    made, holds other files, or another process works in it.
    """
    if not {path.name for path in folder.glob("*")} & {COMMON_FILE, LOCK}:
        make_empty_folder(folder)
    with hold_lock(folder):
        _write_common(dict(given) | {"threads": plan.threads} | _values_to_try(plan.grid), folder)
        yield


def _write_common(common: Mapping[str, Any], folder: Path) -> None:
    """Write the common settings, or check that those in the folder are the same. Raises UserError."""
    path = folder / COMMON_FILE
    if not path.exists():
        import tomli_w

        if any(other.name not in (LOCK, beside(path).name) for other in folder.iterdir()):
            raise not_empty(folder)
        with explain_refusal(path):
            write_whole(path, "# What all runs of this comparison have in common.\n\n" + tomli_w.dumps(common))
        return
    was = _read_common(folder)
    defaults = {setting.name: setting.default for setting in fields(Settings)} | _values_to_try({}) | {
        table: {} for table in TABLES}
    for name in sorted((was.keys() | common.keys()) - MAY_CHANGE):
        before, now = was.get(name, defaults.get(name)), common.get(name, defaults.get(name))
        # Values to try may be added: the name of a run's directory holds its own.
        changed = (bool(before) != bool(now) if name == "lrs" else
                   {*(before or {})} != {*(now or {})} if name == "grid" else before != now)
        if changed:
            begun = format_setting(before, "")
            raise SettingsError(f"{flag(name)} is {format_setting(now, 'not given')}, but {folder} was begun "
                                f"{f'with {begun}' if begun else 'without it'}: take the same, or another directory "
                                "with --out")


def _values_to_try(grid: Grid) -> dict[str, Any]:
    """Return the values to try as the file of common settings has them."""
    return {"lrs": [float(lr) for lr in grid.get("lr", ())],
            "grid": {name: [*values] for name, values in grid.items() if name != "lr"}}


@contextmanager
def explain_refusal(path: Path) -> Iterator[None]:
    """Turn an OSError that ends the block into an OutputError about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror or error}); make room, or compare in another "
                          "directory with --out") from error


def _read_threads(folder: Path | None) -> int | None:
    """Return the threads of the runs in the folder; other runs need the same, or their bits cannot be compared."""
    if folder is None or not (folder / COMMON_FILE).exists():
        return None
    threads = _read_common(folder).get("threads")
    return threads if isinstance(threads, int) else None


def _read_common(folder: Path) -> dict[str, Any]:
    try:
        return read_settings(folder / COMMON_FILE)
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder / COMMON_FILE} cannot be read ({error}): compare in another directory with "
                          "--out") from error


def _file_name(name: str) -> str:
    """Return an algorithm's name as part of a file's name: that of a user's own algorithm has a colon."""
    return re.sub(r"[^\w.-]+", "-", name)
