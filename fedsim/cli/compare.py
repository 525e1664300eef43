"""fedsim compare: play several algorithms with several seeds, and report on them side by side."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from fedsim.cli.command import PATH, TRUST, Command, ThemedOption, refuse_torchrun
from fedsim.cli.options import Asked, read_options, setting_options
from fedsim.comparison.findings import Findings, examine
from fedsim.comparison.plan import TUNING_SEED, TUNING_SPLIT, Job, Plan, make_plan, open_folder
from fedsim.comparison.playing import play
from fedsim.comparison.report import judge, write_report
from fedsim.comparison.tuning import Grid, Tuning, describe, name_of, names_of, read_grid, set_by
from fedsim.distributed.world import World
from fedsim.errors import RunError, SettingsError
from fedsim.experiment.past_run import PastRun
from fedsim.options import flag
from fedsim.record.output_folder import make_dated_folder, make_output_folder
from fedsim.settings.conversion import TABLES, read_name
from fedsim.settings.fields import Settings
from fedsim.settings.registry import NAMES
from fedsim.system.console import show_steps

HELP = """Train several algorithms with several seeds, or take existing runs, and report on them side by side.

With --algos, every algorithm is played with every seed, in DIR/runs/ALGO-SEED, each run in a process of its own. An
option goes to the algorithms that read it. The same command with --out DIR continues the comparison in DIR. With RUN...
instead, these runs are compared. They are grouped by algorithm and by the settings that differ, except the seed."""
NOT_ASKED = ("algo", "seed", "out", "resume")  # settings that a comparison decides
OF_THE_REPORT = ("data_root", "device", "threads")  # settings that a report on existing runs reads


DEFAULT_SEEDS = 3


def _compare(runs: tuple[str, ...], algos: str | None, seeds: int | None, lrs: str | None, grid: tuple[str, ...],
             jobs: int | None, target: float | None, out: str | None, trust: tuple[str, ...], **values: Any) -> int:
    """Compare, and return the exit status."""
    if refuse_torchrun("compare"):
        return 2
    if bool(runs) == (algos is not None):
        raise SettingsError("name either existing runs, or algorithms to play with --algos")
    if algos is None:
        played = {"seeds": seeds, "lrs": lrs, "grid": grid or None, "jobs": jobs} | values
        if given := [flag(name) for name, value in played.items()
                     if value not in (None, ()) and name not in OF_THE_REPORT]:
            raise SettingsError(f"{given[0]} belongs to a comparison that plays runs, with --algos: leave it out")
        _compare_runs([PastRun.open(Path(run)) for run in runs], target, out, trust, values)
        return 0
    tried = read_grid(lrs, grid)
    names = [name.strip() for name in algos.split(",")]
    asked = read_options(values | {"algo": names[0]}, names)
    typed = {("", name) for name, value in values.items() if value is not None} | {
        name_of(table, read_name(text)) for table in TABLES for text in values[table]}
    if twice := [table or name for table, name in names_of(tried) if (table, name) in typed]:
        raise SettingsError(f"{set_by(twice[0])} has one value and others to try: leave one of the two out")
    settings = _without(asked, tried)
    _play(names, settings, seeds or DEFAULT_SEEDS, tried, jobs or 1, target, out)
    return 0


def _without(asked: Asked, tried: Grid) -> dict[str, Any]:
    """Return the given settings, without those of a preset that are to be tried with other values."""
    settings = {name: value for name in asked.given if name not in (*NOT_ASKED, *TABLES, *tried)
                and (value := getattr(asked.settings, name)) is not None}
    names = names_of(tried)
    tables = {table: {name: value for name, value in getattr(asked.settings, table).items()
                      if name_of(table, name) not in names} for table in TABLES}
    return settings | {table: values for table, values in tables.items() if values}


def _compare_runs(runs: Sequence[PastRun], target: float | None, out: str | None, trust: Sequence[str],
                  values: dict[str, Any]) -> None:
    """Report on existing runs."""
    if (root := values["data_root"]) is not None:
        runs = [replace(run, settings=replace(run.settings, data_root=root)) for run in runs]
    findings = _examine(runs, values["device"], values["threads"], trust)
    comparison = judge(findings, target, None)
    folder = make_output_folder(out, "comparisons", "-".join(run.name for run in runs)[:80])
    write_report(comparison, findings, [], _command(), folder)


def _play(algos: Sequence[str], given: dict[str, Any], seeds: int, grid: Grid, at_once: int,
          target: float | None, out: str | None) -> None:
    """Play what has not been played, and report on it; an algorithm's failed run does not stop the others."""
    plan = make_plan(algos, given, seeds, grid, at_once, Path(out) if out else None)
    name = f"{'-'.join(plan.options)[:80]}-{Settings(**given).data}"
    folder = Path(out) if out else make_dated_folder("comparisons", name)
    with open_folder(plan, given, folder):
        tuning, troubles, failed = _tune(plan, at_once, folder) if grid else (None, [], [])
        jobs = plan.jobs(folder, tuning)
        unplayed = play(jobs, at_once, "playing")
        begun = [job for job in jobs if job.count_records()]
        troubles += [f"{job.path.name} failed: {'only its played rounds count' if job in begun else 'left out'}"
                     for job in unplayed]
        if runs := [PastRun.open(job.path) for job in begun]:
            findings = _examine(runs, given.get("device"), plan.threads, [given.get("model", "")])
            write_report(judge(findings, target, tuning), findings, troubles, _command(), folder)
    left_out = [algo for algo in plan.options if tuning and tuning.chosen(algo) is None]
    _check_whole([*failed, *unplayed], left_out, folder)


