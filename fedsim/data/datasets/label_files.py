"""Label files: pictures whose pixels hold class numbers or class colours.

A pixel on disk holds a code: a class number, or a colour as one number. A code that stands for no class is refused; of
colours, a few are taken as void, because copies of CamVid have some blurred pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from fedsim.classes import VOID
from fedsim.data.datasets.label_pixels import Colour, LabelImage
from fedsim.data.datasets.palettes import Rule, find_rule, says_nothing
from fedsim.errors import DataError

Code = TypeVar("Code", int, np.ndarray)
FEW = 1 / 200  # the largest share of a label's pixels that may have a colour of no class
PALETTE_OF_ITS_OWN = ("a palette with colours of the table at other numbers, and others; save the label with the "
                      "numbers of the table, or with its colours alone")
BLURRED = "the label has a few pixels of no class's colour, which are read as void"


class Label(NamedTuple):
    """A label that has been read."""

    pixels: np.ndarray  # (h, w) uint8, class index or VOID
    remarks: tuple[str, ...]  # what its reader noticed


class LabelFiles(ABC):
    """The way in which the labels of a data set are read. codes: code on disk -> class index or VOID."""

    number_of_codes: int

    def __init__(self, codes: Mapping[int, int], remedy: str) -> None:
        self.codes, self.remedy = dict(codes), remedy

    def identity(self) -> list[object]:
        """Return all that decides how labels are read, as values that JSON can hold."""
        return [type(self).__name__, sorted(self.codes.items())]

    def settle(self, paths: Iterable[Path]) -> "LabelFiles":
        """Return the reader for the labels of a data set, which are looked at together first. Raises DataError."""
        return self

    def read(self, path: Path, size: tuple[int, int]) -> Label:
        """Read a label. Raises DataError.

        size: (width, height) of its picture, which the label must have too.
        """
        image = LabelImage(path)
        if image.size != size:
            raise DataError(f"{path} is {image.size[0]}x{image.size[1]} pixels, but its picture is "
                            f"{size[0]}x{size[1]}; a label must have its picture's size",
                            "labels of another size than their pictures")
        class_plus_one, remarks = self._class_plus_one_of(image)
        pixels = (class_plus_one - 1).astype(np.uint8)
        if pixels.min() == VOID:
            raise DataError(f"{path} is void in every pixel, so nothing can be learnt or scored; "
                            "take its scene out of the data set", "labels that are void in every pixel")
        return Label(pixels, remarks)

    @cached_property
    def _table(self) -> np.ndarray:
        """The class of each code plus one, (number_of_codes,) uint16. A code that stands for no class has 0."""
        table = np.zeros(self.number_of_codes, np.uint16)
        table[list(self.codes)] = np.array(list(self.codes.values())) + 1
        return table

    @abstractmethod
    def _class_plus_one_of(self, label: LabelImage) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the class of each pixel plus one, (h, w) uint16, at least 1, and remarks. Raises DataError."""


