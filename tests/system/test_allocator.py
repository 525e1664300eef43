"""The memory that programs of fedsim keep."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, runpy, sys
{keep}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    block = bytearray(2**23)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
KEEP = "from fedsim.system.allocator import keep_freed_memory as keep; keep()"
PAGES = 2**23 // 4096  # of a block


def count_faults(keep: str, **more: str) -> int:
    """Count the pages that a program takes from the system for 20 blocks of 8 MiB, one after another."""
    found = subprocess.run([sys.executable, "-c", PROGRAM.format(keep=keep)], env={**os.environ, **more}, check=True,
                           stdout=subprocess.PIPE, text=True)
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
def test_freed_memory_is_taken_again():
    """Catches a threshold that glibc refuses, and one that overrides what the user has set."""
    assert count_faults(KEEP) < 2 * PAGES
    assert count_faults(KEEP, MALLOC_MMAP_THRESHOLD_="65536") > 15 * PAGES
