"""What a car keeps comes back to the bit, and the memory before it is there until it is replaced."""

import errno
import math
import os
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from fedsim.algorithms.fedadmm import Memory
from fedsim.errors import OutputError, RankError, SettingsError
from fedsim.federation.memories import make_memories, memory_bytes

CPU = torch.device("cpu")
SPECIAL = [0.0, -0.0, float("inf"), float("nan"), 1e-45, 1 / 3]


class Odd(NamedTuple):
    """All that a memory may be made of."""

    matrix: Tensor
    seen: bool
    wide: Tensor
    nothing: None
    count: int
    scalar: Tensor


@pytest.fixture(params=["memory", "disk"])
def folder(request, tmp_path) -> Path | None:
    return None if request.param == "memory" else tmp_path


def admm(value: float, width: int = 6) -> Memory:
    return Memory(torch.full((width,), float(value)), torch.full((width,), -float(value)), float(value))


def same(first, second) -> bool:
    """To the bit, type for type."""
    if isinstance(first, Tensor):
        return first.shape == second.shape and first.dtype == second.dtype \
            and first.contiguous().numpy().tobytes() == second.contiguous().numpy().tobytes()
    if isinstance(first, tuple):
        return type(first) is type(second) and all(map(same, first, second))
    return type(first) is type(second) and (first == second or (math.isnan(first) and math.isnan(second)))


def odd(number: int) -> Odd:
    special = torch.tensor(SPECIAL).roll(number)
    return Odd(special.view(2, 3).T, number % 2 == 0, special.double() * math.pi, None, number,
               torch.tensor(float(number)))


@pytest.mark.parametrize("memory_of", [
    odd, admm, lambda number: torch.tensor(SPECIAL).roll(number), lambda number: torch.tensor(SPECIAL).double(),
    lambda number: (torch.full((3,), float(number)), math.nan, torch.ones(2)), float, lambda number: None,
], ids=["odd", "fedadmm", "float32", "float64", "tuple", "number", "none"])
def test_what_a_car_keeps_comes_back_to_the_bit(folder, memory_of):
    """Catches tensors of all fields in one dtype, numbers that come back in another order, and a NamedTuple that
    comes back as a tuple.
    """
    cars = [11, 3, 400]
    states = make_memories(memory_of(0), cars, folder)
    handles = {car: states.save(car, memory_of(car), None) for car in cars}
    for car in cars:
        assert same(states.load(handles[car], CPU), memory_of(car))
    states.close()


def test_a_round_can_be_undone_and_played_again(folder):
    """Catches one slot a car, a slot that does not alternate, and cars that share rows."""
    states = make_memories(admm(0), range(3), folder)
    before = {car: states.save(car, admm(10 + car), None) for car in range(3)}
    for value in (20, 30, 40):  # each round goes on from the same state
        after = states.save(1, admm(value), before[1])
        assert same(states.load(after, CPU), admm(value))
        for car in range(3):
            assert same(states.load(before[car], CPU), admm(10 + car))
    final = states.save(1, admm(50), after)
    assert same(states.load(after, CPU), admm(40)) and same(states.load(final, CPU), admm(50))


def test_a_memory_that_was_replaced_is_not_mistaken_for_what_replaced_it(tmp_path):
    """Catches a handle that says the slot and nothing else."""
    states = make_memories(admm(0), [0], tmp_path)
    first = states.save(0, admm(1), None)
    third = states.save(0, admm(3), states.save(0, admm(2), first))
    assert same(states.load(third, CPU), admm(3))
    with pytest.raises(AssertionError, match="replaced"):
        states.load(first, CPU)


def test_in_memory_nothing_is_copied():
    """Catches a copy by either."""
    states, memory = make_memories(admm(0), [0], None), admm(1)
    handle = states.save(0, memory, None)
    assert handle is memory and states.load(handle, CPU) is memory


