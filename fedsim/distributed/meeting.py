"""A place in the store of torchrun for the ranks of one start alone.

torchrun may keep its store through every restart of its ranks. What those before have left there, such as addresses of
processes that are gone, would be taken for that of ranks which are late. TORCHELASTIC_RESTART_COUNT does not tell one
start from another: every machine counts those that its own ranks have caused.
"""

import hashlib
import json
import time
import uuid
from typing import Protocol


class Store(Protocol):
    """What is used of a store of torch.distributed. It raises RuntimeError where it cannot answer."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def multi_get(self, keys: list[str]) -> list[bytes]: ...
    def check(self, keys: list[str]) -> bool: ...


def common_prefix(store: Store, rank: int, size: int, seconds: float) -> str:
    """A prefix of keys that no earlier ranks have used, the same on all ranks. Raises RuntimeError if not all come.

    Every rank writes a word that nobody knew before, and rank 0 the roll of all such words, again and again, for some
    may be old. A rank confirms a roll with its own word; one that all have confirmed has no old words.
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
