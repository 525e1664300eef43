"""CamVid in the layout of Kaggle's copy: 960x720, 32 classes by colour.

    ROOT/class_dict.csv    name,r,g,b: the colour of each class
    ROOT/train/0001TP_006690.png  train_labels/0001TP_006690_L.png   and likewise val and test
"""

from collections.abc import Iterator, Mapping
from os.path import isdir
from pathlib import Path

from fedsim.classes import ClassTable
from fedsim.data.datasets.camvid.layout import CamVidLayout, meaning
from fedsim.data.datasets.label_files import ColourLabels, colour_code
from fedsim.data.datasets.label_table import read_labels, refuse_doubles
from fedsim.data.datasets.on_disk import SPLITS
from fedsim.data.datasets.picture_files import by_name, pair, pictures


class Kaggle(CamVidLayout):
    """The layout of Kaggle's copy."""

    marks = ("class_dict.csv",)

    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if isdir(self.root / split))

    def pairs(self, split: str) -> Iterator[tuple[str, Path, Path]]:
        folder = self.root / f"{split}_labels"
        yield from pair(by_name(pictures(self.root / split)), by_name(pictures(folder), "_L"), folder)

    def labels(self, classes: ClassTable, meanings: Mapping[str, int]) -> ColourLabels:
        path = self.root / "class_dict.csv"
        labels = read_labels(path, ("name", "r", "g", "b"))
        refuse_doubles(path, labels, "the colour", lambda label: label.colour)
        return ColourLabels({colour_code(*label.colour): meaning(meanings, label.name, path, label.line)
                        for label in labels}, f"the colours of classes are those of {path}")