def _tune(plan: Plan, at_once: int, folder: Path) -> tuple[Tuning, list[str], list[Job]]:
    """Try every candidate. Return the scores, sentences about candidates without a score, and the failed runs.

    A run that diverges has not failed: a grid should reach that far. It is not tried again.
    """
    tries = plan.tuning_jobs(folder)
    play([job for jobs in tries.values() for job in jobs.values() if not job.has_diverged()], at_once, "tuning")
    tuning = Tuning(TUNING_SPLIT, {algo: {candidate: job.read_final() for candidate, job in jobs.items()}
                                   for algo, jobs in tries.items()})
    unscored = [(algo, candidate, tries[algo][candidate]) for algo, scores in tuning.scores.items()
                for candidate, miou in scores.items() if miou is None]
    troubles = [f"{algo} has no score at {describe(candidate)}: {job.last_words().removeprefix('fedsim: ')}"
                for algo, candidate, job in unscored]
    troubles += [f"{algo} is left out: no run of its tuning ended" for algo in tries if tuning.chosen(algo) is None]
    return tuning, troubles, [job for _, _, job in unscored if not job.has_diverged()]


def _check_whole(failed: Sequence[Job], left_out: Sequence[str], folder: Path) -> None:
    """Raise RunError if a run has failed, or an algorithm has no run at all."""
    said = [f"{', '.join(left_out)} left out: no run of the tuning ended"] if left_out else []
    if failed:
        said.append(f"{', '.join(job.path.name for job in failed)} failed: the .log file beside each in {folder} "
                    f"has its output, and the same command with --out {folder} continues it")
    elif left_out:
        said.append("take smaller learning rates, in another directory")
    if said:
        raise RunError("; ".join(said))


def _examine(runs: Sequence[PastRun], device: str | None, threads: int | None, trust: Sequence[str]) -> Findings:
    world = World.join(device or "auto", threads=threads)
    with show_steps("asking models", len(runs)) as advance:
        return examine(runs, world, trust, advance)


def _command() -> str:
    """Return the command that was typed, as a shell takes it."""
    return shlex.join(["fedsim", *sys.argv[1:]])


def _names(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the words that a shell completes the last name of --algos to."""
    *before, last = begun.split(",")
    return [CompletionItem(",".join([*before, name])) for name in NAMES
            if name.startswith(last) and name not in before]


compare: click.Command = Command(
    "compare", callback=_compare, help=HELP, params=[
        click.Argument(["runs"], nargs=-1, metavar="[RUN...]", type=PATH),
        ThemedOption("--algos", theme="Comparison", metavar="ALGO,ALGO...", shell_complete=_names,
               help="Algorithms to play, by name; your own as MODULE:CLASS."),
        ThemedOption("--seeds", theme="Comparison", type=click.IntRange(1), metavar="N",
               help=f"Number of seeds: every algorithm is played with seeds 0 to N-1.  [default: {DEFAULT_SEEDS}]"),
        ThemedOption("--lrs", theme="Comparison", metavar="X,X...",
               help=f"Learning rates to try with every algorithm, with seed {TUNING_SEED} on the {TUNING_SPLIT} split; "
                    "each algorithm is then played with its best one."),
        ThemedOption("--grid", theme="Comparison", metavar="NAME=V,V...", multiple=True,
               help="Values to try for an option of an algorithm, yours included, or for a setting of local training, "
                    "as --lrs does for learning rates. An algorithm tries all combinations of the values that it "
                    "reads. May be given several times."),
        ThemedOption("--jobs", theme="Comparison", type=click.IntRange(1), metavar="N",
               help="Runs at the same time, which share cores and GPUs.  [default: 1]"),
        ThemedOption("--target", theme="Comparison", type=click.FloatRange(0, 1), metavar="X",
               help="mIoU whose cost in rounds, bytes and seconds is reported. Default: 90 % of the best final mIoU "
                    "of an algorithm that communicates."),
        ThemedOption("--out", theme="Comparison", type=PATH, metavar="DIR",
               help="Directory for runs and report: a new or empty one, or that of a comparison to continue. "
                    "Default: comparisons/ALGOS-DATA-TIME."),
        ThemedOption("--trust", theme="Comparison", multiple=True, metavar="MODULE:NAME",
                     help=f"With RUN...: {TRUST[0].lower()}{TRUST[1:]}"),
        *setting_options([setting.name for setting in fields(Settings) if setting.name not in NOT_ASKED])])
