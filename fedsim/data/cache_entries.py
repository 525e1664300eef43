"""The entries of the scene cache, seen from outside: found, described, removed. It imports no numpy and no torch."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from fedsim.errors import OutputError
from fedsim.system.files import lock
from fedsim.system.paths import path_from_environment, read_path

NAME = re.compile(r"[0-9a-f]{64}(\.part)?")  # of an entry; .part while it is written, or after its writer was killed


class Entry(NamedTuple):
    """An entry of the cache, described as far as its meta.json can be read."""

    path: Path
    holds: str  # data set, split, picture size
    scenes: int | None
    bytes: int
    used: float  # seconds since the epoch: when it was last opened or written


def cache_folder() -> Path:
    """Return the folder of the cache: $FEDSIM_CACHE, else $XDG_CACHE_HOME/fedsim, else ~/.cache/fedsim."""
    if own := path_from_environment("FEDSIM_CACHE"):
        return own
    if shared := path_from_environment("XDG_CACHE_HOME"):
        return shared / "fedsim"
    return Path(read_path("~/.cache/fedsim", "the folder of the scene cache, unless FEDSIM_CACHE names one,"))


def find_entries(folder: Path) -> list[Entry]:
    """Return the entries in the folder of a cache, the last used first. Other files are passed over.

    Raises OutputError if the folder cannot be read.
    """
    try:
        paths = [path for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir()
                 and not path.is_symlink()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f"the scene cache {folder} cannot be read ({error.strerror}); make it readable, or name "
                          "another with FEDSIM_CACHE") from error
    return sorted(map(_describe, paths), key=lambda entry: -entry.used)


def remove_entry(entry: Entry) -> bool:
    """Remove an entry. Return whether it could be: not while a process writes it. Raises OutputError.

    A process that has mapped its files keeps them until it ends.
    """
    guard = entry.path.with_suffix(".lock")
    try:
        with lock(guard):
            shutil.rmtree(entry.path)
            guard.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    except FileNotFoundError:  # somebody else has removed it
        return True
    except OSError as error:
        raise OutputError(f"cannot remove {entry.path} ({error.strerror}); see to its permissions") from error
    return True


def mark_used(path: Path) -> None:
    """Note that an entry has been opened just now, by the time of change of its folder, if that can be written."""
    with suppress(OSError):
        os.utime(path)


def _describe(path: Path) -> Entry:
    sizes, used = 0, 0.0
    for file in (path, *_files(path)):
        with suppress(OSError):
            status = file.stat()
            sizes, used = sizes + status.st_size * (file != path), max(used, status.st_mtime)
    meta = _read_meta(path)
    try:
        holds = f"{meta['source']} {meta['split']} {meta['size'][0]}x{meta['size'][1]}"
        scenes: int | None = len(meta["names"])
    except (KeyError, TypeError, IndexError):
        holds, scenes = "incomplete" if path.suffix else "damaged, or of another version", None
    return Entry(path, holds, scenes, sizes, used)


def _files(path: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from path.iterdir()


def _read_meta(path: Path) -> Any:
    try:
        return json.loads((path / "meta.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
