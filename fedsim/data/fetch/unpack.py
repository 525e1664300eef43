"""Unpack an untrusted .tar.gz archive, and check files by their digests.

Only name, kind and size of a member are read, and the name only to decide which path its content gets. So no path,
link, device, owner, mode or time of an archive reaches the disk, on any version of tarfile.
"""

import gzip
import hashlib
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fedsim.errors import DataError, FedsimError

AT_ONCE = 2**20  # bytes in memory; tarfile reads a header at once, so this bounds the header too


class Bounds(NamedTuple):
    """The limits of an archive."""

    members: int = 20_000
    file: int = 2**24  # bytes of a wanted file
    total: int = 2**31  # bytes of all members and their headers


BOUNDS = Bounds()


def unpack(archive: Path, folder: Path, path_of: Callable[[str], str | None], bounds: Bounds = BOUNDS) -> None:
    """Make `folder` and write the wanted members into it.

    path_of: takes the name of a member and returns its path below `folder`; None if the member is not wanted.
    Raises DataError if the archive is damaged or exceeds the bounds, if a wanted member is no regular file, or if two
    have the same path; OSError if the disk fails. Files that were written before stay.
    """
    folder.mkdir()
    try:
        with gzip.open(archive) as whole:
            content: Any = _Forwards(whole, bounds.total)
            with tarfile.open(fileobj=content, mode="r:") as members:
                for count, member in enumerate(members, 1):
                    if count > bounds.members:
                        raise DataError(f"the archive holds more than {bounds.members:,} files")
                    path = path_of(member.name)
                    if path is not None:
                        _write(members, member, folder, PurePosixPath(path), bounds.file)
            while content.read(AT_ONCE):  # the checksum stands at the end
                pass
    except (FedsimError, OSError) as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _damage(error) from error
        raise
    except Exception as error:  # tarfile throws nearly anything at a damaged or hostile header
        raise _damage(error) from error


def _write(members: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, path: PurePosixPath, largest: int) -> None:
    """Write a member to a path below the folder. Raises DataError if it is unsafe, no regular file or too large."""
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"the archive would write {str(path)!r}, outside its folder")
    source = members.extractfile(member) if member.isreg() and not member.issparse() else None
    if source is None:
        raise DataError(f"the archive holds {member.name!r}, which is no regular file")
    if not 0 <= member.size <= largest:
        raise DataError(f"the archive holds {member.name!r} of {member.size:,} bytes, more than {largest:,}")
    target = folder / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, open(target, "xb") as file:
            shutil.copyfileobj(source, file, AT_ONCE)
    except FileExistsError as error:
        raise DataError(f"the archive holds {member.name!r} twice") from error


class _Forwards:
    """A file that is read once from start to end: at most `limit` bytes, and AT_ONCE bytes at a time."""

    def __init__(self, file: gzip.GzipFile, limit: int) -> None:
        self.file, self.limit, self.position = file, limit, 0

    def tell(self) -> int:
        return self.position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= AT_ONCE:
            raise tarfile.ReadError("a header is too long")
        data = self.file.read(size)
        self._advance(self.position + len(data))
        return data

    def seek(self, position: int) -> None:
        self._advance(position)
        self.file.seek(position)

    def _advance(self, position: int) -> None:
        if position < self.position:
            raise tarfile.ReadError("a size is negative")
        if position > self.limit:
            raise tarfile.ReadError(f"it holds more than {self.limit:,} bytes")
        self.position = position


def _damage(error: Exception) -> DataError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return DataError(f"the archive is damaged, or not an archive ({reason})")


def read_digests(path: Path) -> dict[str, str]:
    """Read a file that `sha256sum` wrote. Return {path: SHA-256 in hexadecimal}."""
    lines = (line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return {name: digest for digest, name in lines}


def first_fault(folder: Path, digests: Mapping[str, str]) -> str | None:
    """Say what is wrong with the first wrong file below `folder`; None if all are right. Reads all files."""
    for name, right in digests.items():
        try:
            with open(folder / name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if digest != right:
            return f"{name} has different content"
    return None
