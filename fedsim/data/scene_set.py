"""A data set on disk (`Source`) and its memory-mapped scenes (`SceneSet`)."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from fedsim.classes import ClassTable
from fedsim.data.pixels import nearest


class Scene(NamedTuple):
    """One picture and its label, at the data set's own resolution."""

    name: str  # unique in its data set
    drive: str  # the recording it belongs to
    image: np.ndarray  # (h, w, 3) uint8 RGB
    label: np.ndarray  # (h, w) uint8 class index or VOID
    time: float | None = None  # seconds on the clock of its drive, if the data set tells it
    remarks: tuple[str, ...] = ()  # what its reader noticed, as the end of a sentence that begins with the label


class Source(Protocol):
    """A data set. To add one, write one small module with such a class."""

    name: str
    classes: ClassTable
    image_size: tuple[int, int]  # (width, height) in pixels, the network's input unless --image-size is given

    def splits(self) -> tuple[str, ...]:
        """Return the splits that the data set has, among "train", "val" and "test"."""
        ...

    def identity(self, split: str) -> dict[str, object]:
        """Return everything that the scenes of a split depend on, as values that JSON can hold: the key of the cache.

        It must be fast, because every start calls it. Raises DataError if the data set is missing or laid out in
        another way.
        """
        ...

    def count(self, split: str) -> int:
        """Return the number of scenes of a split. It must be fast. Raises DataError as `identity` does."""
        ...

    def drives(self, split: str) -> tuple[str, ...]:
        """Return the names of a split's drives. It must be fast. Raises DataError as `identity` does."""
        ...

    def notes(self, split: str) -> list[str]:
        """Return sentences on what people should know about a split, such as files in it that are not used.

        It must be fast. Raises DataError as `identity` does.
        """
        ...

    def picture(self, split: str, name: str) -> np.ndarray:
        """Return the picture of a scene by the scene's name: (h, w, 3) uint8 RGB. Raises DataError."""
        ...

    def scenes(self, split: str) -> Iterator[Scene]:
        """Yield the scenes of a split, drive after drive, each drive in order of time. They may have several sizes.

        Raises DataError that names the file that cannot be used.
        """
        ...


class LabelMaps:
    """The labels of scenes, each at its own size, one after the other in one array of pixels."""

    def __init__(self, pixels: np.ndarray, shapes: np.ndarray, ends: np.ndarray | None = None) -> None:
        """pixels: uint8 class index or VOID, may be memory-mapped; shapes: (N, 2) int64, (h, w) of each label.

        ends: (N,) int64, where each label ends in `pixels`; None if they fill it one after the other.
        """
        self.shapes = shapes
        self._pixels, self._ends = pixels, np.cumsum(shapes.prod(1)) if ends is None else ends

    @classmethod
    def of(cls, labels: Iterable[np.ndarray]) -> "LabelMaps":
        """Put labels (h, w) uint8 together, in memory."""
        labels = list(labels)
        shapes = np.array([label.shape for label in labels], np.int64).reshape(-1, 2)
        return cls(np.concatenate([np.zeros(0, np.uint8), *(label.ravel() for label in labels)]), shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one label, (h, w) uint8, without a copy."""
        height, width = self.shapes[index]
        end = self._ends[index]
        return self._pixels[end - height * width:end].reshape(height, width)

    def take(self, indices: np.ndarray) -> "LabelMaps":
        """Return the labels at these indices, in this order, without a copy."""
        return LabelMaps(self._pixels, self.shapes[indices], self._ends[indices])

    def group_by_shape(self, indices: np.ndarray) -> list[np.ndarray]:
        """Divide indices (B,) into groups of labels that have one shape. Returns the positions of each group."""
        shapes, group = np.unique(self.shapes[indices], axis=0, return_inverse=True)
        return [np.flatnonzero(group.ravel() == number) for number in range(len(shapes))]

    def stack(self, indices: Iterable[int]) -> np.ndarray:
        """Return the labels of one shape at these indices: (B, h, w) uint8."""
        return np.stack([self[index] for index in indices])

    def resize(self, indices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return labels brought to one size (width, height): (B, height, width) uint8.

        Each new pixel takes the label under its centre. No other pixel is read, so a memory-mapped array stays on disk.
        """
        resized = np.empty((len(indices), size[1], size[0]), np.uint8)
        for place, index in zip(resized, indices, strict=True):
            label = self[index]
            place[:] = label[nearest(label.shape[0], size[1])[:, None], nearest(label.shape[1], size[0])]
        return resized


class Pictures(Protocol):
    """Pictures (N, 3, H, W) uint8 RGB: an array, or what is read like one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class ChosenPictures:
    """Some of the pictures of an array, read where they are: a memory-mapped array stays on disk."""

    def __init__(self, pictures: Pictures, indices: np.ndarray) -> None:
        """pictures: (N, 3, H, W); indices: (n,) int64, of those that are chosen, in their new order."""
        self._pictures, self._indices = pictures, indices
        self.shape = (len(indices), *pictures.shape[1:])

    def __getitem__(self, index: Any) -> Any:
        return self._pictures[self._indices[index]]


@dataclass(frozen=True)
class SceneSet:
    """Scenes, memory-mapped and read-only, with pictures at the size of the network's input."""

    images: Pictures  # (N, 3, H, W) uint8 RGB
    labels: LabelMaps  # N labels, at the data set's own resolution
    histograms: np.ndarray  # (N, C) int64 labelled pixels of each scene by class
    names: tuple[str, ...]
    drives: tuple[str, ...]
    times: tuple[float | None, ...]  # seconds on the clock of the scene's drive, None if it is unknown
    classes: ClassTable
    fingerprint: str  # sha256 over pictures, labels, names and drives
    remarks: Mapping[str, list[str]] = field(default_factory=dict)  # what readers noticed -> names of the scenes

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def drive_names(self) -> tuple[str, ...]:
        """The names of the drives, in the order of the scenes."""
        return tuple(dict.fromkeys(self.drives))

    @cached_property
    def drive_numbers(self) -> np.ndarray:
        """The place in `drive_names` of each scene's drive, (N,) int64."""
        places = {drive: place for place, drive in enumerate(self.drive_names)}
        return np.array([places[drive] for drive in self.drives], np.int64)

    def take(self, indices: np.ndarray) -> "SceneSet":
        """Return some of the scenes as a set of their own. Pictures and labels are not copied.

        indices: (n,) int64, distinct, in the order of the new set.
        """
        names, drives, times = (tuple(values[index] for index in indices)
                                for values in (self.names, self.drives, self.times))
        chosen = {*names}
        remarks = {remark: kept for remark, those in self.remarks.items()
                   if (kept := [name for name in those if name in chosen])}
        fingerprint = hashlib.sha256(json.dumps([self.fingerprint, names]).encode()).hexdigest()
        return SceneSet(ChosenPictures(self.images, indices), self.labels.take(indices), self.histograms[indices],
                        names, drives, times, self.classes, fingerprint, remarks)


def class_histogram(label: np.ndarray, classes: int) -> np.ndarray:
    """Count the labelled pixels of each class: (h, w) uint8 -> (classes,) int64."""
    return np.bincount(label.ravel(), minlength=256)[:classes]
