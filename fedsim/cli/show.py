"""fedsim show: show all that is known about one run."""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from fedsim.cli.command import PATH, Command
from fedsim.data.partition import Scored
from fedsim.errors import OutputError
from fedsim.record.metrics_file import check_records, read_metrics
from fedsim.record.overview import RUN_FILES, Overview, list_of_texts
from fedsim.record.run_directory import RunDirectory
from fedsim.report.summary import Outcome
from fedsim.report.tables import Table, print_block, print_tables
from fedsim.report.words import ABSENT, describe_start

WARNINGS = 8  # shown at most: the latest ones of a run


@click.command(cls=Command)
@click.argument("run", type=PATH, metavar="RUN")
def show(run: str) -> None:
    """Show all that is known about a run: state, settings, scores, cars, files, and commands to type next."""
    path = Path(run)
    if not any((path / name).exists() for name in RUN_FILES):
        raise OutputError(f"{run} is not a run directory; fedsim list shows the runs that there are")
    overview = Overview.of(path)
    if overview.fault:
        raise OutputError(f"{run} is damaged: {overview.fault}; restore the file, or start a new run")
    directory = RunDirectory(path)
    records = read_metrics(directory.metrics)
    check_records(records, directory.metrics)
    tables, outcome = [_state(overview)], _outcome(overview, records)
    if overview.given:
        rows = [[name, str(value)] for name, value in overview.given.items()]
        tables.append(Table("Settings", ["given", "value"], rows))
    print_tables([*tables, *(outcome.tables() if records else [])])
    if isinstance(start := overview.environment.get("start"), dict):
        print(describe_start(start))
    if records:
        for sentence in outcome.sentences():
            print(sentence)
    for warning in outcome.all_warnings()[-WARNINGS:]:
        print(f"WARNING: {warning}")
    print_block("Files", _files(directory))
    print_block("To type", _commands(overview, directory))


def _state(overview: Overview) -> Table:
    settings, scores = overview.settings, overview.scores
    rows = [["state", overview.state], ["round", f"{scores.round if scores else ABSENT} of {overview.rounds}"]]
    rows += [[title, str(settings.get(name, ABSENT))] for title, name in (
        ("algorithm", "algo"), ("data", "data"), ("cars", "cars"), ("model", "model"))]
    if scores and scores.last is not None:
        rows += [["last mIoU", f"{scores.last:.3f}"], ["best mIoU", f"{scores.best:.3f} (round {scores.best_round})"]]
    return Table(overview.path.resolve().name, ["", "run"], rows)


def _outcome(overview: Overview, records: list[dict]) -> Outcome:
    """Return what the run has reached so far. Baselines and notes are known only after its end."""
    scored = [record["global"] for record in records if record["global"]]
    ended: dict[str, Any] = {}
    try:
        read = json.loads((overview.path / "report" / "summary.json").read_text(encoding="utf-8"))
        ended = read if isinstance(read, dict) else {}
    except (OSError, ValueError, RecursionError):
        pass
    baselines = ended.get("baselines")
    return Outcome(records, [*scored[-1]["class_iou"]] if scored else [],
                   Scored(str(overview.settings.get("eval_split", "")), overview.settings.get("hold_out_drive")),
                   baselines if isinstance(baselines, dict) else {}, list_of_texts(ended, "notes"),
                   list_of_texts(overview.environment, "warnings"))


def _files(directory: RunDirectory) -> list[Path]:
    """Return the files and folders to look at first, if they are there."""
    wanted = [directory.report / "index.html", directory.report / "summary.md", directory.metrics,
              directory.tensorboard, directory.checkpoints, directory.path / "config.toml"]
    return [path for path in wanted if path.exists()]


def _commands(overview: Overview, directory: RunDirectory) -> list[str]:
    return [*([overview.resume + "  # goes on"] if overview.state == "stopped" else []),
            *([overview.repeat + "  # repeats it"] if overview.repeat else []),
            f"tensorboard --logdir {shlex.quote(str(directory.tensorboard))}"]
