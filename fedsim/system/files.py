"""Write files whole or not at all, and lock them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fedsim.system.names import fit_name

LONGEST_SUFFIX = 32  # letters; what is longer is no suffix


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write `path` whole or not at all: the block writes the file that it is given, which then replaces `path`.

    The new file is synced to the disk before it gets its name. If the block or the disk fails, the new file is removed
    and `path` stays as it was. A process that is killed may leave the new file, see `beside`.
    Raises OSError if the disk refuses.
    """
    new = beside(path)
    try:
        yield new
        sync(new)
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def beside(path: Path) -> Path:
    """Return the path under which `replacing(path)` writes: a hidden file in the same folder, of the same suffix."""
    suffix = path.suffix if len(path.suffix) < LONGEST_SUFFIX else ""
    return path.with_name(fit_name(f".{path.name.removesuffix(suffix)}", f".part{suffix}"))


def write_whole(path: Path, text: str) -> None:
    """Write a text file as `replacing` does. Raises OSError if the disk refuses."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk. Raises OSError if it refuses."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock(path: Path, wait: bool = False) -> IO[str]:
    """Take the lock at `path`; it is held as long as the returned file stays open.

    The system frees the lock when its holder ends or is killed. The file is made if it is missing. A lock only counts
    if its file still has this name, because the last holder may have removed it together with its folder.

    wait: wait for another holder. Without it, raises BlockingIOError if another process holds the lock or has just
    removed it. Raises OSError if the file cannot be made, and OSError without a file name if the file system has no
    locks.
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
    """Return whether a process holds the lock at `path`. To find out, it takes a shared lock for a moment."""
    try:
        with open(path, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
