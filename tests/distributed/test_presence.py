"""Who is missing, by what ranks write about themselves: threads and a dictionary in the place of processes and a store.

Mutations seen to fail: a rank that gave up is accused, those behind are named beside a dead one, a last line read once,
a heart that waits for news, a store read without a limit.
"""

import threading
import time

import pytest

from fedsim.distributed import presence
from fedsim.distributed.presence import Presence


class Memory:
    """A store that always answers."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.lines[key] = value

    def get(self, key: str) -> bytes:
        return self.lines[key].encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self.lines for key in keys)


class Hung(Memory):
    """A store whose machine has stopped: it takes what is sent, and never answers."""

    def check(self, keys: list[str]) -> bool:
        threading.Event().wait(30)
        raise RuntimeError("timed out")


class Gone(Memory):
    def set(self, key: str, value: str) -> None:
        raise RuntimeError("Broken pipe")

    def check(self, keys: list[str]) -> bool:
        raise RuntimeError("Connection reset by peer")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for name, seconds in (("BEAT", 0.02), ("WATCH", 0.5), ("PATIENCE", 0.5)):
        monkeypatch.setattr(presence, name, seconds)


@pytest.fixture
def ranks():
    """A function that starts so many ranks, each in a collective further than `behind` of them."""
    started: list[Presence] = []

    def start(size: int, *, behind: tuple[int, ...] = ()) -> list[Presence]:
        store = Memory()
        started.extend(Presence(store, rank, size) for rank in range(size))
        for rank, one in enumerate(started):
            one.tell(f"training car {rank} (d{rank}) in round 3")
            one.entered = 7 - (rank in behind)
        time.sleep(0.2)
        return started

    yield start
    for one in started:
        one.stop()


def test_a_rank_at_work_is_awaited(ranks):
    """Catches a time-out that blames whoever waits too."""
    zero, *_ = ranks(4, behind=(2,))
    assert zero.give_up() == ("rank 2, last heard of training car 2 (d2) in round 3; raise --timeout if that takes "
                              "longer")


def test_a_dead_rank_is_lost_and_those_at_work_are_not_blamed(ranks):
    """Rank 1 died in the collective that 2 has not reached yet: the count alone would blame 2."""
    zero, one, *_ = ranks(4, behind=(2,))
    one.stop()
    assert zero.give_up() == "rank 1, last heard of training car 1 (d1) in round 3; no sign of life since"


def test_all_ranks_of_a_lost_machine_are_named(ranks):
    zero, _, two, three = ranks(4, behind=(2, 3))
    two.stop()
    three.stop()
    assert zero.give_up() == ("rank 2, last heard of training car 2 (d2) in round 3, and "
                              "rank 3, last heard of training car 3 (d3) in round 3; no sign of life since")


def test_a_rank_that_gave_up_and_left_is_not_blamed(ranks):
    """Its time-out ran out first; the one it waited for is to blame."""
    zero, one, two = ranks(3, behind=(2,))
    two.stop()
    one.give_up()
    one.stop()
    assert zero.give_up() == "rank 2, last heard of training car 2 (d2) in round 3; no sign of life since"


def test_nobody_is_missing_where_all_have_come(ranks):
    zero, *_ = ranks(3)
    assert zero.give_up() is None


def test_a_rank_that_has_written_nothing_is_named():
    zero = Presence(Memory(), 0, 2)
    assert zero.give_up() == "rank 1, last heard of starting; no sign of life since"
    zero.stop()


@pytest.mark.parametrize("store", [Hung(), Gone()], ids=["hung", "gone"])
def test_a_store_that_fails_stops_nobody(store, monkeypatch):
    """Neither an exception nor a wait without end, in no thread."""
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    started = time.monotonic()
    zero = Presence(store, 0, 2)
    zero.tell("training car 0 (d0) in round 1")
    assert zero.give_up() == "the other ranks; the store through which they met is silent too"
    zero.stop()
    assert time.monotonic() - started < 5 and not failures


def test_what_a_rank_takes_up_is_written_before_the_next_beat(ranks, monkeypatch):
    monkeypatch.setattr(presence, "BEAT", 60.0)
    zero, = ranks(1)
    zero.tell("training car 9 (d9) in round 4")
    deadline = time.monotonic() + 5
    while "car 9" not in zero._store.lines["0"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "car 9" in zero._store.lines["0"]
