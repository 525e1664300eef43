"""The base of all data sets on disk: scenes are files, read on all cores."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from os.path import isdir
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from fedsim.classes import ClassTable
from fedsim.data.datasets.label_files import LabelFiles
from fedsim.data.datasets.pairing import Report, refuse
from fedsim.data.datasets.picture_files import read_picture
from fedsim.data.scene_set import Scene
from fedsim.errors import DataError
from fedsim.system.threads import ahead

READER_VERSION = 3  # raise it when the same files give other scenes
SPLITS = ("train", "val", "test")


class Frame(NamedTuple):
    """The files of a scene."""

    drive: str
    name: str  # unique in its data set
    image: Path
    label: Path
    time: float | None = None  # seconds on the clock of its drive


class OnDisk(ABC):
    """A `Source` (fedsim/data/scene_set.py) whose scenes are pictures and labels in files under `root`.

    A subclass sets the attributes below and defines `splits` and `frames`; docs/bring-your-own-data.md has an example.
    """

    name: str
    classes: ClassTable
    image_size: tuple[int, int]
    labels: LabelFiles
    withheld: ClassVar[Mapping[str, str]] = {}  # split -> why nobody can have it, "because …"

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.report: Report = refuse  # what becomes of faults that are found while files are listed
        self._listed: dict[str, list[Frame]] = {}  # frames by split: a start reads each folder once
        if not isdir(self.root):
            raise DataError(f"there is no directory {root}; --data-root must name that of the data set {self.name}")

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Return the splits that the data set has, among SPLITS."""

    @abstractmethod
    def frames(self, split: str) -> Iterable[Frame]:
        """Return the frames of an existing split, drive after drive, each in order of time. Opens no picture."""

    def identity(self, split: str) -> dict[str, object]:
        """Return the meaning of labels, and what the system knows of each file. Opens no picture.

        The number and the time of change of a file are the system's own. So a copy, an unpacked archive and a file that
        was replaced differ from the first file, even if size and time of the content are the same.
        """
        files = []
        for frame in self._frames(split):
            for path in (frame.image, frame.label):
                try:
                    status = path.stat()
                except OSError as error:
                    raise DataError(f"{path} cannot be read ({error.strerror}); restore it, and do not change a data "
                                    "set while it is in use") from error
                files.append([frame.drive, frame.name, frame.time, os.path.relpath(path, self.root), status.st_size,
                              status.st_mtime_ns, status.st_ctime_ns, status.st_ino])
        return {"reader": READER_VERSION, "classes": self.classes.names, "root": os.path.realpath(self.root),
                "labels": self.labels.identity(), "files": files}

    def count(self, split: str) -> int:
        return len(self._frames(split))

    def drives(self, split: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(frame.drive for frame in self._frames(split)))

    def notes(self, split: str) -> list[str]:
        """Return sentences on files of a split that are not used. Opens no picture."""
        return []

    def picture(self, split: str, name: str) -> np.ndarray:
        """Read the picture of one scene. Raises DataError."""
        for frame in self._frames(split):
            if frame.name == name:
                return read_picture(frame.image)
        raise DataError(f"the split {split} under {self.root} has no scene {name}; do not change a data set while it "
                        "is in use")

    def scenes(self, split: str) -> Iterator[Scene]:
        """Yield the scenes in the order of `frames`, decoded ahead on the cores that this process may use."""
        frames = self._frames(split)
        return ahead(partial(_read, self.labels.settle(self._label_paths(split))), frames)

    def faults(self, split: str) -> list[DataError]:
        """Return all faults of a split's files. Reads every file."""
        found: list[DataError] = []
        self.report, self._listed = found.extend, {}
        try:
            frames, labels = self._frames(split), self.labels
            try:
                labels = labels.settle(self._label_paths(split))
            except DataError as error:
                found.append(error)
            found.extend(fault for fault in ahead(partial(_find_fault, labels), frames) if fault is not None)
        except DataError as error:
            found.append(error)
        finally:
            self.report, self._listed = refuse, {}
        return found

    def _label_paths(self, split: str) -> list[Path]:
        """Return the labels of the data set, those of a split first. Other splits count if they can be listed."""
        paths = [frame.label for frame in self._frames(split)]
        report, others = self.report, [other for other in self.splits() if other != split]
        self.report = refuse  # faults of other splits are no faults of this one
        for other in others:
            with suppress(DataError):
                paths += [frame.label for frame in self._frames(other)]
        self.report = report
        return paths

    def say_without(self, split: str) -> str:
        """Return the end of the sentence that there is no such split: what to do."""
        return ""

    def _frames(self, split: str) -> list[Frame]:
        """Return the frames of a split. Raises DataError if there is no such split, or no picture in it."""
        if split not in self._listed:
            splits = self.splits()
            if split not in splits:
                reason = f", {self.withheld[split]}" if split in self.withheld else ""
                raise DataError(f"there is no split {split} under {self.root}{reason}; there is "
                                f"{' and '.join(splits) or 'none'}{self.say_without(split)}")
            self._listed[split] = list(self.frames(split))
            if not self._listed[split] and self.report is refuse:  # faults that were reported say why
                raise DataError(f"there is no picture in the split {split} under {self.root}")
        return self._listed[split]


def _read(labels: LabelFiles, frame: Frame) -> Scene:
    image = read_picture(frame.image)
    height, width = image.shape[:2]
    label, remarks = labels.read(frame.label, (width, height))
    return Scene(frame.name, frame.drive, image, label, frame.time, remarks)


def _find_fault(labels: LabelFiles, frame: Frame) -> DataError | None:
    try:
        _read(labels, frame)
    except DataError as error:
        return error
    return None
