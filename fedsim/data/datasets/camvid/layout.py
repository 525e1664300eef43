"""What a layout of CamVid tells: which splits and pictures there are, and how its labels are read."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path

from fedsim.classes import ClassTable
from fedsim.data.datasets.label_files import LabelFiles
from fedsim.errors import DataError

SPELLINGS = {"motorcycyclescooter": "motorcyclescooter"}  # as found in copies of CamVid


class Layout(ABC):
    """The files in a folder, one of which is among the marks that tell the layout."""

    marks: tuple[str, ...]

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits there are."""

    @abstractmethod
    def pairs(self, split: str) -> Iterable[tuple[str, Path, Path]]:
        """(name, picture, label) of every scene of a split that is there. Raises DataError."""

    @abstractmethod
    def labels(self, classes: ClassTable, meanings: Mapping[str, int]) -> LabelFiles:
        """How labels are read. meanings: the class index or VOID of CamVid's 32 names, in small letters."""


def meaning(meanings: Mapping[str, int], name: str, path: Path, line: int) -> int:
    """What a name in a line of a file is trained as: a class index or VOID. Raises DataError."""
    key = SPELLINGS.get(name.lower(), name.lower())
    if key not in meanings:
        raise DataError(f"{path} line {line} names {name!r}, which is none of CamVid's {len(meanings)} classes")
    return meanings[key]
