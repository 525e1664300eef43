"""Signals that ask a run to stop, or to write a checkpoint, at the end of the round.

SIGTERM, SIGINT and SIGHUP, which a closed terminal sends, ask a run to stop. SIGUSR1, which schedulers send as a
warning, asks for a checkpoint. After a SIGINT, a second SIGINT stops the run immediately. So does a SIGTERM, because
that is what torchrun sends its ranks on a second SIGINT.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

import numpy as np

from fedsim.distributed.world import World
from fedsim.errors import Stopped

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
REPEATED = (signal.SIGTERM, signal.SIGHUP)  # by launchers and schedulers


class Signals:
    """A list of the signals that arrive while a block runs. After the block, the earlier handlers are back.

    If the block raises Stopped, it goes on to hear SIGTERM and SIGHUP until `put_handlers_back`: launchers and
    schedulers repeat theirs, and a program that stops must still say how it goes on.

    It only hears signals in the main thread of a process: Python lets no other thread listen.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self.heard: list[int] = []
        self._numbers = numbers
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        listens = threading.current_thread() is threading.main_thread()
        for number in self._numbers if listens else ():
            if signal.getsignal(number) is not None:  # a handler that is no Python function could not be put back
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        for number, handler in self._before.items():
            if not (isinstance(error, Stopped) and number in REPEATED):
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard.append(number)


@contextmanager
def put_handlers_back() -> Iterator[None]:
    """Put the handlers of repeated signals back when the block ends, for a program that outlives a run."""
    listens = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in REPEATED} if listens else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def stopping_signals() -> list[signal.Signals]:
    """Return the signals that ask this process to stop.

    `nohup` lets a process ignore SIGHUP, and then fedsim does too.
    """
    hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    return [number for number in STOPPING if hangs_up or number != signal.SIGHUP]


class RunSignals(Signals):
    """The signals that a run obeys at the end of a round."""

    def __init__(self) -> None:
        super().__init__(*stopping_signals(), signal.SIGUSR1)

    def agree(self, world: World) -> tuple[int, bool]:
        """Return (the signal that asks to stop or 0, whether to write a checkpoint), the same on all ranks.

        Every rank calls it, because a signal may have reached only some of them. It forgets a SIGUSR1.
        """
        wishes = self.heard.count(signal.SIGUSR1)
        for _ in range(wishes):  # one that comes from now on is told the next time
            self.heard.remove(signal.SIGUSR1)
        table = world.table({world.rank: [self._stop, wishes > 0]}, world.size, 2)
        stop, save = np.max(table, axis=0).astype(int).tolist()
        return stop, bool(save or stop)

    @property
    def _stop(self) -> int:
        """The first signal that asked to stop, 0 if there is none: schedulers repeat theirs."""
        return next((number for number in self.heard if number in STOPPING), 0)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._stop == signal.SIGINT and number in STOPPING:
            raise KeyboardInterrupt
        super()._hear(number, frame)
