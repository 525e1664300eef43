"""Tables of numbers, stored row by row in RAM or in a memory-mapped file."""

import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

# Bytes before and after a row that are released with it. A page fault also maps pages around the missing one:
# 64 KiB of them, or a huge page if the file system has huge pages.
_NEIGHBOURHOOD = 2 << 20


class Rows(Protocol):
    """A table whose rows are written whole, and read whole or by columns. A row must be written before it is read."""

    def write(self, index: int, vector: Tensor) -> None:
        """Store a row. vector: (width,) of the table's dtype, on any device.

        Raises OSError with the folder's name if the disk is full. The row then counts as never written.
        """

    def read(self, index: int) -> Tensor:
        """Return a copy of a row (width,), on the CPU."""

    def columns(self, indices: Sequence[int], columns: slice) -> Tensor:
        """Return a copy of some columns of k rows (k, b), in the order of `indices`, on the CPU."""

    def close(self) -> None:
        """Free all space. No row counts as written afterwards. A second call does nothing."""


def make_rows(count: int, width: int, dtype: torch.dtype, folder: Path | None) -> Rows:
    """Make an empty table of (count, width) numbers, in RAM or, if `folder` is given, in a file there.

    The file has no name, so nothing of it is left however the process ends. It takes up space only for rows that have
    been written. Raises OSError if it cannot be made.
    """
    return _MemoryRows(count, width, dtype) if folder is None else _DiskRows(count, width, dtype, folder)


class _MemoryRows:
    """A table in RAM. A row takes up memory once it has been written."""

    def __init__(self, count: int, width: int, dtype: torch.dtype) -> None:
        self.count, self.width, self.dtype = count, width, dtype
        self.rows: dict[int, Tensor] = {}

    def write(self, index: int, vector: Tensor) -> None:
        _check(self, index, vector)
        self.rows[index] = vector.detach().to("cpu", copy=True)

    def read(self, index: int) -> Tensor:
        assert index in self.rows, f"row {index} was never written"
        return self.rows[index].clone()

    def columns(self, indices: Sequence[int], columns: slice) -> Tensor:
        picked = torch.empty(len(indices), len(range(self.width)[columns]), dtype=self.dtype)
        for place, index in enumerate(indices):
            assert index in self.rows, f"row {index} was never written"
            picked[place] = self.rows[index][columns]
        return picked

    def close(self) -> None:
        self.rows.clear()


class _DiskRows:
    """A table in a file.

    Rows are read through a mapping of the file. Its pages count as this process's memory until they are released. Rows
    are written by `pwrite`, and the mapping shows them at once. If the disk is full, `pwrite` raises OSError, while a
    write through the mapping would end the process with SIGBUS.
    """

    def __init__(self, count: int, width: int, dtype: torch.dtype, folder: Path) -> None:
        self.count, self.width, self.dtype, self.folder = count, width, dtype, folder
        self.row_bytes = width * dtype.itemsize
        self.written: set[int] = set()
        self.file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 open until close()
        length = max(1, count * self.row_bytes)  # a length of 0 cannot be mapped
        os.ftruncate(self.file.fileno(), length)
        self.mapping = mmap.mmap(self.file.fileno(), length)
        mapped = torch.frombuffer(self.mapping, dtype=torch.uint8)[: count * self.row_bytes]
        self.rows = mapped.view(dtype).view(count, width)

    def write(self, index: int, vector: Tensor) -> None:
        _check(self, index, vector)
        self.written.discard(index)  # it counts again once the whole row has been written
        left = vector.detach().cpu().contiguous().view(torch.uint8).numpy().data
        place = index * self.row_bytes
        try:
            while left:
                done = os.pwrite(self.file.fileno(), left, place)
                left, place = left[done:], place + done
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.folder)) from error
        self.written.add(index)

    def read(self, index: int) -> Tensor:
        return self._copy(index, slice(None))

    def columns(self, indices: Sequence[int], columns: slice) -> Tensor:
        picked = torch.empty(len(indices), len(range(self.width)[columns]), dtype=self.dtype)
        for place, index in enumerate(indices):
            picked[place] = self._copy(index, columns)
        return picked

    def close(self) -> None:
        self.written.clear()
        self.rows = torch.empty(0)  # so that no tensor refers to the closed mapping
        self.mapping.close()
        self.file.close()

    def _copy(self, index: int, columns: slice) -> Tensor:
        """Copy columns (b,) of a row, and release its pages. The numbers stay in the file and in the system's cache."""
        assert index in self.written, f"row {index} was never written"
        copy = self.rows[index, columns].clone()
        start = max(0, index * self.row_bytes - _NEIGHBOURHOOD) // mmap.PAGESIZE * mmap.PAGESIZE
        end = min(len(self.mapping), (index + 1) * self.row_bytes + _NEIGHBOURHOOD)
        self.mapping.madvise(mmap.MADV_DONTNEED, start, end - start)
        return copy


def _check(rows: _MemoryRows | _DiskRows, index: int, vector: Tensor) -> None:
    assert 0 <= index < rows.count, f"row {index} of {rows.count}"
    assert vector.shape == (rows.width,) and vector.dtype == rows.dtype, \
        f"a row of {tuple(vector.shape)} {vector.dtype} for ({rows.width},) {rows.dtype}"
