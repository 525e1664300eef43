"""The base of CamVid's layouts: the splits, the pictures, and how labels are read."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from fedsim.classes import ClassTable
from fedsim.data.datasets.label_files import LabelFiles
from fedsim.data.datasets.label_table import Label, class_index
from fedsim.data.datasets.pairing import Report
from fedsim.errors import DataError

SPELLINGS = {"motorcycyclescooter": "motorcyclescooter"}  # as found in copies of CamVid


class CamVidLayout(ABC):
    """The files in a folder. A folder has this layout if it holds one of the files `marks`."""

    marks: tuple[str, ...]

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Return the splits that the folder has."""

    @abstractmethod
    def folders(self, split: str) -> Iterable[Path]:
        """Return the folders that hold only pictures and labels, those of a split among them."""

    @abstractmethod
    def pairs(self, split: str, report: Report) -> Iterable[tuple[str, Path, Path]]:
        """Return (name, picture, label) of each scene of an existing split. Reports faults. Raises DataError."""

    @abstractmethod
    def labels(self, classes: ClassTable, meanings: "Meanings") -> LabelFiles:
        """Return the reader of labels. Raises UserError."""

    def notes(self, meanings: "Meanings") -> list[str]:
        """Return sentences on what the files in the folder say otherwise than CamVid's own table."""
        return []


class Meanings:
    """CamVid's own table: what each of its 32 names means."""

    def __init__(self, labels: Iterable[Label], classes: ClassTable) -> None:
        self._by_name = {_key(label.name): label for label in labels}
        self._classes = classes

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, name: str, path: Path, line: int) -> Label:
        """Return the label of a name that a file holds. Raises DataError that names the line."""
        if _key(name) not in self._by_name:
            raise DataError(f"{path} line {line} names {name!r}, which is none of CamVid's {len(self)} classes")
        return self._by_name[_key(name)]

    def class_of(self, label: Label) -> int:
        """Return the class index of a label, or VOID."""
        return class_index(label, self._classes)


def _key(name: str) -> str:
    """Return what all spellings of a name have in common: copies of CamVid differ in capitals, spaces and signs."""
    key = re.sub(r"[^a-z]", "", name.casefold())
    return SPELLINGS.get(key, key)
