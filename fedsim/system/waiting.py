"""How long work shows that it advances: a bar on a terminal, a line now and then elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fedsim.system.console import LOG, tells_progress

A_LINE = 30.0  # seconds between lines


@contextmanager
def waiting(what: str, steps: int) -> Iterator[Callable[[], None]]:
    """Show that the block advances, and the remaining time; it calls what it is given after each of the steps."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or not tells_progress():
        yield _lines(what, steps)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn(what), MofNCompleteColumn(), BarColumn(bar_width=None), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty(), expand=True) as display:
        task = display.add_task("", total=steps)
        yield lambda: display.advance(task)


def clock(seconds: float) -> str:
    """Such as 1:02:03."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _lines(what: str, steps: int) -> Callable[[], None]:
    started = told = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, told
        done += 1
        now = time.monotonic()
        if now - told >= A_LINE and done < steps:
            told = now
            LOG.info("%s %d of %d, about %s left", what, done, steps, clock((now - started) / done * (steps - done)))

    return advance
