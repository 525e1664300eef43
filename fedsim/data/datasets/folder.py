"""Any data set that is laid out as docs/bring-your-own-data.md tells.

    ROOT/classes.csv                    what labels mean; see label_table.py
    ROOT/images/SPLIT/DRIVE/FRAME.png   or .jpg; SPLIT is train, val or test
    ROOT/labels/SPLIT/DRIVE/FRAME.png   the numbers of classes.csv

Pictures right under SPLIT are one drive of that name.
"""

from collections.abc import Iterator
from os.path import isdir
from pathlib import Path

from fedsim.data.datasets.label_files import IndexLabels
from fedsim.data.datasets.label_table import class_index, class_table, read_labels
from fedsim.data.datasets.on_disk import SPLITS, Frame, OnDisk
from fedsim.data.datasets.picture_files import by_name, folders, natural, pair, picture_size, pictures
from fedsim.errors import DataError

WIDTH = 120  # pixels, of the pictures that a network sees unless told


class Folder(OnDisk):
    """The data set in `root`. Frames have an order, by the numbers in their names, and no time."""

    name = "folder"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        table = self.root / "classes.csv"
        labels = read_labels(table)
        self.classes = class_table(table, labels)
        self.labels = IndexLabels({label.number: class_index(label, self.classes) for label in labels},
                              f"what they mean stands in {table}")
        width, height = picture_size(self._frames(self.splits()[0])[0].image)
        self.image_size = (min(width, WIDTH), max(1, round(height * min(width, WIDTH) / width)))

    def splits(self) -> tuple[str, ...]:
        """Those with a folder of pictures. Raises DataError where there is none."""
        found = tuple(split for split in SPLITS if isdir(self.root / "images" / split))
        if not found:
            looked_for = ", ".join(f"images/{split}" for split in SPLITS)
            raise DataError(f"{self.root} holds none of {looked_for}; lay it out as images/SPLIT/DRIVE/FRAME.png and "
                            "labels/SPLIT/DRIVE/FRAME.png")
        return found

    def frames(self, split: str) -> Iterator[Frame]:
        """Drives and their frames in the order of the numbers in their names."""
        images, labels = (self.root / kind / split for kind in ("images", "labels"))
        drives = sorted({drive.name for folder in (images, labels) for drive in folders(folder)}, key=natural)
        if drives and (loose := pictures(images)):
            raise DataError(f"{loose[0]} lies beside folders of drives; move it into one of them")
        for drive in drives or ["."]:
            yield from _drive(images / drive, labels / drive)


def _drive(images: Path, labels: Path) -> Iterator[Frame]:
    named = by_name(pictures(images))
    if not named:
        raise DataError(f"{images} holds no picture; a folder of a drive holds its frames, as .png or .jpg")
    for name, image, label in pair(named, by_name(pictures(labels)), labels):
        yield Frame(images.name, f"{images.name}/{name}", image, label)
