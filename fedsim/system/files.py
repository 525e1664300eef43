"""Locks on files, which the system frees when their holder is killed."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO


def lock(path: Path, wait: bool = False) -> IO[str]:
    """Hold the lock at `path` as long as the file that is returned stays open.

    The file is made if it is not there. A lock counts only while its file still has this name: its last holder may
    have removed it, together with the folder that it stood for.

    wait: wait until another holder is done. Without it, raises BlockingIOError where another process holds the lock or
    has just removed it. Raises OSError where the file cannot be made, and OSError without a file name where the file
    system has no locks.
    """
    while True:
        file = open(path, "a")  # noqa: SIM115 stays open
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()
        if not wait:
            raise BlockingIOError


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock at `path`. A shared lock asks, and is given back at once."""
    try:
        with open(path, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
