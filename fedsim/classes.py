"""Class names and colours, and VOID, the label of pixels that do not count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line imports this module, and its help needs no numpy
    import numpy as np

VOID = 255  # in every label of fedsim, even if the data set on disk has another number for it


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set, in label order."""

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]  # RGB, 0..255
    void_colour: tuple[int, int, int] = (0, 0, 0)

    def __len__(self) -> int:
        return len(self.names)

    def paint(self, labels: np.ndarray) -> np.ndarray:
        """Colour labels: (..., h, w) class indices or VOID -> (..., h, w, 3) uint8 RGB."""
        import numpy as np

        palette = np.zeros((256, 3), np.uint8)
        palette[:] = self.void_colour
        palette[: len(self)] = self.colours
        return palette[labels]


# The 11 classes and colours of the SegNet papers (Badrinarayanan et al. 2017, arXiv:1511.00561).
CAMVID_11 = ClassTable(
    names=("Sky", "Building", "Pole", "Road", "Pavement", "Tree",
           "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"),
    colours=((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
             (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)),
)
