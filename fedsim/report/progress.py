"""The progress of a run: a bar on a terminal, a line for each round elsewhere."""

import statistics
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from fedsim.report.words import format_number
from fedsim.system.console import LOG, format_duration, shows_bars

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

MAX_LISTED = 8  # cars whose losses are listed one by one; more have a minimum, a median and a maximum


class Progress:
    """The display of rounds as they end; --quiet shows nothing.

    If stderr is a terminal, a bar shows round, loss, mIoU and remaining time. If stdout or stderr is not a terminal,
    each round is a line on stdout, so that `> log.txt` and a batch job keep it.
    """

    def __init__(self, rounds: int) -> None:
        """Start the display. rounds: the number of the last round."""
        self._rounds = rounds
        self._seconds: list[float] = []  # of each round shown, for the remaining time
        self._scores: list[str] = []  # of the round evaluated last
        terminal = shows_bars()
        self._lines = not (terminal and sys.stdout.isatty())
        self._display: RichProgress | None = None
        if terminal:
            self._display, self._task = _start_display(rounds)

    def show(self, record: dict) -> None:
        """Show a round. record: a line of metrics.jsonl."""
        if record["round"] > 0:
            self._seconds.append(record["seconds"]["total"])
        if self._lines:
            LOG.info("%s", round_line(record, self._rounds))
        LOG.debug("  %s", detail_line(record))
        if self._display:
            self._display.update(self._task, completed=record["round"], status=self._status(record))

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._display:
            self._display.stop()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _status(self, record: dict) -> str:
        """Return the words beside the bar, e.g. "loss 0.812  mIoU 0.412  about 0:01:12 left"."""
        if record["global"] is not None:
            self._scores = _scores(record)[:2]
        parts = list(self._scores)
        left = self._rounds - record["round"]
        if left and self._seconds:
            # The latest rounds foretell best: the first ones include warm-up.
            parts.append(f"about {format_duration(left * statistics.median(self._seconds[-5:]))} left")
        return "  ".join(parts)


def round_line(record: dict, rounds: int) -> str:
    """Return a round as one line, e.g. "round  3/16  loss 0.812  mIoU 0.412  … cars 0.77 0.81  4.1 s"."""
    width = len(str(rounds))
    parts = [f"round {record['round']:>{width}}/{rounds}", *_scores(record)]
    losses = [entry["loss"] for entry in record["cars"]]
    if len(losses) > MAX_LISTED:
        low, middle, high = min(losses), statistics.median(losses), max(losses)
        parts.append(f"{len(losses)} cars, min {low:.2f} median {middle:.2f} max {high:.2f}")
    elif losses:
        parts.append("cars " + " ".join(f"{loss:.2f}" for loss in losses))
    if failed := record.get("failed"):
        parts.append(f"{len(failed)} did not answer" + ("" if losses else ", so there is no step"))
    parts.append(f"{record['seconds']['total']:.1f} s")
    return "  ".join(parts)


def detail_line(record: dict) -> str:
    """Return the line that --verbose adds to a round."""
    parts = [] if record.get("lr") is None else [f"learning rate {record['lr']:.3g}"]
    parts += [f"{name} {record['seconds'][name]:.2f} s" for name in ("local", "combine", "evaluate")]
    parts += [f"{record[f'bytes_{way}'] / 1e6:.1f} MB {way}" for way in ("up", "down")]
    return "  ".join([*parts, f"theta {record['theta_sha256'][:12]}"])


def _scores(record: dict) -> list[str]:
    scores = record["global"]
    if scores is None:
        return ["not evaluated"]
    return [f"loss {scores['loss']:.3f}", f"mIoU {format_number(scores['miou'])}",
            f"pixel accuracy {format_number(scores['pixel_accuracy'])}"]


def _start_display(rounds: int) -> "tuple[RichProgress, TaskID]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    display = RichProgress(
        TextColumn("round"), MofNCompleteColumn(), TimeElapsedColumn(), BarColumn(bar_width=None),
        TextColumn("{task.fields[status]}"),
        console=Console(stderr=True), redirect_stdout=sys.stdout.isatty(), expand=True,
    )
    task = display.add_task("", total=rounds, status="")
    display.start()
    return display, task
