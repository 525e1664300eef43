"""Heartbeats that tell which ranks are alive and what each is doing.

They go through the store through which the ranks met. Every rank has a thread that writes a line to it every BEAT
seconds, and also when the rank begins something new. A rank that gets no answer in a collective reads the lines of all
other ranks twice, WATCH seconds apart.

- A rank whose line has not changed is lost: its process has ended or is stopped, or its machine is cut off. The
  exception is a rank whose last line says that it has given up on others itself.
- If no rank is lost, the ranks that have entered fewer collectives than this one are still at work, and kept it
  waiting: every rank enters every collective, in the same order.

Counting collectives is not enough. A busy rank lags behind as much as a dead one, and a rank that dies inside a
collective does not lag at all. The store may hang or be lost too, so only threads speak to it, and nobody waits longer
than PATIENCE seconds for one.
"""

import itertools
import json
import threading
import time
from typing import NamedTuple

from fedsim.distributed.meeting import Store

BEAT = 1.0  # seconds
WATCH = 3.0  # seconds; a living rank writes at least one line in them, on a busy machine too
PATIENCE = 5.0  # seconds


class Heartbeat(NamedTuple):
    """The line that a rank writes about itself."""

    beat: int
    entered: int  # collectives
    gave_up: bool
    doing: str


NOTHING_YET = Heartbeat(-1, 0, False, "starting")


class Presence:
    """The heartbeat of this rank, and its view of the other ranks'."""

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self.entered = 0  # collectives; `World` counts them
        self._store, self._rank = store, rank
        self._others = [other for other in range(size) if other != rank]
        self._doing, self._gave_up, self._stopped = NOTHING_YET.doing, False, False
        self._news = threading.Event()
        self._heart = threading.Thread(target=self._live, daemon=True)
        self._heart.start()

    def tell(self, doing: str) -> None:
        """Note what this rank does now. The thread writes it to the store, and the caller does not wait for that."""
        self._doing = doing
        self._news.set()

    def stop(self) -> None:
        """Write the last line and end the thread, which would otherwise disturb the end of the interpreter."""
        self._stopped = True
        self._news.set()
        self._heart.join(PATIENCE)

    def give_up(self) -> str | None:
        """Note that this rank waits no longer, and return who kept it waiting, or None if no rank is missing.

        An example is "rank 2, last heard of training car 5 (town) in round 3; no sign of life since".
        """
        self._gave_up = True
        self._news.set()
        before = self._lines()
        if not before:
            return "the other ranks; the store through which they met is silent too"
        time.sleep(WATCH)
        after = self._lines()
        lost = [rank for rank, line in after.items() if line == before[rank] and not line.gave_up]
        behind = [rank for rank in after if before[rank].entered < self.entered]
        named = ", and ".join(f"rank {rank}, last heard of {after[rank].doing}" for rank in lost or behind)
        what = "no sign of life since" if lost else "raise --timeout if that takes longer"
        return f"{named}; {what}" if named else None

    def _live(self) -> None:
        try:
            for beat in itertools.count():
                self._news.clear()
                last = self._stopped
                self._store.set(str(self._rank), json.dumps(Heartbeat(beat, self.entered, self._gave_up, self._doing)))
                if last:
                    return
                self._news.wait(BEAT)
        except RuntimeError:
            return  # the store is lost, and ranks that read it notice that too

    def _lines(self) -> dict[int, Heartbeat]:
        """Return the last line of every other rank; an empty dict if the store does not answer."""
        lines: dict[int, Heartbeat] = {}

        def read() -> None:
            try:
                for key in map(str, self._others):
                    written = self._store.check([key])
                    lines[int(key)] = Heartbeat(*json.loads(self._store.get(key))) if written else NOTHING_YET
            except RuntimeError:
                return

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(PATIENCE)
        return dict(lines) if len(lines) == len(self._others) else {}