class IndexLabels(LabelFiles):
    """Labels whose pixels are class numbers of 1 to 16 bits.

    colours: the colour of each number, if a table gives one. Palettes that contradict it are read by their colours, see
    palettes.py. table: the file in which a user can add a number.
    """

    number_of_codes = 2**16

    def __init__(self, codes: Mapping[int, int], remedy: str, colours: Mapping[int, Colour] | None = None,
                 table: Path | None = None) -> None:
        super().__init__(codes, remedy)
        self.colours, self.table, self._rule = dict(colours or {}), table, Rule()

    def identity(self) -> list[object]:
        return [*super().identity(), sorted(self.colours.items())]

    def settle(self, paths: Iterable[Path]) -> "IndexLabels":
        settled = copy(self)
        settled._rule = find_rule(paths, self.codes, self.colours)
        return settled

    def _class_plus_one_of(self, label: LabelImage) -> tuple[np.ndarray, tuple[str, ...]]:
        numbers = label.numbers(f"{self._allowed()}; {self.remedy}")
        used = np.flatnonzero(np.bincount(numbers.ravel())).tolist()
        table, palette = self._table, label.palette()
        remarks: tuple[str, ...] = ()
        if palette is not None and not says_nothing(used, palette):
            remarks = (self._rule.remark,) if self._rule.remark else ()
            if self._rule.classes is not None:
                classes = (self._rule.classes.get(tuple(colour), -1) for colour in palette.tolist())
                table = np.zeros(self.number_of_codes, np.uint16)
                table[:len(palette)] = np.fromiter(classes, np.int64) + 1
        elif palette is None and label.depth < 8:
            numbers, used = self._scale_if_meant(label, numbers, used)
        if unknown := [number for number in used if not table[number]]:
            what = PALETTE_OF_ITS_OWN if remarks else self._describe(unknown)
            raise DataError(f"{label.path} holds {what}", "labels with numbers of no class")
        return table.take(numbers), remarks

    def _scale_if_meant(self, label: LabelImage, numbers: np.ndarray, used: list[int]) -> tuple[np.ndarray, list[int]]:
        """Return the numbers of grey of few bits, and those that are used.

        A sample is a number. But optimisers save 8 bits with fewer if the numbers, scaled to 8 bits, stay the same; so
        samples that are not in the table are scaled if they then are. Raises DataError if both are in the table.
        """
        top = 2**label.depth - 1
        scaled = [number * 255 // top for number in used]
        if not all(number in self.codes for number in scaled):
            return numbers, used
        if not all(number in self.codes for number in used):
            return numbers.astype(np.uint16) * 255 // top, scaled
        differs = [self.codes[number] != self.codes[other] for number, other in zip(used, scaled, strict=True)]
        # With more than one bit, an optimiser would have saved the two ends as 1 bit.
        if any(differs) and (label.depth == 1 or not set(used) <= {0, top}):
            number = max(used)
            raise DataError(f"{label.path} is grey of {label.depth} bit{'s' * (label.depth > 1)}, so {number} may also "
                            f"mean {number * 255 // top}, and both are numbers of the table; save it with 8 bits",
                            "labels with numbers of two meanings")
        return numbers, used

    def _describe(self, unknown: list[int]) -> str:
        """Describe numbers that stand for no class, and what to do."""
        some = ", ".join(map(str, unknown[:8])) + (" …" if len(unknown) > 8 else "")
        text = f"the value{'s' * (len(unknown) > 1)} {some}, but {self._allowed()}"
        if self.table is None:
            return f"{text}; {self.remedy}"
        lines = "add a line for each number that is right" if unknown != [VOID] else f"add a line {VOID},void,0,0,0"
        return f"{text}; {lines} to {self.table}{f' if {VOID} is void' * (unknown == [VOID])}"

    def _allowed(self) -> str:
        void = [code for code, target in self.codes.items() if target == VOID]
        allowed = _runs(self.codes.keys() - set(void))
        return f"a label must hold class numbers, {allowed}" + (f", and {_runs(void)} for void" if void else "")


class ColourLabels(LabelFiles):
    """Labels whose pixels are class colours. `colour_code` makes one number of a colour."""

    number_of_codes = 2**24

    def _class_plus_one_of(self, label: LabelImage) -> tuple[np.ndarray, tuple[str, ...]]:
        red, green, blue = np.moveaxis(label.colours().astype(np.uint32), -1, 0)
        codes = colour_code(red, green, blue)
        found = self._table.take(codes)
        strange = found == 0
        if not strange.any():
            return found, ()
        if strange.mean() > FEW:
            code = int(codes[strange][0])
            raise DataError(
                f"{label.path} holds the colour {code >> 16} {code >> 8 & 255} {code & 255} in "
                f"{int((codes == code).sum())} pixels, which is none of the {len(self.codes)} that stand for a class; "
                f"{strange.mean():.1%} of its pixels have such colours; {self.remedy}",
                "labels with colours of no class")
        return np.where(strange, np.uint16(VOID + 1), found), (BLURRED,)


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
