"""Make and lock the folder of a command's output, without overwriting anything."""

import re
import time
from pathlib import Path
from typing import IO

from fedsim.errors import OutputError
from fedsim.system.files import lock
from fedsim.system.names import fit_name

LOCK = "lock"
WAITS = (0.02, 0.1)  # seconds between attempts: a process that only asks whether a folder is locked locks it briefly


def make_output_folder(out: str | Path | None, parent: str, name: str) -> Path:
    """Make the folder `out`, which must be empty if it exists, or without `out` a new one named by `name` and the date.

    Raises OutputError if it cannot be made or holds files.
    """
    if out is None:
        return make_dated_folder(parent, name)
    make_empty_folder(folder := Path(out))
    return folder


def make_dated_folder(parent: str, name: str) -> Path:
    """Make the empty directory <parent>/<name>-<YYYYmmdd-HHMMSS>, with -2, -3, … after it if that exists.

    It is made and not only named, because a hundred jobs of a cluster may start within one second.
    Raises OutputError if it cannot be made.
    """
    plain = re.sub(r"[^\w.-]+", "-", name)  # the name of a user's own algorithm has a colon
    stem = fit_name(plain, f"-{time.strftime('%Y%m%d-%H%M%S')}")
    count = 1
    while True:
        path = Path(parent) / (stem if count == 1 else f"{stem}-{count}")
        try:
            path.parent.mkdir(exist_ok=True)
            path.mkdir()
        except FileExistsError as error:
            if not path.parent.is_dir():  # a file called "runs"
                raise cannot_make(path, error) from error
            count += 1
        except OSError as error:
            raise cannot_make(path, error) from error
        else:
            return path


def make_empty_folder(path: Path) -> bool:
    """Make a directory unless an empty one exists; return True if it was made. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
        return True
    except FileExistsError as error:
        if not path.is_dir():
            raise cannot_make(path, error) from error
    except OSError as error:
        raise cannot_make(path, error) from error
    try:
        if any(path.iterdir()):
            raise not_empty(path)
    except OSError as error:
        raise cannot_make(path, error) from error
    return False


def hold_lock(folder: Path) -> IO[str]:
    """Lock a folder as long as the returned file stays open. Raises OutputError if another process has locked it."""
    path = folder / LOCK
    new = not path.exists()
    try:
        for wait in WAITS:
            try:
                return lock(path)
            except BlockingIOError:
                time.sleep(wait)
        return lock(path)
    except BlockingIOError as error:
        raise OutputError(f"another process works on {folder}; wait for its end, or choose another with --out"
                          ) from error
    except OSError as error:
        if error.filename:
            raise OutputError(f"cannot write in {folder} ({error.strerror}); it must be a directory that you may write "
                              "to") from error
        if new:
            path.unlink(missing_ok=True)
        raise OutputError(f"cannot lock {path} ({error.strerror}); take a file system that has locks") from error


def not_empty(path: Path) -> OutputError:
    """Return the error for a directory that should be empty and is not."""
    return OutputError(f"{path} already holds a run or other files; choose a new directory with --out")


def cannot_make(path: Path, error: OSError) -> OutputError:
    """Return the error for a directory that the system refuses to make."""
    reason = "a file is in the way" if isinstance(error, FileExistsError) else error.strerror
    return OutputError(f"cannot make the directory {path} ({reason}); choose another with --out")
