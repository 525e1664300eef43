"""Devices, backends and threads of ranks."""

import pytest
import torch

from fedsim.distributed.devices import Place, choose_device, fair_threads
from fedsim.errors import MachineError


def machine(monkeypatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


def place(local_rank: int, local_size: int, rank: int | None = None, size: int | None = None) -> Place:
    return Place(local_rank if rank is None else rank, size or local_size, local_rank, local_size)


@pytest.mark.parametrize(("gpus", "ranks", "device", "backend", "expected"), [
    (0, 1, "auto", "auto", ("cpu", "gloo")),
    (0, 4, "auto", "gloo", ("cpu", "gloo")),
    (2, 2, "auto", "auto", ("cuda:1", "nccl")),
    (4, 2, "cuda", "auto", ("cuda:1", "nccl")),
    (2, 2, "auto", "gloo", ("cuda:1", "gloo")),
    (2, 4, "auto", "auto", ("cuda:1", "gloo")),
    (1, 4, "cuda", "auto", ("cuda:0", "gloo")),
    (2, 2, "cpu", "auto", ("cpu", "gloo")),
])
def test_nccl_is_taken_only_if_every_local_rank_has_its_own_device(monkeypatch, gpus, ranks, device, backend,
                                                                   expected):
    """The last local rank's choice.

    Catches < for <=, and a rank count of all machines in the place of one's.
    """
    machine(monkeypatch, gpus)
    chosen, chosen_backend, why = choose_device(place(ranks - 1, ranks, rank=7, size=8), device, backend)
    assert (str(chosen), chosen_backend) == expected and why


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("gpus", [1, 2, 4])
def test_no_two_ranks_of_nccl_share_a_device(monkeypatch, gpus, ranks):
    machine(monkeypatch, gpus)
    chosen = [choose_device(place(rank, ranks), "auto", "auto") for rank in range(ranks)]
    assert len({backend for _, backend, _ in chosen}) == 1
    if chosen[0][1] == "nccl":
        assert len({str(device) for device, _, _ in chosen}) == ranks


@pytest.mark.parametrize(("gpus", "ranks", "device", "backend", "says"), [
    (0, 1, "cuda", "auto", "--device cuda"), (0, 1, "auto", "nccl", "--backend nccl"),
    (2, 1, "cpu", "nccl", "CPU was asked for"), (1, 2, "auto", "nccl", "2 ranks share 1 CUDA device"),
    (1, 2, "cuda", "nccl", "at most 1 ranks")])
def test_what_the_machine_cannot_do_is_refused(monkeypatch, gpus, ranks, device, backend, says):
    machine(monkeypatch, gpus)
    with pytest.raises(MachineError, match=says):
        choose_device(place(0, ranks), device, backend)


def test_threads_share_the_cores_of_the_machine(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert [fair_threads(place(0, ranks)) for ranks in (1, 2, 3, 8, 16)] == [8, 4, 2, 1, 1]


def test_a_place_is_read_whole_or_not_at_all(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Place.from_environment() == Place(0, 1, 0, 1)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(MachineError, match="torchrun"):
        Place.from_environment()
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert Place.from_environment() == Place(rank=3, size=4, local_rank=1, local_size=2)


@pytest.mark.parametrize(("changed", "says"), [
    ({"RANK": None}, "RANK must be set beside WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE"),
    ({"WORLD_SIZE": ""}, "WORLD_SIZE is '', which is not a number"), ({"RANK": "one"}, "RANK is 'one'"),
    ({"RANK": "-1"}, "RANK is '-1'"), ({"RANK": "4"}, "RANK is 4, and with WORLD_SIZE 4"),
    ({"LOCAL_RANK": "2"}, "LOCAL_RANK is 2"), ({"LOCAL_WORLD_SIZE": "5"}, "LOCAL_WORLD_SIZE is 5"),
    ({"WORLD_SIZE": "0"}, "WORLD_SIZE is 0"), ({"RANK": "\u0663"}, "which is not a number"),
    ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE is 0"), ({"WORLD_SIZE": "9" * 5000}, "which is not a number")])
def test_a_wrong_variable_of_a_rank_is_named(monkeypatch, changed, says):
    """Catches a traceback, a rank that waits for others that cannot be, and a half-set environment taken for none."""
    right = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in (right | changed).items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(MachineError) as refusal:
        Place.from_environment()
    assert says in str(refusal.value) and "start ranks with torchrun" in str(refusal.value)
