"""A process that does a piece of work, the signals that it is passed, and the processes that it starts in its turn."""

import os
import signal
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from fedsim.system.launchers import end_with_launchers, make_child_environment

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # to stop
OBEYED = (signal.SIGINT, signal.SIGTERM)  # even if this process was started to ignore them
POLL = 0.05  # seconds


def run_in_child(work: Callable[[], int]) -> int:
    """Do the work in a child process and return its exit status, -N if signal N has ended it.

    The first signal that asks to stop goes to the child. All later ones, and SIGUSR1, go to the processes that the
    child has started, because the child may be in the middle of stopping. A SIGHUP that this process ignores, as under
    nohup, is ignored by all of them. If this process is killed, the child stops.
    """
    heard: list[int] = []
    numbers = {*_listened_to(), signal.SIGUSR1} if threading.current_thread() is threading.main_thread() else set()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # until each process has its own handlers
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in numbers}
    sys.stdout.flush()
    sys.stderr.flush()
    launchers = make_child_environment()
    child = os.fork()
    if child == 0:
        os.environ.update(launchers)
        _be_child(work, mask, numbers)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return os.waitstatus_to_exitcode(_wait(child, heard))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def find_children(pid: int) -> list[int]:
    """Return the processes that a process has started itself; without Linux's /proc an empty list."""
    return _children()[pid]


def find_descendants(pid: int) -> list[int]:
    """Return a process and all that it has started, directly or not; without Linux's /proc, the process alone."""
    children, family = _children(), [pid]
    for member in family:  # which grows meanwhile
        family += children[member]
    return family


def send(number: int, processes: Iterable[int]) -> None:
    """Send a signal to those of the processes that are still there."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _listened_to() -> list[signal.Signals]:
    return [number for number in ASKING if number in OBEYED or signal.getsignal(number) != signal.SIG_IGN]


def _be_child(work: Callable[[], int], mask: Iterable[int], numbers: Iterable[int]) -> None:
    """Do the work and end, whatever happens in it."""
    status = 1
    try:
        os.setsid()  # or Ctrl-C would reach it twice: from the terminal, and from its parent
        for number in numbers:
            # What it starts ignores SIGUSR1 until it listens to it.
            signal.signal(number, signal.SIG_IGN if number == signal.SIGUSR1 else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.environ.update(make_child_environment())
        end_with_launchers(quiet=True)
        status = work()
    except SystemExit as asked:
        status = asked.code if isinstance(asked.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _wait(child: int, heard: list[int]) -> int:
    """Pass signals on until the child has ended, and return its wait status."""
    asked = False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        while heard:
            number = heard.pop(0)
            if asked or number == signal.SIGUSR1:
                send(number, find_children(child))
            else:
                send(number, [child])
                asked = True
        time.sleep(POLL)


def _children() -> dict[int, list[int]]:
    """Return the children of every process that has children."""
    children = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has ended
            parent = path.read_text(errors="replace").rpartition(")")[2].split()[1]
            children[int(parent)].append(int(path.parent.name))
    return children
