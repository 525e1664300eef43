"""The memory that a program has freed: it is kept for the next training step.

glibc hands large blocks back to the system as soon as they are free, and a training step frees all its activations. The
next step gets the same blocks again, page by page, each filled with zeros by the system.
"""

import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # the parameters of mallopt(3)
MOST_KEPT = 2**31 - 1  # bytes of freed memory; a larger number does not fit
LARGEST_BLOCK = 2**25  # bytes of a block that is kept; glibc takes no larger number
OWN_CHOICE = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")  # variables of a user who knows


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees. Without glibc, nothing happens.

    Call it in programs of fedsim's own alone, because nothing can undo it in the process of somebody else.
    """
    if any(os.environ.get(name) for name in OWN_CHOICE):
        return
    import ctypes  # late, because Ctrl-C may come while a program starts

    try:
        set_parameter = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # no such function: not glibc
        return
    set_parameter(TRIM_THRESHOLD, MOST_KEPT)
    set_parameter(MMAP_THRESHOLD, LARGEST_BLOCK)
