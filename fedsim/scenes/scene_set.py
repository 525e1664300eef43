"""What a data set is to fedsim: scenes on disk (`Source`), and the same memory-mapped (`SceneSet`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from fedsim.scenes.classes import ClassTable


class Scene(NamedTuple):
    """One picture and its label, at the data set's own resolution."""

    name: str  # unique in its data set
    drive: str  # the recording it belongs to
    image: np.ndarray  # (h, w, 3) uint8 RGB
    label: np.ndarray  # (h, w) uint8 class index or VOID


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
    names: tuple[str, ...]
    drives: tuple[str, ...]
    classes: ClassTable
    fingerprint: str  # sha256 over pictures, labels, names and drives

    def __len__(self) -> int:
        return len(self.names)
