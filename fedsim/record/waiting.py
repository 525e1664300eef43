"""How long work shows that it advances: a bar on a terminal, nothing elsewhere."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def waiting(what: str, steps: int) -> Iterator[Callable[[], None]]:
    """Show a bar with the remaining time while the block runs; it calls what it is given after each of the steps."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn(what), MofNCompleteColumn(), BarColumn(bar_width=None), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), expand=True) as display:
        task = display.add_task("", total=steps)
        yield lambda: display.advance(task)
