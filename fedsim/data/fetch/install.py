"""A public data set, downloaded, checked, and put into its folder all at once.

    .DIR.fetch/        beside DIR, while a fetch is under way or can be continued
      lock             held by the process that fetches
      VARIANT.part     a download that has begun, and VARIANT.part.json, see fedsim/data/fetch/download.py
      VARIANT.archive  a download that is complete
      tree/            becomes DIR when every file is in it
"""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from fedsim.data.fetch.download import Interrupted, can_continue, download
from fedsim.data.fetch.progress import show_download, tell
from fedsim.data.fetch.unpack import unpack
from fedsim.errors import DataError, OutputError
from fedsim.system.files import lock


class Variant(NamedTuple):
    """One copy of a data set: its archive on the internet, and how to check what came out of it."""

    licence: str
    url: str
    limit: int  # bytes of the archive at most
    start: tuple[int, str] | None  # bytes of the archive and the MD5 of its first MiB, if they are known
    folder: str  # the folder of the archive that is wanted, at its top or one below
    wanted: Callable[[str], bool]  # says of a path in `folder` whether that file is wanted
    fault: Callable[[Path], str | None]  # says what is wrong with an unpacked folder; None if it is complete
    holds: str  # a sentence for people
    digests: bool = True  # whether `fault` compares every file with a digest
    digest: str | None = None  # SHA-256 of the archive in hexadecimal, if it is known


def install(to: Path, name: str, variant: Variant, url: str) -> str:
    """Make the folder `to` from the archive at `url`. Return a sentence without its full stop that says so.

    name: of the variant. If the folder is there and complete, nothing is downloaded.
    Raises DataError, OutputError or OSError, and leaves `to` as it was.
    """
    target = Path(os.path.realpath(to))  # a link stays, and the folder that it leads to is filled
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        if fault := variant.fault(target):
            raise OutputError(f"{to} is there already and is not this data set ({fault}); name a new folder with --to")
        return f"{to} is there already, complete"
    if target == Path.cwd() or target.is_mount():
        raise OutputError(f"{to} cannot be replaced while it is in use; name a folder below it with --to")
    with _work_folder(target) as work:
        archive = _fetch_archive(work / f"{name}.archive", variant, url, target)
        tell("Unpacking and checking")
        try:
            unpack(archive, work / "tree", partial(wanted_path, variant))
            if fault := variant.fault(work / "tree"):
                raise DataError(f"the archive is not the one expected ({fault})")
        except DataError as error:
            archive.unlink()
            raise _with_remedy(error, variant, target) from error
        (work / "tree").rename(target)
        archive.unlink()
    return f"{to} is complete"


def wanted_path(variant: Variant, member: str) -> str | None:
    """Return the path that a member of the archive gets in the data set's folder; None if it is not wanted."""
    match = re.fullmatch(rf"(?:[^/]+/)?{variant.folder}/(.+)", member)
    return match[1] if match and variant.wanted(match[1]) else None


@contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """Give the folder beside `target` that only this process uses. It stays if a download in it can be continued."""
    work = target.parent / f".{target.name}.fetch"
    absent = [folder for folder in target.parents if not folder.exists()]
    try:
        with _lock(work):
            shutil.rmtree(work / "tree", ignore_errors=True)  # left by a process that was killed
            try:
                yield work
            finally:
                shutil.rmtree(work / "tree", ignore_errors=True)
                if not any(work.glob("*.archive")) and not any(map(can_continue, work.glob("*.part"))):
                    shutil.rmtree(work, ignore_errors=True)
    finally:
        for folder in absent:
            with suppress(OSError):  # not empty
                folder.rmdir()


def _lock(work: Path) -> IO[str]:
    """Make the folder and hold its lock. Raises OutputError if another fetch works in it."""
    while True:
        work.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # its last holder has just removed the folder
            try:
                return lock(work / "lock")
            except BlockingIOError:
                raise OutputError(f"another fetch works in {work}; wait until it is done") from None


def _fetch_archive(archive: Path, variant: Variant, url: str, target: Path) -> Path:
    """Download the archive unless it is there. Raises DataError if the server does not send it."""
    if archive.exists():
        _check_digest(archive, variant, url)
        return archive
    part = archive.with_suffix(".part")
    if not can_continue(part):
        print(variant.licence, file=sys.stderr)
    try:
        with show_download(url) as progress:
            download(url, part, variant.limit, progress, secure=not (variant.digests or variant.digest))
        if variant.start and variant.start != (start := _start_of(part)):
            part.unlink()
            raise DataError(f"{url} is another file ({start[0]:,} bytes, MD5 of the first MiB {start[1]})")
        _check_digest(part, variant, url)
    except Interrupted:
        raise
    except DataError as error:
        raise _with_remedy(error, variant, target) from error
    return part.rename(archive)


def _check_digest(part: Path, variant: Variant, url: str) -> None:
    """Raise DataError, and remove the archive, if it has another digest than it should; else tell the digest."""
    with open(part, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if variant.digest not in (None, digest):
        part.unlink()
        raise DataError(f"{url} is another file (SHA-256 {digest} instead of {variant.digest})")
    if not variant.digests:
        tell(f"SHA-256 of the archive: {digest}")


def _start_of(path: Path) -> tuple[int, str]:
    """Return the size of a file in bytes and the MD5 of its first MiB."""
    with open(path, "rb") as file:
        return path.stat().st_size, hashlib.md5(file.read(2**20), usedforsecurity=False).hexdigest()


def _with_remedy(error: DataError, variant: Variant, target: Path) -> DataError:
    """Return the error with advice: how to get the data set by hand."""
    return DataError(f"{error}; try again, or fetch {variant.url} with a browser and unpack what its folder "
                     f"{variant.folder} holds into {target}")
