"""CamVid in the layout of Kaggle's copy: 960x720, 32 classes by colour.

    ROOT/class_dict.csv    name,r,g,b: the colour of each class
    ROOT/train/0001TP_006690.png  train_labels/0001TP_006690_L.png   and likewise val and test
"""

from collections.abc import Iterator
from os.path import isdir
from pathlib import Path

from fedsim.classes import ClassTable
from fedsim.data.datasets.camvid.layout import CamVidLayout, Meanings
from fedsim.data.datasets.label_files import ColourLabels, colour_code
from fedsim.data.datasets.label_table import Label, read_labels, refuse_doubles
from fedsim.data.datasets.on_disk import SPLITS
from fedsim.data.datasets.pairing import Report, by_name, pair
from fedsim.data.datasets.picture_files import pictures


class Kaggle(CamVidLayout):
    """The layout of Kaggle's copy."""

    marks = ("class_dict.csv",)

    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if isdir(self.root / split))

    def folders(self, split: str) -> tuple[Path, ...]:
        return self.root / split, self.root / f"{split}_labels"

    def pairs(self, split: str, report: Report) -> Iterator[tuple[str, Path, Path]]:
        images, folder = self.folders(split)
        named, labels = by_name(pictures(images), report=report), by_name(pictures(folder), "_L", report)
        yield from pair(named, labels, folder, report)

    def labels(self, classes: ClassTable, meanings: Meanings) -> ColourLabels:
        return ColourLabels({colour_code(*own.colour): meanings.class_of(meanings.find(own.name, self._table, own.line))
                             for own in self._own_labels()}, f"the colours of classes are those of {self._table}")

    def notes(self, meanings: Meanings) -> list[str]:
        others = [own for own in self._own_labels()
                  if meanings.find(own.name, self._table, own.line).colour != own.colour]
        return [f"{self._table} gives {len(others)} class(es) other colours than CamVid's own table, first "
                f"{others[0].name} in line {others[0].line}; labels are read as the file says"] if others else []

    @property
    def _table(self) -> Path:
        return self.root / "class_dict.csv"

    def _own_labels(self) -> tuple[Label, ...]:
        labels = read_labels(self._table, ("name", "r", "g", "b"))
        refuse_doubles(self._table, labels, "the colour", lambda label: label.colour)
        return labels
