"""fedsim predict: segment pictures and folders of pictures with a trained model."""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from fedsim.cli.command import PATH, Command, options_given, trust_option, view_options
from fedsim.data.datasets.pairing import note_unused
from fedsim.data.datasets.picture_files import folders, pictures, read_upright
from fedsim.distributed.world import World
from fedsim.errors import DataError
from fedsim.inference.predictions import Predictions, is_result
from fedsim.inference.segmenter import Segmenter
from fedsim.record.output_folder import make_output_folder
from fedsim.report.tables import Table, print_block, print_tables
from fedsim.report.words import list_names
from fedsim.settings.fields import CHOICES, MOST_THREADS
from fedsim.system.console import LOG, show_steps
from fedsim.system.threads import ahead

NAMED = 3  # folders that a warning names


class Found(NamedTuple):
    """A picture that is to be segmented."""

    path: Path
    name: str  # of the files that are written for it
    named: bool  # by the user, not found in a folder


class Read(NamedTuple):
    """A picture in memory."""

    name: str
    picture: np.ndarray  # (h, w, 3) uint8
    seen: np.ndarray  # (3, H, W) uint8: what the network sees of it


@click.command(cls=Command)
@click.argument("model", type=PATH)
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="PICTURE|FOLDER...")
@click.option("--out", type=PATH, metavar="DIR",
              help="Directory for the pictures, new or empty.  [default: predictions/MODEL-TIME]")
@click.option("--alpha", type=click.FloatRange(0, 1), default=0.5, metavar="X",
              help="Weight of the colours in the overlay, 0 to 1.  [default: 0.5]")
@click.option("--batch-size", type=click.IntRange(1), default=8, metavar="N",
              help="Pictures that the network sees at a time; about three times as many are in memory.  [default: 8]")
@click.option("--device", type=click.Choice(CHOICES["device"]), default="auto", help="[default: auto]")
@click.option("--threads", type=click.IntRange(1, MOST_THREADS), metavar="N",
              help="CPU threads of the network; other threads read and write pictures.  [default: the number of "
                   "cores]")
@view_options()
@trust_option()
def predict(model: str, paths: tuple[str, ...], out: str | None, alpha: float, batch_size: int, device: str,
            threads: int | None, trust: tuple[str, ...], **view: Any) -> None:
    """Segment pictures with a trained model.

    MODEL is a run's directory or a .safetensors file of one. PICTURE is a PNG or JPEG of any size. All
    pictures in a FOLDER and in its folders are taken, in the order of the numbers in their names.

    For every picture DIR gets overlay/NAME.jpg, colour/NAME.png and index/NAME.png, and classes.json tells what
    indices and colours mean.
    """
    world = World.join(device, threads=threads)
    segmenter = Segmenter.load(Path(model), world.device, trust, options_given(view))
    given = [*map(Path, paths)]
    found = find(given)
    for note in note_left_out(given):
        LOG.warning("%s", note)
    folder = make_output_folder(out, "predictions", segmenter.name)
    predictions = Predictions(folder, segmenter.classes, alpha)
    predictions.describe()
    with show_steps("segmenting", len(found)) as advance:
        pixels, skipped = segment(segmenter, found, predictions, batch_size, advance)
    done = len(found) - len(skipped)
    for error in skipped:
        LOG.warning("left out: %s", error)
    if not done:
        raise DataError(f"none of the {len(found)} pictures could be read; only {folder}/classes.json was written")
    shares = pixels / pixels.sum()
    print_tables([Table(f"{done} picture(s), share of the pixels", ["", "share"],
                        [[name, f"{share:.1%}"] for name, share in zip(segmenter.classes.names, shares, strict=True)])])
    print_block("Written", (folder / name for name in ("overlay", "colour", "index", "classes.json")))


