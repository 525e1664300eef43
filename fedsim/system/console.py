"""The logger `fedsim`, through which all messages go, bars that show progress, and output that may fail.

--quiet and --verbose set the logger's level, and a program that imports fedsim may set it too. Under --quiet warnings
are still printed; --verbose adds details. Errors and the results of a command are printed and not logged.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import UnsupportedOperation
from typing import Any, TextIO

from fedsim.system.names import printable

LOG = logging.getLogger("fedsim")
SILENT = logging.getLogger("fedsim-silent")  # for all ranks but the coordinator
SILENT.disabled = True
SECONDS_BETWEEN_LINES = 30.0  # if progress cannot be shown as a bar


class Enduring:
    """A text stream that drops what it cannot write, and keeps the first error.

    A reader that has gone, a full disk, or a stream that a program has closed or made itself must not cost a command
    its files.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """stream: None drops everything, as Python has it where a program was started without the stream."""
        self._stream: Any = stream
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        """Write text, or drop it. Return the number of its characters."""
        if not isinstance(text, str):
            raise TypeError(f"write() takes text, not {type(text).__name__}")
        self._endure(lambda: self._write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream, or drop what it holds."""
        self._endure(lambda: getattr(self._stream, "flush", bool)())

    def isatty(self) -> bool:
        """Return whether the stream is a terminal. A stream that cannot tell counts as no terminal."""
        with suppress(Exception):
            return bool(self._stream.isatty())
        return False

    def fileno(self) -> int:
        """Return the stream's descriptor. Raises OSError if it has no descriptor."""
        with suppress(Exception):
            return int(self._stream.fileno())
        raise UnsupportedOperation("fileno")

    @property
    def encoding(self) -> str:
        """The encoding of the text, in which a table is drawn too."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def __getattr__(self, name: str) -> Any:
        # To an ASCII stream that has a buffer, click writes UTF-8 through the buffer, past this stream.
        if name == "buffer" and self.encoding.lower() in ("ascii", "us-ascii", "ansi_x3.4-1968", "646"):
            raise AttributeError(name)
        return getattr(self._stream, name)

    def finish(self) -> None:
        """Flush for the last time. After an error, lead the rest nowhere: Python flushes again when it exits."""
        self.flush()
        if self.error:
            with suppress(OSError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())

    def describe_error(self) -> str:
        """Return what was wrong at the first error, in words of the system if it has any."""
        return str(getattr(self.error, "strerror", None) or self.error)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:  # a name that is no UTF-8, or letters that the terminal does not know
            self._stream.write(printable(text).encode(error.encoding, "replace").decode(error.encoding))

    def _endure(self, action: Callable[[], object]) -> None:
        if self._stream is None:
            return
        try:
            action()
        except Exception as error:  # ValueError if it is closed; a stream of a program's own may raise anything
            self.error = self.error or error


@contextmanager
def enduring_output() -> Iterator[tuple[Enduring, Enduring]]:
    """Let sys.stdout and sys.stderr drop what they cannot write while the block runs; yield the two."""
    before = sys.stdout, sys.stderr
    out, err = Enduring(sys.stdout), Enduring(sys.stderr)
    sys.stdout, sys.stderr = out, err  # type: ignore[assignment]
    try:
        yield out, err
    finally:
        # Another thread may have led them elsewhere meanwhile.
        sys.stdout, sys.stderr = (stream if now is ours else now for stream, ours, now in zip(
            before, (out, err), (sys.stdout, sys.stderr), strict=True))
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
    """Let the log print, unless a program has given it a handler; a level that a program has set stays."""
    if not log.handlers:
        handler = _Printed()
        handler.setFormatter(_Words())
        log.addHandler(handler)
        log.propagate = False  # a notebook's root logger would say everything twice
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)


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
