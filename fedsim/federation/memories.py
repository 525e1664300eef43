"""What cars keep between rounds, by car: in memory, or on disk where a thousand cars' would not fit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsim.aggregation.rows import Rows, make_rows
from fedsim.errors import OutputError, RankError, SettingsError
from fedsim.federation.bundles import is_alike, kind_of, names_of, parts_of, put_together


class Saved(NamedTuple):
    """Stands for a memory on disk."""

    car: int
    slot: int  # 0 or 1: which of the car's two rows holds the tensors
    others: tuple[Any, ...]  # what isn't a tensor, in order


class CarStates:
    """The memories of a rank's cars; `make_car_states` makes it.

    On disk a car has two slots, and a memory goes into the other one than the memory before it: that one
    stays whole until a further memory is saved after this one, so a round can be undone.
    """

    def __init__(self, initial_memory: Any, cars: Sequence[int], folder: Path | None) -> None:
        self.initial_memory, self.on_disk = initial_memory, folder is not None
        self.kinds = _kinds(initial_memory)
        self.first_row = {car: 2 * place for place, car in enumerate(cars)}
        self.tables: list[Rows] = []  # one for each tensor of a memory, in order
        self.saved: dict[int, Saved] = {}  # row -> what it holds
        for part in parts_of(initial_memory) if self.on_disk else ():
            if isinstance(part, Tensor):
                self.tables.append(make_rows(2 * len(cars), part.numel(), part.dtype, folder))

    def save(self, car: int, memory: Any, before: Any) -> Any:
        """Keep a car's memory; returns what to load it with. before: what `save` returned last, None at first.

        In memory that is the memory itself. Raises RankError where the memory is not made like the initial
        one, OSError where the disk is full.
        """
        self._check(car, memory)
        if not self.on_disk:
            return memory
        assert before is None or before.car == car, f"car {car} goes on from a memory of car {before.car}"
        slot = 0 if before is None else 1 - before.slot
        row, parts = self.first_row[car] + slot, parts_of(memory)
        self.saved.pop(row, None)
        tensors = [part for part in parts if isinstance(part, Tensor)]
        for table, tensor in zip(self.tables, tensors, strict=True):
            table.write(row, tensor.reshape(-1))
        self.saved[row] = Saved(car, slot, tuple(part for part in parts if not isinstance(part, Tensor)))
        return self.saved[row]

    def load(self, handle: Any, device: torch.device) -> Any:
        """The memory that `save` gave this handle for, to the bit. In memory it is on the device it was saved from."""
        if not self.on_disk:
            return handle
        row = self.first_row[handle.car] + handle.slot
        tables, others = iter(self.tables), iter(handle.others)
        assert handle is self.saved.get(row), f"this memory of car {handle.car} has been replaced"
        return put_together(self.initial_memory, [
            next(tables).read(row).view(part.shape).to(device) if isinstance(part, Tensor) else next(others)
            for part in parts_of(self.initial_memory)])

    def close(self) -> None:
        """Give the disk space back; nothing can be loaded from there afterwards."""
        for table in self.tables:
            table.close()

    def _check(self, car: int, memory: Any) -> None:
        """Refuse a memory that differs from the initial one in more than its numbers."""
        if is_alike(memory, self.initial_memory):
            return  # nearly always, so words are found for the others alone
        try:
            kinds = _kinds(memory)
        except SettingsError as error:
            raise RankError(f"car {car}: {error}") from error
        if kinds != self.kinds:
            name = next(name for name in self.kinds | kinds if self.kinds.get(name) != kinds.get(name))
            raise RankError(f"car {car} does not keep what the algorithm's init_memory returns: {name} is "
                            f"{kinds.get(name, 'missing')} and was {self.kinds.get(name, 'missing')}")


def make_car_states(initial_memory: Any, cars: Sequence[int], folder: Path | None) -> CarStates:
    """A place for the memories of `cars`, all made like `initial_memory`: in memory, or in files in `folder`.

    A memory is None, a number, a dense tensor, or a tuple or NamedTuple of these. Raises SettingsError where it
    is anything else, OutputError where the files cannot be made.
    """
    try:
        return CarStates(initial_memory, cars, folder)
    except OSError as error:
        raise OutputError(f"cannot keep what cars remember in {folder} ({error.strerror or error}); choose a "
                          "directory that you may write to") from error


def memory_bytes(initial_memory: Any) -> int:
    """Bytes of the tensors that one car keeps; on disk it takes up twice as many. Raises SettingsError as above."""
    _kinds(initial_memory)
    return sum(part.numel() * part.itemsize for part in parts_of(initial_memory) if isinstance(part, Tensor))


def _kinds(memory: Any) -> dict[str, str]:
    """What a memory is made like: the name and the kind of every part, in words."""
    name = type(memory).__name__ if hasattr(memory, "_fields") else "memory"
    found = {}
    for part_name, part in zip(names_of(name, memory), parts_of(memory), strict=True):
        kind = kind_of(part)
        if kind is None:
            raise SettingsError(f"{part_name} is a {type(part).__name__}; what a car keeps is None, a number, a dense "
                                "tensor, or a tuple or NamedTuple of these")
        found[part_name] = kind
    return found
