"""The memories that cars keep between rounds, in memory or in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsim.aggregation.rows import Rows, make_rows
from fedsim.errors import OutputError, RankError, SettingsError
from fedsim.federation.bundles import is_alike, kind_of, names_of, parts_of, put_together
from fedsim.system.transfer import upload


class Saved(NamedTuple):
    """The handle of a memory on disk."""

    car: int
    slot: int  # 0 or 1: which of the car's two rows holds the tensors
    others: tuple[Any, ...]  # the parts that are not tensors, in order


class Memories:
    """The memories of a rank's cars, in a device's memory or in files. `make_memories` makes one.

    In files a car has two slots. A new memory goes into the slot that does not hold the latest one, which stays whole
    until a further memory is saved. So a round can be undone.
    """

    def __init__(self, initial_memory: Any, cars: Sequence[int], folder: Path | None,
                 home: torch.device | None) -> None:
        self.initial_memory, self.folder, self._home = initial_memory, folder, home
        check_memory(initial_memory, initial_memory)
        self.first_row = {car: 2 * index for index, car in enumerate(cars)}
        self.tables: list[Rows] = []  # one for each tensor of a memory, in order
        self.saved: dict[int, Saved] = {}  # row -> what it holds
        for part in () if folder is None else parts_of(initial_memory):
            if isinstance(part, Tensor):
                self.tables.append(make_rows(2 * len(cars), part.numel(), part.dtype, folder))

    def save(self, car: int, memory: Any, before: Any) -> Any:
        """Keep a car's memory and return the handle to load it with, which is the memory itself if it is not in files.

        before: the handle of the car's latest memory, None if it has no memory yet. Raises RankError if the memory's
        parts differ from those of the initial memory in type or shape, OSError if the disk is full.
        """
        self._check(car, memory)
        if self.folder is None:
            return memory if self._home is None else _bring(memory, self._home)
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
        """Return the memory that belongs to a handle, to the bit.

        A memory is put on `device`, unless it has stayed on the device that it was saved from.
        """
        if self.folder is None:
            return handle if self._home is None else _bring(handle, device)
        row = self.first_row[handle.car] + handle.slot
        tables, others = iter(self.tables), iter(handle.others)
        assert handle is self.saved.get(row), f"this memory of car {handle.car} has been replaced"
        return put_together(self.initial_memory, [
            upload(next(tables).read(row).view(part.shape), device) if isinstance(part, Tensor) else next(others)
            for part in parts_of(self.initial_memory)])

    def close(self) -> None:
        """Give the disk space back. Nothing can be loaded from files afterwards."""
        for table in self.tables:
            table.close()

    def _check(self, car: int, memory: Any) -> None:
        """Refuse a memory that differs from the initial one in more than its numbers."""
        try:
            check_memory(memory, self.initial_memory, f"car {car}")
        except SettingsError as error:
            raise RankError(str(error)) from error


def make_memories(initial_memory: Any, cars: Sequence[int], folder: Path | None,
                  home: torch.device | None = None) -> Memories:
    """Make room for the memories of `cars`, in files in `folder` if it is given, else in memory.

    home: the device whose memory it is; None for the device that a memory comes from.

    All memories have the types and shapes of `initial_memory`: None, a number, a dense tensor, or a tuple or NamedTuple
    of these. Raises SettingsError if it is anything else, OutputError if the files cannot be made.
    """
    try:
        return Memories(initial_memory, cars, folder, home)
    except OSError as error:
        raise OutputError(f"cannot keep what cars remember in {folder} ({error.strerror or error}); choose a "
                          "directory that you may write to") from error


def _bring(memory: Any, device: torch.device) -> Any:
    """Return a memory on another device."""
    return put_together(memory, [
        part if not isinstance(part, Tensor) else part.cpu() if device.type == "cpu" else upload(part, device)
        for part in parts_of(memory)])


def memory_bytes(initial_memory: Any) -> int:
    """Return the bytes of the tensors in one car's memory. Files take twice as many.

    Raises SettingsError if a part is not allowed in a memory.
    """
    check_memory(initial_memory, initial_memory)
    return sum(part.numel() * part.itemsize for part in parts_of(initial_memory) if isinstance(part, Tensor))


def check_memory(memory: Any, initial_memory: Any, who: str = "a car") -> None:
    """Raise SettingsError if a memory differs from the initial one in more than its numbers, or cannot be kept.

    who: whose memory it is, in words.
    """
    if memory is not initial_memory and is_alike(memory, initial_memory):
        return  # nearly always; only another memory needs to be described in words
    was = _kinds(initial_memory)
    try:
        kinds = _kinds(memory)
    except SettingsError as error:
        raise SettingsError(f"{who}: {error}") from error
    if kinds != was:
        name = next(name for name in was | kinds if was.get(name) != kinds.get(name))
        raise SettingsError(f"{who} does not keep what the algorithm's init_memory returns: {name} is "
                            f"{kinds.get(name, 'missing')} and was {was.get(name, 'missing')}")


def _kinds(memory: Any) -> dict[str, str]:
    """Describe every part of a memory: its name, and its type in words. Raises SettingsError."""
    name = type(memory).__name__ if hasattr(memory, "_fields") else "memory"
    kinds = {}
    for part_name, part in zip(names_of(name, memory), parts_of(memory), strict=True):
        kind = kind_of(part)
        if kind is None:
            raise SettingsError(f"{part_name} is a {type(part).__name__}; a car may keep None, a number, a dense "
                                "tensor, or a tuple or NamedTuple of these")
        kinds[part_name] = kind
    return kinds
