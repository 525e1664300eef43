"""The signals that reach a program of fedsim before and after its work, and while it imports modules.

Ctrl-C ends a program at any moment without a traceback, with the status 130, as a shell reports it. While a command
works, Ctrl-C raises KeyboardInterrupt, so that files are closed or removed. Before and after, and while a module is
imported, there is nothing to keep, and libraries print tracebacks: the process ends at once.

This module imports little, because Ctrl-C may come while it does.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

INTERRUPTED = 128 + signal.SIGINT  # the exit status that a shell reports after Ctrl-C
IMPORTING = ("importlib._bootstrap", "_frozen_importlib")  # the same module, under its later and its first name

_raises = False


def prepare_program() -> None:
    """Prepare a program for signals, before its long imports: Ctrl-C, SIGUSR1, and the end of its launchers.

    A program that was started to ignore Ctrl-C ignores it. SIGUSR1 asks for a checkpoint, and there is none yet.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _end_if_interrupted
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    from fedsim.system.launchers import end_with_launchers

    end_with_launchers()


class raise_interrupts:
    """Let Ctrl-C raise KeyboardInterrupt while the block runs."""

    def __enter__(self) -> None:
        global _raises
        _raises = True

    def __exit__(self, *error: object) -> None:
        global _raises
        _raises = False


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _raises and not _is_importing(frame):
        raise KeyboardInterrupt
    os._exit(INTERRUPTED)


def _is_importing(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_globals.get("__name__") in IMPORTING:
            return True
        frame = frame.f_back
    return False


def _end_if_interrupted(unraisable: Any) -> None:
    """Catch an interrupt in a place whose exceptions Python prints and drops, such as the end of an object."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        os._exit(INTERRUPTED)
    sys.__unraisablehook__(unraisable)
