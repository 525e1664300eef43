"""CamVid in the layout of fast.ai: 960x720, 32 classes, no test split.

It is camvid.tgz of course.fast.ai:

    ROOT/codes.txt    the name of a class in each line; a label holds line numbers, from 0
    ROOT/valid.txt    the names of the validation pictures, those of SegNet's val; all others are for training
    ROOT/images/0001TP_006690.png  labels/0001TP_006690_P.png
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from fedsim.classes import ClassTable
from fedsim.data.datasets.camvid.layout import CamVidLayout, meaning
from fedsim.data.datasets.label_files import IndexLabels
from fedsim.data.datasets.picture_files import by_name, pair, pictures, read_lines
from fedsim.errors import DataError


class FastAi(CamVidLayout):
    """The layout of fast.ai's copy."""

    marks = ("codes.txt",)

    def splits(self) -> tuple[str, ...]:
        return ("train", "val")

    def pairs(self, split: str) -> Iterator[tuple[str, Path, Path]]:
        folder = self.root / "labels"
        images, labels = by_name(pictures(self.root / "images")), by_name(pictures(folder), "_P")
        valid = set(self._valid(images))
        for name, image, label in pair(images, labels, folder):
            if (name in valid) == (split == "val"):
                yield name, image, label

    def labels(self, classes: ClassTable, meanings: Mapping[str, int]) -> IndexLabels:
        path, codes, seen = self.root / "codes.txt", {}, dict[str, int]()
        names = [name.strip() for name in read_lines(path)]
        for line, name in enumerate(names, 1):
            if name:
                codes[line - 1] = meaning(meanings, name, path, line)
                if seen.setdefault(name.lower(), line) != line:
                    raise DataError(f"{path} line {line} names {name} again after line {seen[name.lower()]}; a line "
                                    "must be a class of its own")
        return IndexLabels(codes, "fast.ai's camvid has such labels")

    def _valid(self, images: Mapping[str, Path]) -> Iterator[str]:
        path = self.root / "valid.txt"
        by_file = {image.name: name for name, image in images.items()}
        for line, file in enumerate(read_lines(path), 1):
            if file.strip():
                if file.strip() not in by_file:
                    raise DataError(f"{path} line {line} names {file.strip()}, which is not in {self.root / 'images'}")
                yield by_file[file.strip()]
