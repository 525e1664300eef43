"""A prefix that the ranks of one start agree upon, in a store where earlier ones have left their words."""

import threading
from datetime import timedelta

import pytest
import torch.distributed as dist

from fedsim.distributed.meeting import common_prefix


def meet(store: dist.Store, ranks: range, size: int, seconds: float = 20.0) -> dict[int, object]:
    """What these ranks agree upon, by rank, or why they don't."""
    found: dict[int, object] = {}

    def come(rank: int) -> None:
        try:
            found[rank] = common_prefix(store, rank, size, seconds)
        except RuntimeError as error:
            found[rank] = error

    threads = [threading.Thread(target=come, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.fixture
def store() -> dist.Store:
    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=2))
    return store


@pytest.mark.parametrize("size", [1, 2, 4])
def test_all_ranks_of_a_start_agree_and_no_two_starts_do(store, size):
    """Catches a prefix that is the count of restarts, which machines count apart."""
    starts = [meet(store, range(size), size) for _ in range(3)]
    prefixes = [set(start.values()) for start in starts]
    assert [len(prefix) for prefix in prefixes] == [1, 1, 1] and len(set().union(*prefixes)) == 3


def test_words_of_ranks_that_are_gone_stand_for_nobody(store):
    """Three of four came before and died, one comes late. Catches a roll with an old word that counts."""
    assert all(isinstance(fault, RuntimeError) for fault in meet(store, range(3), 4, seconds=0.5).values())
    assert len(set(meet(store, range(4), 4).values())) == 1
    late = meet(store, range(1, 4), 4, seconds=0.5)
    assert all(isinstance(fault, RuntimeError) for fault in late.values())
