"""What is asked of all ranks together, and how they meet."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from scenery import SOLO, on_ranks

from fedsim.distributed.devices import Place
from fedsim.distributed.group import listen_at_home, reason_of
from fedsim.errors import DataError, RankError, RunError


@pytest.mark.parametrize(("at", "own", "expected"), [
    (Place(1, 2, 1, 2), None, "lo"), (Place(1, 2, 1, 2), "eth7", "eth7"), (Place(1, 4, 1, 2), None, None)])
def test_ranks_of_one_machine_listen_on_its_loopback_unless_told_otherwise(monkeypatch, at, own, expected):
    """Catches ranks of several machines that cannot reach each other, and a user's own setting overridden."""
    monkeypatch.setattr("socket.if_nameindex", lambda: [(2, "eth0"), (1, "lo")])
    with monkeypatch.context() as patch:
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            patch.setenv(name, own or "")
            if own is None:
                patch.delenv(name)
        listen_at_home(at)
        assert [os.environ.get(name) for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")] == [expected] * 2


def test_the_reason_of_nccl_is_told_and_no_stack_trace():
    """A message as PyTorch 2.14 writes it. Catches the first line alone, which says only that something failed."""
    said = ("NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, unhandled cuda error, NCCL 2.27.5\n"
            "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\n"
            "Cuda failure 'out of memory'\nException raised from create (most recent call first):\nframe #0")
    assert reason_of(RuntimeError(said)) == f"{said.splitlines()[0]} Cuda failure 'out of memory'"
    assert reason_of(RuntimeError("Connection reset\nframe #0: c10")) == "Connection reset"


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_table_holds_every_ranks_rows_on_every_rank(ranks):
    def fill(world):
        mine = {index: [index + 0.1, index * 0.3] for index in range(5) if index % ranks == world.rank}
        return world.table(mine, 5, 3)

    for table in on_ranks(ranks, fill):
        assert table.tolist() == [[index + 0.1, index * 0.3, 0.0] for index in range(5)]


GATHER = """
import torch
from fedsim.distributed.world import World
world = World.join(device="cpu", threads=1, timeout_seconds=60)
columns = torch.arange(6).view(2, 3).T + 10.5 * world.rank  # not contiguous
everyone = world.gather(columns)
if world.is_coordinator:
    print([own.tolist() for own in everyone])
else:
    assert everyone is None
world.leave()
"""


HOST_STOPS = """
import os, signal, torch
from fedsim.distributed import presence
from fedsim.errors import RankError
from fedsim.distributed.world import World
presence.PATIENCE = 0.5
world = World.join(device="cpu", threads=1, timeout_seconds=2)
ones = torch.ones(3)
world.sum_(ones)
if world.is_coordinator:
    os.kill(os.getpid(), signal.SIGSTOP)
try:
    world.sum_(ones)
except RankError as error:
    print(error)
world.leave()
"""


def test_a_rank_stops_by_itself_where_the_one_that_hosts_the_store_has_stopped(tmp_path):
    """Without torchrun, so that rank 0 hosts the store. Catches a wait for the store's answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    zero, one = (subprocess.Popen([sys.executable, "-c", HOST_STOPS], stdout=subprocess.PIPE, text=True,
                                  env=os.environ | told | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
                 for rank in range(2))
    try:
        said, _ = one.communicate(timeout=60)
    finally:
        zero.kill()
        one.kill()
        zero.communicate()
    blame = r"rank 1 waited \d+\.\d s for the other ranks; the store through which they met is silent too\n"
    assert re.fullmatch(blame, said)


@pytest.mark.parametrize("ranks", [1, 3])
def test_processes_gather_at_the_coordinator_in_the_order_of_ranks(ranks, tmp_path):
    """Catches tensors kept in another order, or in every rank's."""
    script = tmp_path / "gather.py"
    script.write_text(GATHER)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, *launcher, str(script)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([[[10.5 * rank + row, 10.5 * rank + row + 3] for row in range(3)]
                                       for rank in range(ranks)])


def test_alone_an_action_returns_and_its_error_is_raised():
    def fail():
        raise DataError("label é.png is void")

    assert SOLO.together(lambda: 7) == 7
    with pytest.raises(DataError, match=r"^label é\.png is void$"):
        SOLO.together(fail)


def test_an_error_of_one_rank_is_raised_on_all_and_of_two_the_lowest():
    """Catches ranks that go on, or that wait, when another has failed."""
    def act(world):
        def action():
            if world.rank > 0:
                raise DataError(f"rank {world.rank} cannot read it")
            return "read"

        return world.together(action)

    results = on_ranks(3, act)
    assert [(type(error), str(error)) for error in results] == [(DataError, "rank 1 cannot read it")] * 3


@pytest.mark.parametrize(("error", "there", "elsewhere"), [
    (ZeroDivisionError("by  zero"), ZeroDivisionError, "rank 1, while idling: ZeroDivisionError: by zero"),
    (RankError("car 3: out of memory"), RunError, "car 3: out of memory")])
def test_whatever_goes_wrong_on_one_rank_is_told_to_all(error, there, elsewhere):
    """Each rank speaks for itself of a RankError. Catches ranks that lose the one that failed."""
    def act(world):
        world.doing = "idling"

        def action():
            if world.rank == 1:
                raise error

        return world.together(action)

    first, second, third = on_ranks(3, act)
    assert type(second) is there and str(second) == str(error)
    assert [(type(other), str(other)) for other in (first, third)] == [(RunError, elsewhere)] * 2


def test_every_rank_gets_its_own_result():
    assert on_ranks(3, lambda world: world.together(lambda: world.rank)) == [0, 1, 2]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_texts_of_any_length_reach_the_coordinator_in_the_order_of_ranks(ranks):
    """Catches padding that is taken for text, and letters that are counted in the place of bytes."""
    first, *others = on_ranks(ranks, lambda world: world.gather_texts("ä" * (5 - world.rank) + str(world.rank)))
    assert first == ["ä" * (5 - rank) + str(rank) for rank in range(ranks)] and others == [None] * (ranks - 1)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_all_ranks_get_the_coordinators_text_and_number(ranks):
    def ask(world):
        return world.broadcast_text(f"ä{world.rank}"), world.broadcast_number(world.rank + 0.1)

    assert on_ranks(ranks, ask) == [("ä0", 0.1)] * ranks
