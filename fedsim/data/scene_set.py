"""A data set on disk (`Source`) and its memory-mapped scenes (`SceneSet`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from fedsim.classes import ClassTable


class Scene(NamedTuple):
    """One picture and its label, at the data set's own resolution."""

    name: str  # unique in its data set
    drive: str  # the recording it belongs to
    image: np.ndarray  # (h, w, 3) uint8 RGB
    label: np.ndarray  # (h, w) uint8 class index or VOID
    time: float | None = None  # seconds on the clock of its drive, if the data set tells it


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

    def scene(self, split: str, index: int) -> Scene:
        """Return one scene: the one at `index` in the order of `scenes`. Reads no other scene.

        Raises DataError as `scenes` does.
        """
        ...

    def scenes(self, split: str) -> Iterator[Scene]:
        """Yield the scenes of a split, drive after drive, each drive in order of time. All have one size.

        Raises DataError that names the file that cannot be used.
        """
        ...


@dataclass(frozen=True)
class SceneSet:
    """The scenes of a split, memory-mapped and read-only, with pictures at the size of the network's input."""

    images: np.ndarray  # (N, 3, H, W) uint8 RGB
    labels: np.ndarray  # (N, h, w) uint8 class index or VOID, at the data set's own resolution
    histograms: np.ndarray  # (N, C) int64 labelled pixels of each scene by class
    names: tuple[str, ...]
    drives: tuple[str, ...]
    times: tuple[float | None, ...]  # seconds on the clock of the scene's drive, None if it is unknown
    classes: ClassTable
    fingerprint: str  # sha256 over pictures, labels, names and drives

    def __len__(self) -> int:
        return len(self.names)


def class_histogram(label: np.ndarray, classes: int) -> np.ndarray:
    """Count the labelled pixels of each class: (h, w) uint8 -> (classes,) int64."""
    return np.bincount(label.ravel(), minlength=256)[:classes]