def test_on_disk_what_was_loaded_belongs_to_the_caller_and_nothing_lies_in_the_folder(tmp_path):
    """Catches a load that gives views of the file away."""
    states = make_memories(admm(0), [0], tmp_path)
    handle = states.save(0, admm(1), None)
    states.load(handle, CPU).w.zero_()
    assert same(states.load(handle, CPU), admm(1)) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("initial, memory, message", [
    (admm(0), admm(1)._replace(y=torch.ones(7)), r"car 5 .* Memory\.y is a tensor of \(7,\) float32 and was .*\(6,\)"),
    (admm(0), admm(1)._replace(w=torch.ones(6).double()), r"car 5 .* Memory\.w is a tensor of \(6,\) float64"),
    (admm(0), admm(1)._replace(rho=torch.ones(())), r"Memory\.rho is a tensor of \(\) float32 and was a number"),
    (admm(0), admm(1)._replace(rho=[1]), r"car 5: Memory\.rho is a list"),
    (admm(0), tuple(admm(1)), r"Memory\.w is missing"),
    (admm(0), None, r"Memory\.w is missing"),
    ((1.0, 2.0), (1.0,), r"memory\[1\] is missing and was a number"),
    (None, torch.ones(2), r"memory is a tensor of \(2,\) float32 and was a number or None"),
])
def test_a_memory_made_otherwise_is_refused_in_a_sentence(folder, initial, memory, message):
    """Catches a memory that is only counted, not compared, and a check made on disk alone."""
    states = make_memories(initial, [5], folder)
    with pytest.raises(RankError, match=message):
        states.save(5, memory, None)


def test_a_number_may_become_another_kind_of_number_or_none(folder):
    """Handles keep numbers as they are. Catches a comparison of their types."""
    states = make_memories((0, None, torch.zeros(1)), [0], folder)
    memory = (0.5, True, torch.ones(1))
    assert same(states.load(states.save(0, memory, None), CPU), memory)


@pytest.mark.parametrize("memory, name", [
    ({"w": torch.ones(2)}, "memory is a dict"), ([1.0], "memory is a list"), ("w", "memory is a str"),
    ((1.0, (2.0,)), r"memory\[1\] is a tuple"), (admm(0)._replace(y=admm(1)), r"Memory\.y is a Memory"),
    (torch.ones(2).to_sparse(), "memory is a Tensor"), (torch.Size([1]), "memory is a Size"),
])
def test_a_memory_that_cannot_be_kept_is_refused_before_training(folder, memory, name):
    """Catches a nested tuple that is taken for a number, and a subclass of tuple that would come back as another."""
    for ask in (lambda: make_memories(memory, [0], folder), lambda: memory_bytes(memory)):
        with pytest.raises(SettingsError, match=f"{name}; a car may keep None"):
            ask()


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    """Catches an OSError on its way to the user."""
    with pytest.raises(OutputError, match=r"missing.*No such file"):
        make_memories(admm(0), [0], tmp_path / "missing")


def test_a_full_disk_leaves_the_memory_before_whole(tmp_path, monkeypatch):
    """The second of two tensors finds no room. Catches a handle to a memory half written."""
    states, real = make_memories(admm(0), [0], tmp_path), os.pwrite
    older = states.save(0, admm(1), None)
    before = states.save(0, admm(2), older)
    second = states.tables[1].file.fileno()

    def pwrite(file, data, place):
        if file == second:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data, place)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match="No space left"):
        states.save(0, admm(3), before)
    assert same(states.load(before, CPU), admm(2))
    with pytest.raises(AssertionError, match="replaced"):
        states.load(older, CPU)


def test_the_bytes_of_a_memory():
    """Catches four bytes for every number, and a field left out."""
    assert memory_bytes(admm(0, 100)) == 800 and memory_bytes(odd(1)) == 6 * 4 + 6 * 8 + 4
    assert memory_bytes(None) == memory_bytes(1.0) == 0
