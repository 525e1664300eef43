"""The lock of a run: held by the one process that works on it, freed by the system even when that is killed."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from fedsim.errors import OutputError

WAITS = (0.02, 0.1)  # seconds: whoever only asks holds it for a moment


def hold(path: Path) -> IO[str]:
    """Hold the lock as long as the file that is returned stays open. Raises OutputError where another process does."""
    new = not path.exists()
    try:
        file = open(path, "a")  # noqa: SIM115 stays open
    except OSError as error:
        raise OutputError(f"cannot write in {path.parent} ({error.strerror}); it must be a directory that you may "
                          "write to") from error
    try:
        for wait in WAITS:
            try:
                return _locked(file, path)
            except BlockingIOError:
                time.sleep(wait)
        return _locked(file, path)
    except BlockingIOError as error:
        file.close()
        raise OutputError(f"another process works on {path.parent}; wait for its end, or choose another with "
                          "--out") from error
    except OSError as error:
        file.close()
        if new:
            path.unlink(missing_ok=True)
        raise OutputError(f"cannot lock {path} ({error.strerror}); take a file system that has locks") from error


def _locked(file: IO[str], path: Path) -> IO[str]:
    """Raises BlockingIOError where another process has the lock, or has removed it with the run that it was making."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    raise BlockingIOError


def is_held(path: Path) -> bool:
    """Whether a process works on the run. Asked with a shared lock, which is given back at once."""
    try:
        with open(path, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
