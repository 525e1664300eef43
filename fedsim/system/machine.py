"""What this machine offers: cores."""

import os


def cores() -> int:
    """How many this process may use."""
    # Not every system can say which of its cores a process may use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
