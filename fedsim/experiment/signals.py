"""Signals as wishes: to stop, or to write a checkpoint, once the round under way is over.

SIGTERM and SIGINT ask a run to stop; SIGUSR1, which schedulers send as a warning, asks for a checkpoint. Another one
after a SIGINT is no wish any more: it interrupts at once. As a SIGTERM, too: that is how torchrun passes on a second
SIGINT.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from fedsim.distributed.world import World

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Listens while its block runs; handlers that were there come back after it.

    In the main thread of a process alone: Python lets no other one listen.
    """

    def __init__(self) -> None:
        self._stop = 0  # the number of the signal
        self._save = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        listens = threading.current_thread() is threading.main_thread()
        for number in (*STOPPING, signal.SIGUSR1) if listens else ():
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wishes(self, world: World) -> tuple[int, bool]:
        """(the signal that asks to stop or 0, whether a checkpoint is wanted), agreed upon by all ranks.

        Every rank calls it: a signal may have reached only some of them. A wish for a checkpoint is forgotten.
        """
        table = world.table({world.rank: [self._stop, self._save]}, world.size, 2)
        self._save = 0
        stop, save = np.max(table, axis=0).astype(int).tolist()
        return stop, bool(save or stop)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self._save = 1
        elif self._stop == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            self._stop = self._stop or number
