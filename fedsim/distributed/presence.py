"""Which ranks are still there and what each is at, told in the store through which they met.

Every rank has a heart: a thread that writes a line to the store each BEAT seconds, and at once when the rank takes up
something else. A rank that gets no answer in a collective reads the lines of all others twice, WATCH seconds apart.

- A rank whose line stays the same is lost: its process has ended or is stopped, or its machine is cut off. Not so if
  its last line says that it gave up on others itself.
- If none is lost, those that had entered fewer collectives than this rank are still at work, and were awaited: every
  rank enters every collective, in the same order.

The count alone would not do: a rank at work is as far behind as a dead one, and one that dies in a collective is not.
The store may hang or be lost too: only threads for which nobody waits longer than PATIENCE seconds speak to it.
"""

import itertools
import json
import threading
import time
from typing import NamedTuple

from fedsim.distributed.meeting import Store

BEAT = 1.0  # seconds
WATCH = 3.0  # seconds in which a heart beats on a busy machine too
PATIENCE = 5.0  # seconds


class Line(NamedTuple):
    """What a rank writes about itself."""

    beat: int
    entered: int  # collectives
    gave_up: bool
    doing: str


NOTHING_YET = Line(-1, 0, False, "starting")


class Presence:
    """A rank's own heart, and its view of the others'."""

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self.entered = 0  # collectives, counted by who enters them
        self._store, self._rank = store, rank
        self._others = [other for other in range(size) if other != rank]
        self._doing, self._gave_up, self._stopped = NOTHING_YET.doing, False, False
        self._news = threading.Event()
        self._heart = threading.Thread(target=self._live, daemon=True)
        self._heart.start()

    def tell(self, doing: str) -> None:
        """What this rank takes up now; the heart writes it, and nobody waits for that."""
        self._doing = doing
        self._news.set()

    def stop(self) -> None:
        """The last line: a thread that still speaks to the store would disturb the interpreter's end."""
        self._stopped = True
        self._news.set()
        self._heart.join(PATIENCE)

    def give_up(self) -> str | None:
        """Say that this rank waits no longer, and find who kept it waiting.

        That is told as "rank 2, last heard of training car 5 (town) in round 3; …"; None if nobody is missing.
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
                self._store.set(str(self._rank), json.dumps(Line(beat, self.entered, self._gave_up, self._doing)))
                if last:
                    return
                self._news.wait(BEAT)
        except RuntimeError:
            return  # the store is gone: whoever reads it will notice too

    def _lines(self) -> dict[int, Line]:
        """The last line of every other rank; of none if the store does not answer."""
        lines: dict[int, Line] = {}

        def read() -> None:
            try:
                for key in map(str, self._others):
                    written = self._store.check([key])
                    lines[int(key)] = Line(*json.loads(self._store.get(key))) if written else NOTHING_YET
            except RuntimeError:
                return

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(PATIENCE)
        return dict(lines) if len(lines) == len(self._others) else {}
