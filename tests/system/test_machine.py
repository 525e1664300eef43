"""The memory that is left on a machine."""

import os
from pathlib import Path

import pytest

from fedsim.system import machine
from fedsim.system.machine import fits_in_memory

GIB = 2**30


@pytest.mark.parametrize("groups, available", [
    ({}, 8),  # of the machine
    ({"": ("max", 0, 0), "outer": ("max", 5, 0), "outer/inner": ("max", 5, 0)}, 8),
    ({"outer/inner": (4, 1, 0)}, 3),  # of this process's own group
    ({"": (9, 2, 0), "outer": (2, 1, 0), "outer/inner": (4, 1, 0)}, 1),  # of a group above it
    ({"outer/inner": (4, 4, 2)}, 2),  # used up, half of it by files that the system drops when it needs room
    ({"outer/inner": (4, 5, 0)}, 0),
])
def test_memories_fit_into_half_of_what_is_left_shared_by_the_local_ranks(tmp_path, monkeypatch, groups, available):
    """groups: name -> limit, used, used by files, in GiB. Catches a limit above that is not looked at, the whole of
    what is left, a rank that counts all of it as its own, and files counted as used.
    """
    texts = {Path("/proc/meminfo"): f"MemTotal: 99999999 kB\nMemAvailable: {8 * GIB // 1024} kB\n",
             Path("/proc/self/cgroup"): "4:memory:/v1\n0::/outer/inner\n"}
    for name, (limit, used, files) in groups.items():
        texts |= {tmp_path / name / "memory.max": f"{limit if limit == 'max' else limit * GIB}\n",
                  tmp_path / name / "memory.current": f"{used * GIB}\n",
                  tmp_path / name / "memory.stat": f"anon 1\ninactive_file {files * GIB}\n"}
    real = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *rest: texts.get(path) or real(path, *rest))
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    for ranks in (1, 2):
        share = available * GIB // 2 // ranks
        assert fits_in_memory(share, ranks) and not fits_in_memory(share + 1, ranks)


def test_asking_what_fits_never_fails(monkeypatch):
    """Where nothing can be read half of the machine's memory counts, and nothing where that is unknown too.

    Catches a missing /proc that ends the run, and an unknown memory taken for plenty.
    """
    def missing(path, *rest):
        raise PermissionError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert fits_in_memory(1_024_000, 1) and not fits_in_memory(1_024_001, 1)

    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", unknown)
    assert not fits_in_memory(1, 1) and fits_in_memory(0, 1)
