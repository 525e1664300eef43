"""Agree on keys in torchrun's store that no earlier start of the ranks has used.

torchrun may keep its store when it starts its ranks again. Entries of the earlier ranks, such as addresses of processes
that have ended, would then be taken for entries of the new ones. TORCHELASTIC_RESTART_COUNT does not tell one start
from another, because every machine counts only the restarts that its own ranks have caused.
"""

import hashlib
import json
import time
import uuid
from typing import Protocol


class Store(Protocol):
    """The methods of a torch.distributed store that fedsim uses. They raise RuntimeError if the store is lost."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def multi_get(self, keys: list[str]) -> list[bytes]: ...
    def check(self, keys: list[str]) -> bool: ...


def common_prefix(store: Store, rank: int, size: int, seconds: float) -> str:
    """Return a prefix of keys that no earlier ranks have used, the same on all ranks.

    Every rank writes a random word. Rank 0 reads all words and writes them down as the roll. Some words may be those of
    earlier ranks, so it repeats this. A rank confirms a roll that holds its own word, and a roll that all ranks have
    confirmed holds no old word.

    seconds: how long to wait for all ranks. Raises RuntimeError if not all come in time.
    """
    own, limit = uuid.uuid4().hex, time.monotonic() + seconds
    store.set(f"here/{rank}", own)
    while time.monotonic() < limit:
        if rank == 0:
            words = store.multi_get([f"here/{other}" for other in range(size)])
            store.set("roll", json.dumps([word.decode() for word in words]))
        roll = store.get("roll")
        if own in roll.decode():
            prefix = hashlib.sha256(roll).hexdigest()
            store.set(f"{prefix}/{rank}", "confirmed")
            if store.check([f"{prefix}/{other}" for other in range(size)]):
                return prefix
        time.sleep(0.05)
    raise RuntimeError(f"not all of {size} ranks have come within {seconds:.0f} s")
