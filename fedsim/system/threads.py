"""Work on several items at a time, on the cores that this process may use."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from fedsim.system.machine import cores

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 4  # items in work for each core: enough to keep it busy, few enough for memory


def ahead(do: Callable[[T], R], items: Iterable[T], most: int | None = None) -> Iterator[R]:
    """Apply a function to each item on the cores that this process may use, and yield the results in order.

    most: results that may wait to be taken. Threads are enough, because Pillow reads and writes outside of Python's
    lock.
    """
    threads = cores()
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[R]]()
    try:
        for item in items:
            waiting.append(pool.submit(do, item))
            if len(waiting) > (most or AHEAD * threads):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
