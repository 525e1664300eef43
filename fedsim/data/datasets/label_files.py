"""Label files: pictures whose pixels hold class numbers or class colours.

A pixel on disk holds a code: a class number, or a colour as one number. A code that stands for no class is refused.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from fedsim.classes import VOID
from fedsim.data.datasets.picture_files import open_picture, rgb
from fedsim.errors import DataError

Code = TypeVar("Code", int, np.ndarray)


class LabelFiles(ABC):
    """The way in which the labels of a data set are read. codes: code on disk -> class index or VOID."""

    number_of_codes: int

    def __init__(self, codes: Mapping[int, int], remedy: str) -> None:
        self.codes, self.remedy = dict(codes), remedy

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """Read a label: (h, w) uint8, class index or VOID. Raises DataError.

        size: (width, height) of its picture, which the label must have too.
        """
        image = open_picture(path)
        if image.format == "JPEG":
            raise DataError(f"{path} is a JPEG, which blurs labels into classes that nobody drew; {self.remedy}")
        if image.size != size:
            raise DataError(f"{path} is {image.width}x{image.height} pixels, but its picture is "
                            f"{size[0]}x{size[1]}; a label must have its picture's size")
        codes = self._codes_of(image, path)
        class_plus_one = self._class_plus_one.take(codes)
        if not class_plus_one.min():
            raise DataError(f"{path} holds {self._describe_unknown(codes, class_plus_one == 0)}")
        label = (class_plus_one - 1).astype(np.uint8)
        if label.min() == VOID:
            raise DataError(f"{path} is void in every pixel, so nothing can be learnt or scored; "
                            "take its scene out of the data set")
        return label

    @cached_property
    def _class_plus_one(self) -> np.ndarray:
        """The class of each code plus one, (number_of_codes,) uint16. A code that stands for no class has 0."""
        table = np.zeros(self.number_of_codes, np.uint16)
        table[list(self.codes)] = np.array(list(self.codes.values())) + 1
        return table

    @abstractmethod
    def _codes_of(self, image: Image.Image, path: Path) -> np.ndarray:
        """Return the codes on disk: (h, w) integers below number_of_codes."""

    @abstractmethod
    def _describe_unknown(self, codes: np.ndarray, where: np.ndarray) -> str:
        """Describe the codes that stand for no class, at the pixels `where`, and those that are allowed."""


class IndexLabels(LabelFiles):
    """Labels whose pixels are class numbers of 1 to 16 bits. The colours of a palette do not matter."""

    number_of_codes = 2**16

    def _codes_of(self, image: Image.Image, path: Path) -> np.ndarray:
        if image.mode not in ("1", "L", "P", "I;16"):
            raise DataError(f"{path} is in colour or transparent (mode {image.mode}), but {self._rule()}; "
                            f"{self.remedy}")
        return np.asarray(image)

    def _describe_unknown(self, codes: np.ndarray, where: np.ndarray) -> str:
        values = np.unique(codes[where])
        some = ", ".join(map(str, values[:8]))
        return (f"the value{'s' if len(values) > 1 else ''} {some}{' …' if len(values) > 8 else ''}, but "
                f"{self._rule()}")

    def _rule(self) -> str:
        void = [code for code, target in self.codes.items() if target == VOID]
        allowed = _runs(self.codes.keys() - set(void))
        return f"a label must hold class numbers, {allowed}" + (f", and {_runs(void)} for void" if void else "")


class ColourLabels(LabelFiles):
    """Labels whose pixels are class colours. `colour_code` makes one number of a colour."""

    number_of_codes = 2**24

    def _codes_of(self, image: Image.Image, path: Path) -> np.ndarray:
        red, green, blue = np.moveaxis(np.asarray(rgb(image)).astype(np.uint32), -1, 0)
        return colour_code(red, green, blue)

    def _describe_unknown(self, codes: np.ndarray, where: np.ndarray) -> str:
        code = int(codes[where][0])
        red, green, blue = code >> 16, code >> 8 & 255, code & 255
        return (f"the colour {red} {green} {blue} in {int((codes == code).sum())} pixels, which is none of the "
                f"{len(self.codes)} that stand for a class; {self.remedy}")


def colour_code(red: Code, green: Code, blue: Code) -> Code:
    """Return a colour as one number of 24 bits."""
    return red << 16 | green << 8 | blue


def _runs(numbers: Iterable[int]) -> str:
    """Write numbers as runs: "0 to 10, 12" for 0, 1, … 10, 12."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
