"""Cityscapes: 2975 training and 500 validation scenes, 2048x1024, 19 classes.

Cordts et al. 2016, "The Cityscapes Dataset for Semantic Urban Scene Understanding" (arXiv:1604.01685).

    ROOT/leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png      CITY_SEQUENCE_FRAME
    ROOT/gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png       and likewise val
"""

import re
from collections.abc import Iterator
from os.path import isdir
from pathlib import Path
from typing import ClassVar

from fedsim.data.datasets.label_files import IndexLabels
from fedsim.data.datasets.label_table import TABLES, class_index, class_table, read_labels, refuse_other_table
from fedsim.data.datasets.on_disk import Frame, OnDisk
from fedsim.data.datasets.pairing import by_name, note_unused, pair
from fedsim.data.datasets.picture_files import folders, pictures
from fedsim.errors import DataError

IMAGES, LABELS = "leftImg8bit", "gtFine"
IMAGE, LABEL = "_leftImg8bit", "_gtFine_labelIds"  # ends of file names
FRAMES_PER_SECOND = 17  # §2.1 of the paper


class Cityscapes(OnDisk):
    """Cityscapes with a drive for each city. Scenes have no time, because a city's recordings share no clock."""

    name = "cityscapes"
    image_size = (256, 128)  # (width, height) in pixels, an eighth of the pictures' own
    withheld: ClassVar = {"test": "because its labels are not public and the files in their place are void"}

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        table = TABLES / "cityscapes.csv"
        labels = read_labels(table)
        self.classes = class_table(table, labels)
        refuse_other_table(self.root / "classes.csv", {label.number: label.trained_as for label in labels})
        self.labels = IndexLabels({label.number: class_index(label, self.classes) for label in labels},
                                  "take those whose names end in _gtFine_labelIds.png",
                                  {label.number: label.colour for label in labels})

    def splits(self) -> tuple[str, ...]:
        """Return the splits of which there is a folder, among "train" and "val"."""
        splits = tuple(split for split in ("train", "val") if isdir(self.root / IMAGES / split))
        if not splits:
            raise DataError(f"{self.root} holds no {IMAGES}/train and no {IMAGES}/val; --data-root must name the "
                            f"folder in which {IMAGES} and {LABELS} of Cityscapes lie")
        return splits

    def frames(self, split: str) -> Iterator[Frame]:
        """Yield city after city in the order of names, the frames of each by sequence and number."""
        images, labels = (self.root / kind / split for kind in (IMAGES, LABELS))
        for city in sorted({city.name for folder in (images, labels) for city in folders(folder)}):
            # One of the four files of each label.
            ids = [path for path in pictures(labels / city) if path.stem.endswith(LABEL)]
            named = by_name(pictures(images / city), IMAGE, self.report)
            labelled = by_name(ids, LABEL, self.report)
            yield from (self._frame(*paired) for paired in pair(named, labelled, labels / city, self.report))

    def notes(self, split: str) -> list[str]:
        return note_unused([self.root / IMAGES / split], (frame.image for frame in self._frames(split)))

    def _frame(self, name: str, image: Path, label: Path) -> Frame:
        city, _, _ = _parts(name, image)
        return Frame(city, name, image, label)


class CityscapesSequences(Cityscapes):
    """Cityscapes with a drive for each recorded sequence. Frame numbers tell the time in a sequence."""

    name = "cityscapes-sequences"

    def _frame(self, name: str, image: Path, label: Path) -> Frame:
        city, sequence, number = _parts(name, image)
        return Frame(f"{city}_{sequence}", name, image, label, int(number) / FRAMES_PER_SECOND)


def _parts(name: str, image: Path) -> tuple[str, ...]:
    """Split the name of a picture into city, sequence and frame. Raises DataError if it has other parts."""
    parts = re.fullmatch(r"(.+)_([0-9]+)_([0-9]+)", name)
    if parts is None:
        raise DataError(f"{image} is not called CITY_SEQUENCE_FRAME{IMAGE}.png, as Cityscapes calls a picture")
    return parts.groups()
