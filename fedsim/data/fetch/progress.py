"""The progress of a download: a bar in a terminal, lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fedsim.data.fetch.download import Progress, megabytes
from fedsim.system.console import shows_progress

LINE_EVERY = 100_000_000  # bytes between two lines if there is no bar


@contextmanager
def show_download(url: str) -> Iterator[Progress]:
    """Give the function that shows how far the download is."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    tell(f"Downloading {url}")
    console = Console(stderr=True)
    if not console.is_terminal or not shows_progress():
        yield _lines()
        return
    with Bar(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=None)
        yield lambda here, total: bar.update(task, completed=here, total=total)


def tell(text: str) -> None:
    """Print a line unless --quiet was given. On stderr, because the command's result is printed on stdout."""
    if shows_progress():
        print(text, file=sys.stderr)


def _lines() -> Progress:
    told = 0

    def tell_now_and_then(here: int, total: int | None) -> None:
        nonlocal told
        if here >= told + LINE_EVERY or here == total:
            told = here
            tell(f"{megabytes(here)}{'' if total is None else f' of {megabytes(total)}'}")

    return tell_now_and_then
