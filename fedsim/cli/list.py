"""fedsim list: list the runs of a folder."""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from fedsim.cli.command import PATH, Command
from fedsim.errors import OutputError
from fedsim.record.overview import Overview, find_runs
from fedsim.report.tables import Table, print_tables
from fedsim.report.words import ABSENT, format_age, format_number


@click.command("list", cls=Command)
@click.argument("folder", default="runs", type=PATH, metavar="[DIR]")
def list_runs(folder: str) -> None:
    """List the runs of a folder and of the folders in it, the latest last.

    A run is running while a process works on it. It is finished when it has its models and its summary. Otherwise it is
    stopped, and --resume continues it.  [default of DIR: runs]
    """
    place = Path(folder)
    if not place.is_dir() and folder != "runs":
        raise OutputError(f"{folder} is no directory; name one that holds runs")
    found = sorted((Overview.of(path) for path in find_runs(place)), key=lambda run: run.changed)
    if not found:
        print(f"There are no runs in {folder} yet: fedsim run --algo admm plays one.")
        return
    now = time.time()
    print_tables([Table(f"{len(found)} run(s) in {folder}",
                        ["run", "algorithm", "data", "cars", "round", "last mIoU", "best mIoU", "age", "state"],
                        [[*_row(run, place, now)] for run in found])])


def _row(run: Overview, place: Path, now: float) -> Sequence[str]:
    settings, scores = run.settings, run.scores
    return (str(run.path.relative_to(place)) if run.path != place else run.path.resolve().name,
            *(str(settings.get(name, ABSENT)) for name in ("algo", "data", "cars")),
            f"{scores.round if scores else ABSENT}/{run.rounds}",
            *(format_number(miou) for miou in (scores and scores.last, scores and scores.best)),
            format_age(now - run.changed), run.standing)
