"""The logger `fedsim`, through which all messages go, bars that show progress, and output that may fail.

--quiet and --verbose set the logger's level, and a program that imports fedsim may set it too. Under --quiet warnings
are still printed; --verbose adds details. Errors and the results of a command are printed and not logged.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from fedsim.system.names import printable

LOG = logging.getLogger("fedsim")
SILENT = logging.getLogger("fedsim-silent")  # for all ranks but the coordinator
SILENT.disabled = True
SECONDS_BETWEEN_LINES = 30.0  # if progress cannot be shown as a bar


class Enduring:
    """A text stream that drops what it cannot write, and keeps the first error.

    A reader that has gone, a full disk or a closed terminal must not cost a command its files.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write text, or drop it. Return the number of its characters."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError as error:  # a name that is no UTF-8, or letters that the terminal does not know
            self._stream.write(printable(text).encode(error.encoding, "replace").decode(error.encoding))
            return len(text)
        except OSError as error:
            self.error = self.error or error
            return len(text)

    def flush(self) -> None:
        """Flush the stream, or drop what it holds."""
        try:
            self._stream.flush()
        except OSError as error:
            self.error = self.error or error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def finish(self) -> None:
        """Flush for the last time. After an error, lead the rest nowhere: Python flushes again when it exits."""
        self.flush()
        if self.error:
            with suppress(OSError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


@contextmanager
def enduring_output() -> Iterator[tuple[Enduring, Enduring]]:
    """Let sys.stdout and sys.stderr drop what they cannot write while the block runs; yield the two."""
    before = sys.stdout, sys.stderr
    # A stream is None if the program was started without it.
    out, err = (Enduring(stream or open(os.devnull, "w", encoding="utf-8")) for stream in before)  # noqa: SIM115
    sys.stdout, sys.stderr = out, err  # type: ignore[assignment]
    try:
        yield out, err
    finally:
        sys.stdout, sys.stderr = before
        out.flush()
        err.flush()


def open_standard_streams() -> None:
    """Open those of the descriptors 0, 1 and 2 that are closed.

    Otherwise a file of a run gets such a number, and what a library prints goes into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


class _Printed(logging.Handler):
    """A handler that prints on the present sys.stdout, because a progress bar may have replaced it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


class _Words(logging.Formatter):
    """A formatter that marks warnings and nothing else."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"WARNING: {text}" if record.levelno == logging.WARNING else text


def _prepare(log: logging.Logger) -> None:
    handler = _Printed()
    handler.setFormatter(_Words())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # a notebook's root logger would say everything twice


_prepare(LOG)


def shows_progress() -> bool:
    """Return whether the user wants to see progress: not under --quiet."""
    return LOG.isEnabledFor(logging.INFO)


def shows_bars() -> bool:
    """Return whether progress is shown as a bar: on a terminal that can draw one, and not under --quiet."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and shows_progress()


@contextmanager
def show_steps(what: str, steps: int) -> Iterator[Callable[[], None]]:
    """Show how far the block has come and how long it still takes; yield the function to call after each step.

    On a terminal this is a bar, elsewhere a line every SECONDS_BETWEEN_LINES.
    """
    if not shows_bars():
        yield _lines(what, steps)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn(what), MofNCompleteColumn(), BarColumn(bar_width=None), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty(), expand=True) as display:
        task = display.add_task("", total=steps)
        yield lambda: display.advance(task)


def format_duration(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds, such as 1:02:03."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _lines(what: str, steps: int) -> Callable[[], None]:
    started = told = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, told
        done += 1
        now = time.monotonic()
        if now - told >= SECONDS_BETWEEN_LINES and done < steps:
            told = now
            left = format_duration((now - started) / done * (steps - done))
            LOG.info("%s %d of %d, about %s left", what, done, steps, left)

    return advance
