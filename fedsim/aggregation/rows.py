"""Rows of numbers, more than memory need hold: a table by row, in memory or in a memory-mapped file."""

import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

# Bytes before and after a row that are let go with it. A page fault maps pages around the one that was asked
# for: 64 KiB of them, or a huge page where the file system has some.
_NEIGHBOURHOOD = 2 << 20


class Rows(Protocol):
    """A table whose rows are written whole and read whole or by columns. Reading a row never written is a bug."""

    def write(self, index: int, vector: Tensor) -> None:
        """Keep a row's numbers. vector: (width,) of the table's dtype, on any device.

        Raises OSError naming the folder where there is no room for them; the row is then as if never written.
        """

    def read(self, index: int) -> Tensor:
        """(width,) a row, on the CPU, a copy that the caller owns."""

    def columns(self, indices: Sequence[int], columns: slice) -> Tensor:
        """(k, b) some columns of k rows, in the order of `indices`, on the CPU, a copy that the caller owns."""

    def close(self) -> None:
        """Give everything back; no row counts as written afterwards. Closing twice does nothing."""


def make_rows(count: int, width: int, dtype: torch.dtype, folder: Path | None) -> Rows:
    """(count, width) numbers, none of them written yet: in memory, or in a file in `folder`.

    The file has no name, so nothing of it is left however the process ends, and takes up space only for rows
    that have been written. Raises OSError where it cannot be made.
    """
    return _MemoryRows(count, width, dtype) if folder is None else _DiskRows(count, width, dtype, folder)


class _MemoryRows:
    """A row takes up memory from when it is first written."""

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
    """Rows are read through a mapping of the file, whose pages count as this process's memory until let go.

    They are written by `pwrite`, which the mapping shows at once: where the disk is full, a write through the
    mapping would end the process with SIGBUS instead of raising OSError.
    """

    def __init__(self, count: int, width: int, dtype: torch.dtype, folder: Path) -> None:
        self.count, self.width, self.dtype, self.folder = count, width, dtype, folder
        self.row_bytes = width * dtype.itemsize
        self.written: set[int] = set()
        self.file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 open until close()
        length = max(1, count * self.row_bytes)  # nothing can't be mapped
        os.ftruncate(self.file.fileno(), length)
        self.mapping = mmap.mmap(self.file.fileno(), length)
        mapped = torch.frombuffer(self.mapping, dtype=torch.uint8)[: count * self.row_bytes]
        self.rows = mapped.view(dtype).view(count, width)

    def write(self, index: int, vector: Tensor) -> None:
        _check(self, index, vector)
        self.written.discard(index)  # until the whole row has been written
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
        return self._copied(index, slice(None))

    def columns(self, indices: Sequence[int], columns: slice) -> Tensor:
        picked = torch.empty(len(indices), len(range(self.width)[columns]), dtype=self.dtype)
        for place, index in enumerate(indices):
            picked[place] = self._copied(index, columns)
        return picked

    def close(self) -> None:
        self.written.clear()
        self.rows = torch.empty(0)  # of memory that is there
        self.mapping.close()
        self.file.close()

    def _copied(self, index: int, columns: slice) -> Tensor:
        """(b,) of one row; its pages are let go, the numbers stay in the file and in the system's cache of it."""
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
