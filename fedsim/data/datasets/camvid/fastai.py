"""CamVid in the layout of fast.ai: 960x720, 32 classes, no test split.

It is camvid.tgz of course.fast.ai:

    ROOT/codes.txt    the name of a class in each line; a label holds line numbers, from 0
    ROOT/valid.txt    the names of the validation pictures, those of SegNet's val; all others are for training
    ROOT/images/0001TP_006690.png  labels/0001TP_006690_P.png
"""

import re
from collections.abc import Iterator, Mapping
from os.path import isfile
from pathlib import Path
from unicodedata import normalize

from fedsim.classes import ClassTable
from fedsim.data.datasets.camvid.layout import CamVidLayout, Meanings
from fedsim.data.datasets.label_files import IndexLabels
from fedsim.data.datasets.label_table import Label, same_name
from fedsim.data.datasets.pairing import Report, by_name, pair, readable
from fedsim.data.datasets.picture_files import pictures, read_lines
from fedsim.errors import DataError


class FastAi(CamVidLayout):
    """The layout of fast.ai's copy."""

    marks = ("codes.txt",)

    def splits(self) -> tuple[str, ...]:
        return ("train", "val")

    def folders(self, split: str) -> tuple[Path, ...]:
        return self.root / "images", self.root / "labels"

    def pairs(self, split: str, report: Report) -> Iterator[tuple[str, Path, Path]]:
        images, folder = self.folders(split)
        named, labels = by_name(pictures(images), report=report), by_name(pictures(folder), "_P", report)
        valid = set(self._valid(named))
        for name, image, label in pair(named, labels, folder, report):
            if (name in valid) == (split == "val"):
                yield name, image, label

    def labels(self, classes: ClassTable, meanings: Meanings) -> IndexLabels:
        codes = {number: self._find(meanings, number, name) for number, name in enumerate(self._names())}
        return IndexLabels({number: meanings.class_of(label) for number, label in codes.items()},
                           f"{self._codes} names the numbers from 0",
                           {number: label.colour for number, label in codes.items()})

    def notes(self, meanings: Meanings) -> list[str]:
        others = [(number, name) for number, name in enumerate(self._names())
                  if self._find(meanings, number, name).number != number]
        return [f"{self._codes} gives {len(others)} class(es) other numbers than CamVid's own table, first "
                f"{others[0][0]} to {others[0][1]}; labels are read as the file says"] if others else []

    @property
    def _codes(self) -> Path:
        return self.root / "codes.txt"

    def _names(self) -> list[str]:
        """Return the class names of codes.txt in the order of their numbers. Raises DataError."""
        names = [name.strip() for name in read_lines(self._codes)]
        while names and not names[-1]:
            names.pop()
        seen = dict[str, int]()
        for line, name in enumerate(names, 1):
            if not name or name.startswith("#"):
                raise DataError(f"{self._codes} line {line} is {'a comment' if name else 'empty'}, so nobody can tell "
                                "which number the names below it have; take the line out if numbers count names alone")
            if seen.setdefault(same_name(name), line) != line:
                raise DataError(f"{self._codes} line {line} names {name} again after line {seen[same_name(name)]}; a "
                                "line must be a class of its own")
        return names

    def _find(self, meanings: Meanings, number: int, name: str) -> Label:
        return meanings.find(name, self._codes, number + 1)

    def _valid(self, images: Mapping[str, Path]) -> Iterator[str]:
        path = self.root / "valid.txt"
        if not isfile(path):
            raise DataError(f"there is no {path}, which names the pictures to validate on (camvid_tiny has none); "
                            "write the file names of some of the pictures into it, one in each line")
        by_file = {readable(image.name): name for name, image in images.items()}
        for line, text in enumerate(read_lines(path), 1):
            file = re.split(r"[/\\]", normalize("NFC", text.strip()))[-1]
            if file and file not in by_file:
                raise DataError(f"{path} line {line} names {file}, which is not in {self.root / 'images'}")
            if file:
                yield by_file[file]
