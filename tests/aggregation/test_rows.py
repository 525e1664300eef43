"""Rows come back to the bit, whole or by columns, from memory and from disk; on disk they take up no memory."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fedsim.aggregation.rows import make_rows

SPECIAL = [0.0, -0.0, 1.0, -1.5, float("inf"), -float("inf"), float("nan"), 1e-45, 3.4e38, 1 / 3]


@pytest.fixture(params=["memory", "disk"])
def folder(request, tmp_path) -> Path | None:
    return None if request.param == "memory" else tmp_path


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_rows_come_back_to_the_bit_in_any_order(folder, dtype):
    """Negative zero and NaN too. Catches rows on disk that all go to row 0, and columns counted in bytes."""
    rows = make_rows(7, len(SPECIAL), dtype, folder)
    special = torch.arange(10) if dtype == torch.int64 else torch.tensor(SPECIAL, dtype=dtype)
    kept = {index: special.roll(index) for index in (5, 0, 6, 2)}
    for index, vector in kept.items():
        rows.write(index, vector)
    for index, vector in kept.items():
        assert rows.read(index).dtype == dtype and bits(rows.read(index)) == bits(vector)
    columns = rows.columns([2, 5, 0], slice(3, 7))
    assert bits(columns) == bits(torch.stack([kept[index][3:7] for index in (2, 5, 0)]))
    assert rows.columns([], slice(3, 7)).shape == (0, 4)
    assert rows.columns([6], slice(8, 99)).shape == (1, 2)


def test_what_was_read_and_what_was_written_belong_to_the_caller(folder):
    """Catches a read and columns that are views of the table, and a write that keeps the caller's tensor."""
    rows, vector = make_rows(2, 3, torch.float32, folder), torch.tensor([1.0, 2.0, 3.0])
    rows.write(1, vector)
    read, columns = rows.read(1), rows.columns([1], slice(0, 2))
    vector.fill_(9)
    assert rows.read(1).tolist() == [1, 2, 3]
    rows.write(1, vector)
    assert read.tolist() == [1, 2, 3] and columns.tolist() == [[1, 2]]
    rows.read(1).zero_()
    rows.columns([1], slice(0, 2)).zero_()
    assert rows.read(1).tolist() == [9, 9, 9]


def test_a_vector_of_any_strides_is_written(folder):
    """Catches a copy of the bytes that lie where the vector begins, in place of its numbers."""
    rows = make_rows(1, 3, torch.float32, folder)
    rows.write(0, torch.arange(6.0)[::2].requires_grad_())
    assert rows.read(0).tolist() == [0, 2, 4]


def test_reading_a_row_never_written_is_an_error(folder):
    """Catches a table on disk whose holes read as zeros."""
    rows = make_rows(3, 2, torch.float32, folder)
    rows.write(1, torch.ones(2))
    for read in (lambda: rows.read(0), lambda: rows.columns([1, 2], slice(0, 1))):
        with pytest.raises(AssertionError, match="never written"):
            read()


@pytest.mark.parametrize("index, vector", [(3, torch.ones(2)), (-1, torch.ones(2)), (0, torch.ones(3)),
                                           (0, torch.ones(2, dtype=torch.float64))])
def test_a_row_that_does_not_fit_the_table_is_an_error(folder, index, vector):
    """Catches a table without its check, which on disk writes into the next row and beyond the file."""
    with pytest.raises(AssertionError, match="row"):
        make_rows(3, 2, torch.float32, folder).write(index, vector)


@pytest.mark.parametrize("count, width", [(0, 4), (4, 0), (0, 0)])
def test_an_empty_table_is_a_table(folder, count, width):
    """A rank without cars has one. Catches a mapping of no bytes, which the system refuses."""
    rows = make_rows(count, width, torch.float64, folder)
    for index in range(count):
        rows.write(index, torch.empty(width, dtype=torch.float64))
        assert rows.read(index).shape == (width,)
    rows.close()


def test_closing_gives_everything_back_and_nothing_ever_lies_in_the_folder(tmp_path):
    """Catches a file with a name, a file left open, and a row that can be read where no mapping is any more."""
    open_before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else None
    rows = make_rows(4, 1000, torch.float32, tmp_path)
    rows.write(2, torch.ones(1000))
    assert rows.read(2).sum() == 1000 and not list(tmp_path.iterdir())
    rows.close()
    rows.close()
    with pytest.raises(AssertionError, match="never written"):
        rows.read(2)
    if open_before is not None:
        assert len(os.listdir("/proc/self/fd")) == open_before


def test_rows_never_written_take_up_no_disk(tmp_path):
    """Catches a file that is filled when it is made."""
    rows = make_rows(1024, 100_000, torch.float32, tmp_path)
    rows.write(1000, torch.ones(100_000))
    assert os.fstat(rows.file.fileno()).st_blocks * 512 < 2_000_000


def test_a_full_disk_is_an_oserror_that_names_the_folder_and_loses_no_other_row(tmp_path, monkeypatch):
    """The disk takes part of a row, as real ones do. Catches a write that stops at the first part, and a row
    half written that still counts as written.
    """
    rows, room, real = make_rows(3, 100, torch.float32, tmp_path), [], os.pwrite

    def pwrite(file, data, place):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(file, data[: min(room[0], 150)], place)
        room[0] -= written
        return written

    monkeypatch.setattr(os, "pwrite", pwrite)
    room.append(1200)
    for index in range(3):
        rows.write(index, torch.full((100,), float(index)))
    room[0] = 170
    with pytest.raises(OSError, match="No space left") as raised:
        rows.write(1, torch.full((100,), 9.0))
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(tmp_path)
    assert rows.read(0).eq(0).all() and rows.read(2).eq(2).all()
    with pytest.raises(AssertionError, match="never written"):
        rows.read(1)


@pytest.mark.skipif(os.name != "posix", reason="limits the size of a file")
def test_a_file_that_may_not_grow_ends_in_an_oserror_and_not_in_a_signal(tmp_path):
    """The system's own refusal. Catches a write through the mapping, which pays no heed to it."""
    code = f"""
import resource, torch
from pathlib import Path
from fedsim.aggregation.rows import make_rows
rows = make_rows(2, 1000, torch.float32, Path({str(tmp_path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    rows.write(1, torch.ones(1000))
except OSError as error:
    print("OSError", error.errno)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["OSError", str(errno.EFBIG)], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("on_disk", [True, False])
def test_rows_on_disk_take_up_no_memory(tmp_path, on_disk):
    """205 MB, written twice and read twice; at the peak less than 20 MB of it in memory. In memory all of it is.

    Catches pages that are not let go (205 MB), only the row's own let go (21 MB, its neighbours' being mapped
    with it), and columns whose pages are let go only when all rows have been copied.
    """
    code = f"""
import torch
from pathlib import Path
from fedsim.aggregation.rows import make_rows

def peak():  # not ru_maxrss, which begins at the peak of whoever started this process
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

torch.set_num_threads(1)
rows = make_rows(512, 100_000, torch.float32, Path({str(tmp_path)!r}) if {on_disk} else None)
vector = torch.ones(100_000)
vector.clone().sum()
before = peak()
for turn in range(2):
    for index in range(512):
        rows.write(index, vector.fill_(index + turn))
    for index in range(512):
        assert (rows.read(index) == index + turn).all()
    assert torch.equal(rows.columns(range(512), slice(77_000, 77_500))[:, 9], torch.arange(512.0) + turn)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown = int(done.stdout)
    assert grown < 20e6 if on_disk else grown > 190e6
