"""Devices, backends and threads of ranks."""

import os
import re
from typing import NamedTuple

import pytest
import torch

from fedsim.distributed.devices import Place, compute_alike, fair_threads, fits_on_device
from fedsim.distributed.hardware import Hardware, choose_backend, count_sharing, look, tell_kinds_apart
from fedsim.errors import MachineError
from fedsim.system.process import keep_randomness, use_defaults


class Chip(NamedTuple):
    """What PyTorch says about a GPU."""

    uuid: str
    name: str = "Made Up 100"
    major: int = 9
    minor: int = 0


def machine(monkeypatch, gpus: int, first: int = 0) -> None:
    """Let this machine have so many GPUs, with numbers of their own from `first` on."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Chip(f"GPU-{first + device.index}"))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)


def place(local_rank: int, local_size: int, rank: int | None = None, size: int | None = None) -> Place:
    return Place(local_rank if rank is None else rank, size or local_size, local_rank, local_size)


def ranks_of(monkeypatch, gpus: int, ranks: int, device: str) -> list[Hardware]:
    """Return what the ranks of a machine tell each other, through text."""
    machine(monkeypatch, gpus)
    return [Hardware.from_text(look(place(rank, ranks), device).to_text()) for rank in range(ranks)]


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
def test_nccl_is_taken_only_if_every_rank_has_its_own_device(monkeypatch, gpus, ranks, device, backend, expected):
    """The last rank's choice. Catches < for <=, and GPUs that are counted by their numbers."""
    everyone = ranks_of(monkeypatch, gpus, ranks, device)
    chosen_backend, why = choose_backend(everyone, device, backend)
    assert (everyone[-1].device, chosen_backend) == expected and why
    if chosen_backend == "nccl":
        assert len({own.identity for own in everyone}) == ranks
    assert count_sharing(everyone, 0) == (-(-ranks // gpus) if everyone[0].is_gpu else ranks)


@pytest.mark.parametrize(("gpus", "ranks", "device", "backend", "says"), [
    (0, 1, "cuda", "auto", "^--device cuda"), (0, 1, "auto", "nccl", "^--backend nccl"),
    (2, 1, "cpu", "nccl", "CPU was asked for"), (1, 2, "auto", "nccl", "2 ranks share 1 CUDA device"),
    (1, 2, "cuda", "nccl", "at most 1 ranks")])
def test_what_the_machine_cannot_do_is_refused(monkeypatch, gpus, ranks, device, backend, says):
    everyone = ranks_of(monkeypatch, gpus, ranks, device)
    with pytest.raises(MachineError, match=says):
        choose_backend(everyone, device, backend)


def test_ranks_that_see_one_gpu_each_have_one_each(monkeypatch):
    """Two machines whose ranks all call their GPU cuda:0. Catches GPUs told apart by number, or by the host alone."""
    everyone = []
    for rank in range(4):
        machine(monkeypatch, gpus=1, first=rank)
        everyone.append(look(place(rank % 2, 2, rank, 4), "auto"))
    assert {own.device for own in everyone} == {"cuda:0"} and choose_backend(everyone, "auto", "auto")[0] == "nccl"
    assert choose_backend(everyone, "auto", "nccl")[0] == "nccl" and count_sharing(everyone, 3) == 1
    assert choose_backend([*everyone, everyone[0]], "auto", "auto")[0] == "gloo"


def test_ranks_on_gpus_and_on_cpus_do_not_go_together(monkeypatch):
    """Also where one of them lacks what was asked for. Catches a rank that chooses from its own machine alone."""
    machine(monkeypatch, gpus=1)
    there = look(place(0, 1, 0, 2), "auto")._replace(host="a")
    machine(monkeypatch, gpus=0)
    here, fault = (look(place(0, 1, 1, 2), device)._replace(host="b") for device in ("auto", "cuda"))
    with pytest.raises(MachineError, match=r"^rank 0 on a has a GPU and rank 1 on b has none, .* --device cpu$"):
        choose_backend([there, here], "auto", "auto")
    with pytest.raises(MachineError, match=r"^rank 1 on b: --device cuda: no usable CUDA device here"):
        choose_backend([there, fault], "cuda", "auto")


def test_gpus_of_different_kinds_are_told_apart(monkeypatch):
    """Catches GPUs compared by their numbers, and CPUs warned of."""
    everyone = ranks_of(monkeypatch, 2, 2, "auto")
    assert tell_kinds_apart(everyone) is None and tell_kinds_apart([Hardware("a"), Hardware("b")]) is None
    other = everyone[1]._replace(kind="Older 10")
    assert re.search(r"different kinds.*rank 0, 2: Made Up 100, compute capability 9\.0, CUDA .*; rank 1: Older 10\)$",
                     str(tell_kinds_apart([everyone[0], other, everyone[0]])))


def test_threads_share_the_cores_of_the_machine(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert [fair_threads(place(0, ranks)) for ranks in (1, 2, 3, 8, 16)] == [8, 4, 2, 1, 1]


def test_ranks_share_the_free_memory_of_their_gpu(monkeypatch):
    """Catches the whole of it given to each rank, and all of it given to what cars keep."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1200, 9000))
    gpu = torch.device("cuda", 0)
    assert [fits_on_device(bytes_needed, gpu, sharing) for bytes_needed, sharing in (
        (600, 1), (601, 1), (200, 3), (201, 3))] == [True, False, True, False]


def test_a_gpu_computes_alike_and_a_program_has_its_own_settings_again():
    """Catches a setting that stays behind after `fedsim.run`, and TF32 that stays on."""
    def settings():
        return (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,
                torch.backends.cudnn.conv.fp32_precision, torch.utils.deterministic.fill_uninitialized_memory,
                os.environ.get("CUBLAS_WORKSPACE_CONFIG"))

    before = settings()
    with use_defaults():
        compute_alike()
        assert settings() == (True, True, "ieee", False, ":4096:8")
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert settings() == before == (False, False, "tf32", True, None)


def test_a_run_on_the_cpu_touches_no_gpu(monkeypatch):
    """Catches generators of all GPUs that are saved whatever a run computes on."""
    machine(monkeypatch, 2)
    asked = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: asked.append(device) or torch.zeros(16))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    with keep_randomness(gpus=False):
        assert look(place(0, 1), "cpu").device == "cpu" and asked == []
    with keep_randomness(gpus=True):
        assert asked == [0, 1]


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