def find(paths: Sequence[Path]) -> list[Found]:
    """Find the pictures of files and folders, each once, and name them so that no two names are the same.

    A name is the path from the last folder that all have in common, without its ending.
    Raises DataError if a path does not exist, a folder holds no picture, or two pictures would have one name.
    """
    listed = [(path, named) for given in paths for path, named in _pictures_of(given)]
    tops = {os.path.realpath(given if given.is_dir() else given.parent) for given in paths}
    top = os.path.commonpath(tops)
    found: dict[str, Found] = {}
    for path, named in listed:
        place = Path(os.path.realpath(path.parent), path.name)
        name = str(place.relative_to(top).with_suffix(""))
        other = found.setdefault(name, Found(path, name, named))
        if not os.path.samefile(other.path, path):
            raise DataError(f"{other.path} and {path.name} have the same name but different endings; segment one "
                            "of them by itself")
    return list(found.values())


def note_left_out(given: Sequence[Path]) -> list[str]:
    """Return sentences on what is in the folders among some paths and is not segmented."""
    tops = [path for path in given if path.is_dir()]
    used = [path for top in tops for path in _inside(top)]
    entered = [folder for top in tops for folder in _entered(top)]
    inner = [folder for outer in entered for folder in folders(outer)]
    own = [folder for folder in inner if is_result(folder) and not folder.is_symlink()]
    links = [folder for folder in inner if folder.is_symlink()]
    return [*(f"{note}; a picture must be PNG or JPEG" for note in note_unused(tops, used, own)),
            *_name("results of fedsim predict are left out", own), *_name("linked folders are not entered", links)]


def _name(what: str, paths: Sequence[Path]) -> list[str]:
    return [f"{what}: {list_names([*dict.fromkeys(map(str, paths))], NAMED)}"] if paths else []


def _pictures_of(given: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the pictures of a path, and whether the user named each of them."""
    if given.is_dir():
        inside = [*_inside(given)]
        if not inside:
            others = "".join(f" ({note})" for note in note_left_out([given]))
            raise DataError(f"{given} holds no picture{others}; name a folder with .png or .jpg in it, or in its "
                            "folders")
        yield from ((path, False) for path in inside)
    elif given.exists():
        yield given, True
    else:
        raise DataError(f"there is no picture or folder {given}")


def _inside(top: Path) -> Iterator[Path]:
    return (path for folder in _entered(top) for path in pictures(folder))


def _entered(folder: Path) -> Iterator[Path]:
    """Yield a folder and all folders below it, without results of predictions. Raises DataError.

    Links to folders are passed over, because they may lead around in a circle.
    """
    yield folder
    for inner in folders(folder):
        if not inner.is_symlink() and not is_result(inner):
            yield from _entered(inner)


def segment(segmenter: Segmenter, found: Sequence[Found], predictions: Predictions, batch_size: int,
            advance: Callable[[], None]) -> tuple[np.ndarray, list[DataError]]:
    """Segment pictures and write the results.

    Return the pixels of each class, (C,) int64, and the errors of the pictures that were left out.

    While the network works, other threads read the next batch and write the last one.
    """
    skipped: list[DataError] = []

    def read(one: Found) -> Read | DataError:
        try:
            picture = read_upright(one.path)
        except DataError as error:
            if one.named:
                raise
            return error
        return Read(one.name, picture, segmenter.prepare(picture))

    def read_all() -> Iterator[Read]:
        for one in ahead(read, found, batch_size):
            if isinstance(one, DataError):
                skipped.append(one)
                advance()
            else:
                yield one

    def segment_all() -> Iterator[tuple[Read, np.ndarray]]:
        pictures = read_all()
        while batch := [*islice(pictures, batch_size)]:
            labels = segmenter.segment(np.stack([one.seen for one in batch]), [one.picture.shape[:2] for one in batch])
            yield from zip(batch, labels, strict=True)

    def write(one: tuple[Read, np.ndarray]) -> np.ndarray:
        (name, picture, _), labels = one
        predictions.write(name, picture, labels)
        return np.bincount(labels.ravel(), minlength=len(segmenter.classes))

    pixels = np.zeros(len(segmenter.classes), np.int64)
    for counts in ahead(write, segment_all(), batch_size):
        pixels += counts
        advance()
    return pixels, skipped
