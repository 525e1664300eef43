"""The base of CamVid's layouts: the splits, the pictures, and how labels are read."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path

from fedsim.classes import ClassTable
from fedsim.data.datasets.label_files import LabelFiles
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
    def pairs(self, split: str) -> Iterable[tuple[str, Path, Path]]:
        """Return (name, picture, label) of each scene of an existing split. Raises DataError."""

    @abstractmethod
    def labels(self, classes: ClassTable, meanings: Mapping[str, int]) -> LabelFiles:
        """Return the reader of labels. meanings: class index or VOID by each of CamVid's 32 names, in small letters."""


def meaning(meanings: Mapping[str, int], name: str, path: Path, line: int) -> int:
    """Return the class index or VOID of a class name in a file. Raises DataError that names the line."""
    key = SPELLINGS.get(name.lower(), name.lower())
    if key not in meanings:
        raise DataError(f"{path} line {line} names {name!r}, which is none of CamVid's {len(meanings)} classes")
    return meanings[key]
