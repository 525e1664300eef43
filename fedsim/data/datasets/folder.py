"""A data set of the user's own, laid out as docs/bring-your-own-data.md says.

    ROOT/classes.csv                    the meaning of labels; see label_table.py
    ROOT/images/SPLIT/DRIVE/FRAME.png   or .jpg; SPLIT is train, val or test
    ROOT/labels/SPLIT/DRIVE/FRAME.png   holds the numbers of classes.csv

Pictures directly in SPLIT are one drive, which has the name of the split.
"""

from collections.abc import Iterator
from functools import cached_property
from os.path import isdir, isfile
from pathlib import Path

from fedsim.data.datasets.label_files import IndexLabels
from fedsim.data.datasets.label_table import NUMBERED, class_index, class_table, read_labels
from fedsim.data.datasets.on_disk import SPLITS, Frame, OnDisk
from fedsim.data.datasets.pairing import by_name, folders_by_name, note_unused, pair
from fedsim.data.datasets.picture_files import folders, natural, picture_size, pictures
from fedsim.errors import DataError

WIDTH = 120  # pixels, of the network's input unless --image-size is given
KINDS = ("images", "labels")


class Folder(OnDisk):
    """The data set in `root`. The numbers in the names of frames give their order; frames have no time."""

    name = "folder"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        table = self.root / "classes.csv"
        if not isfile(table):
            raise DataError(f"there is no {table}, the table of what the numbers in labels mean; its first line is "
                            f"{','.join(NUMBERED)}, and each other line a label, such as 0,Road,128,64,128")
        labels = read_labels(table)
        self.classes = class_table(table, labels)
        self.labels = IndexLabels({label.number: class_index(label, self.classes) for label in labels},
                                  f"{table} says what they mean", {label.number: label.colour for label in labels},
                                  table)

    @cached_property
    def image_size(self) -> tuple[int, int]:  # type: ignore[override]
        """The size of the network's input, (width, height) in pixels: narrow, in the shape of the first picture."""
        width, height = picture_size(self._frames(self.splits()[0])[0].image)
        return min(width, WIDTH), max(1, round(height * min(width, WIDTH) / width))

    def splits(self) -> tuple[str, ...]:
        """Return the splits that have a folder of pictures. Raises DataError if no split has one."""
        splits = tuple(split for split in SPLITS if isdir(self.root / "images" / split))
        if not splits:
            looked_for = ", ".join(f"images/{split}" for split in SPLITS)
            raise DataError(f"{self.root} holds none of {looked_for}{self._other_folders()}; lay it out as "
                            "images/SPLIT/DRIVE/FRAME.png and labels/SPLIT/DRIVE/FRAME.png")
        return splits

    def say_without(self, split: str) -> str:
        return (f"{self._other_folders()}; name a split that is there with --eval-split, or lay some drives aside as "
                f"images/{split} and labels/{split}")

    def frames(self, split: str) -> Iterator[Frame]:
        """Yield drive after drive, and the frames of each, in the order of the numbers in their names."""
        images, labels = (self.root / kind / split for kind in KINDS)
        drives, labelled = folders_by_name(images, self.report), folders_by_name(labels, self.report)
        if not drives and not labelled:
            drives, labelled = {split: images}, {split: labels}
        elif loose := pictures(images):
            self.report([DataError(f"{path} lies beside folders of drives; move it into one of them",
                                   "pictures beside folders of drives") for path in loose])
        for drive in sorted(drives.keys() | labelled.keys(), key=natural):
            if drive in drives and drive in labelled:
                yield from self._frames_of(drive, drives[drive], labelled[drive])
            else:
                here, there = (drives, labels) if drive in drives else (labelled, images)
                self.report([DataError(f"{here[drive]} has no counterpart in {there}; a drive has a folder of pictures "
                                       "and one of labels, of the same name", "drives without pictures or labels")])

    def notes(self, split: str) -> list[str]:
        used = [path for frame in self._frames(split) for path in (frame.image, frame.label)]
        others = self._other_folders()
        return [*note_unused((self.root / kind / split for kind in KINDS), used),
                *([f"{self.root} has more folders of pictures, which are not used{others}"] if others else [])]

    def _frames_of(self, drive: str, images: Path, labels: Path) -> Iterator[Frame]:
        """Yield the frames of a drive, given its folders. Reports a DataError if there is no picture."""
        named = by_name(pictures(images), report=self.report)
        if not named:
            inside = "".join(f" ({note})" for note in note_unused([images], []))
            self.report([DataError(f"{images} holds no picture that can be used{inside}; a folder of a drive holds its "
                                   "frames, as .png or .jpg", "drives without pictures or labels")])
            return
        for name, image, label in pair(named, by_name(pictures(labels), report=self.report), labels, self.report):
            yield Frame(drive, f"{drive}/{name}", image, label)

    def _other_folders(self) -> str:
        """Name the folders beside those of splits, which may be splits under other names."""
        if not isdir(self.root / "images"):
            return ""
        others = [f"images/{path.name}" for path in folders(self.root / "images") if path.name not in SPLITS]
        return f" ({', '.join(others[:4])} is there)" if others else ""
