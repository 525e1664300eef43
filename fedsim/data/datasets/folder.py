"""A data set of the user's own, laid out as docs/bring-your-own-data.md says.

    ROOT/classes.csv                    the meaning of labels; see label_table.py
    ROOT/images/SPLIT/DRIVE/FRAME.png   or .jpg; SPLIT is train, val or test
    ROOT/labels/SPLIT/DRIVE/FRAME.png   holds the numbers of classes.csv

Pictures directly in SPLIT are one drive, which has the name of the split.
"""

from collections.abc import Iterator
from os.path import isdir
from pathlib import Path

from fedsim.data.datasets.label_files import IndexLabels
from fedsim.data.datasets.label_table import class_index, class_table, read_labels
from fedsim.data.datasets.on_disk import SPLITS, Frame, OnDisk
from fedsim.data.datasets.picture_files import by_name, folders, natural, pair, picture_size, pictures
from fedsim.errors import DataError

WIDTH = 120  # pixels, of the network's input unless --image-size is given


class Folder(OnDisk):
    """The data set in `root`. The numbers in the names of frames give their order; frames have no time."""

    name = "folder"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        table = self.root / "classes.csv"
        labels = read_labels(table)
        self.classes = class_table(table, labels)
        self.labels = IndexLabels({label.number: class_index(label, self.classes) for label in labels},
                              f"{table} says what they mean")
        width, height = picture_size(self._frames(self.splits()[0])[0].image)
        self.image_size = (min(width, WIDTH), max(1, round(height * min(width, WIDTH) / width)))

    def splits(self) -> tuple[str, ...]:
        """Return the splits that have a folder of pictures. Raises DataError if no split has one."""
        splits = tuple(split for split in SPLITS if isdir(self.root / "images" / split))
        if not splits:
            looked_for = ", ".join(f"images/{split}" for split in SPLITS)
            raise DataError(f"{self.root} holds none of {looked_for}; lay it out as images/SPLIT/DRIVE/FRAME.png and "
                            "labels/SPLIT/DRIVE/FRAME.png")
        return splits

    def frames(self, split: str) -> Iterator[Frame]:
        """Yield drive after drive, and the frames of each, in the order of the numbers in their names."""
        images, labels = (self.root / kind / split for kind in ("images", "labels"))
        drives = sorted({drive.name for folder in (images, labels) for drive in folders(folder)}, key=natural)
        if drives and (loose := pictures(images)):
            raise DataError(f"{loose[0]} lies beside folders of drives; move it into one of them")
        for drive in drives or ["."]:
            yield from _frames_of(images / drive, labels / drive)


def _frames_of(images: Path, labels: Path) -> Iterator[Frame]:
    """Yield the frames of a drive, given its folders. Raises DataError if there is no picture."""
    named = by_name(pictures(images))
    if not named:
        raise DataError(f"{images} holds no picture; a folder of a drive holds its frames, as .png or .jpg")
    for name, image, label in pair(named, by_name(pictures(labels)), labels):
        yield Frame(images.name, f"{images.name}/{name}", image, label)
