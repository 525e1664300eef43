"""The cores and the memory that this process may use."""

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return the number of cores that this process may use."""
    # Not every system can say which of its cores a process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fits_in_memory(bytes_needed: int, local_ranks: int) -> bool:
    """Return whether a rank may keep that much in memory: at most its share of half of the free memory.

    All ranks of the machine share this half. The other half is for what is allocated later: training, sums, evaluation.
    """
    return bytes_needed * 2 * max(1, local_ranks) <= _available_bytes()


def _available_bytes() -> int:
    """Return how many bytes this process can still allocate; 0 if the system does not tell."""
    free = _read_number(Path("/proc/meminfo"), "MemAvailable:")
    if free is not None:
        return min([free * 1024, *_left_in_cgroups()])
    try:
        # The system tells how much it has, but not how much of it others use: half of it is a guess.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return 0


def _left_in_cgroups() -> list[int]:
    """Return the bytes left in each control group (cgroup v2) with a limit: this process's own and those above it.

    Only these files show a container's limit, because /proc/meminfo is about the machine. Files that a group has read
    lately count as used, but the system drops them when it needs room, so they are subtracted.
    """
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        return []
    own = next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")
    left = []
    for group in [_CGROUPS / own, *(_CGROUPS / own).parents]:
        limit, used = _read_number(group / "memory.max"), _read_number(group / "memory.current")
        if limit is not None and used is not None:
            left.append(max(0, limit - used + (_read_number(group / "memory.stat", "inactive_file") or 0)))
    return left


def _read_number(path: Path, name: str = "") -> int | None:
    """Return the whole number after `name` at the start of a line of a file, or None if it has no such line."""
    try:
        lines = path.read_text().splitlines()
        return next((int(line.removeprefix(name).split()[0]) for line in lines if line.startswith(name)), None)
    except (OSError, ValueError, IndexError):
        return None
