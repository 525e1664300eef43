"""What a data set is to fedsim: scenes on disk (`Source`), and the same memory-mapped (`SceneSet`)."""

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
    time: float | None = None  # seconds on the clock of its drive, where the data set tells


class Source(Protocol):
    """A data set. Adding one means writing one small module with such a class."""

    name: str
    classes: ClassTable
    image_size: tuple[int, int]  # (width, height) in pixels that a network is trained at unless told

    def splits(self) -> tuple[str, ...]:
        """The splits there are, of "train", "val" and "test"."""
        ...

    def identity(self, split: str) -> dict[str, object]:
        """Everything the scenes of a split depend on, JSON-able: the cache is keyed by it.

        Cheap: it is asked at every start. Raises DataError where the data set is missing or of another
        layout.
        """
        ...

    def count(self, split: str) -> int:
        """How many scenes there are. Cheap. Raises DataError as `identity` does."""
        ...

    def scene(self, split: str, index: int) -> Scene:
        """Return one scene: the one at `index` in the order of `scenes`. Reads no other scene.

        Raises DataError as `scenes` does.
        """
        ...

    def scenes(self, split: str) -> Iterator[Scene]:
        """The scenes of a split, drive after drive, each drive in order of time. All of one size.

        Raises DataError naming the file that cannot be used.
        """
        ...


@dataclass(frozen=True)
class SceneSet:
    """The scenes of a split, memory-mapped and read-only, pictures at the size a network sees them."""

    images: np.ndarray  # (N, 3, H, W) uint8 RGB
    labels: np.ndarray  # (N, h, w) uint8 class index or VOID, at native resolution
    histograms: np.ndarray  # (N, C) int64 labelled pixels of every scene by class
    names: tuple[str, ...]
    drives: tuple[str, ...]
    times: tuple[float | None, ...]  # seconds on the clock of the scene's drive, where known
    classes: ClassTable
    fingerprint: str  # sha256 over pictures, labels, names and drives

    def __len__(self) -> int:
        return len(self.names)


def class_histogram(label: np.ndarray, classes: int) -> np.ndarray:
    """Labelled pixels by class: (h, w) uint8 -> (classes,) int64."""
    return np.bincount(label.ravel(), minlength=256)[:classes]
