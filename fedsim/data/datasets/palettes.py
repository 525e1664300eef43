"""The palettes of a set of labels: whether numbers or colours tell the classes.

Some tools number the classes of each file anew, and some optimisers sort palettes. To a viewer such labels look right,
but their numbers are not those of the table. One file cannot show this, so all labels of a data set are looked at
together.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedsim.data.datasets.label_pixels import Colour, LabelImage, has_palette
from fedsim.errors import DataError
from fedsim.system.threads import ahead

KIND = "palettes that contradict each other or the table"
BY_COLOUR = "the label is read by the colours of its palette, because its numbers are not those of the table"
DOUBTED = "the label is read by its numbers, although its palette gives some of them the colours of other classes"


class Rule(NamedTuple):
    """The way in which labels with a palette are read."""

    classes: Mapping[Colour, int] | None = None  # class index or VOID of each colour; None to read by numbers
    remark: str = ""  # noted for each label that is read in this way


def find_rule(paths: Iterable[Path], codes: Mapping[int, int], colours: Mapping[int, Colour]) -> Rule:
    """Return how the labels of a set are read if they have palettes. Raises DataError if no way is safe.

    codes: class index or VOID of each number; colours: the colour of each number in the table. Labels whose palette
    says nothing, and files that cannot be read, are passed over.
    """
    uses: dict[tuple[int, Colour], Path] = {}
    for path, used in ahead(_find_uses, paths):
        for use in used:
            uses.setdefault(use, path)
    by_table: dict[Colour, set[int]] = {}
    for number, colour in colours.items():
        by_table.setdefault(colour, set()).add(codes[number])
    moved = {use for use in uses if use[1] in by_table and codes.get(use[0]) not in by_table[use[1]]}
    if moved and all(colour in by_table for _, colour in uses):
        _refuse_double_meaning(uses, by_table)
        return Rule({colour: min(classes) for colour, classes in by_table.items()}, BY_COLOUR)
    by_level = {colour: codes[colour[0]] for _, colour in uses if len(set(colour)) == 1 and colour[0] in codes}
    if any(codes.get(number) != by_level[colour] for number, colour in uses if colour in by_level) and all(
            colour in by_level for _, colour in uses):
        _refuse_two_readings(uses, codes)
        return Rule(by_level, BY_COLOUR)
    _refuse_two_colours(uses)
    return Rule(None, DOUBTED if moved else "")


def says_nothing(numbers: list[int], palette: np.ndarray) -> bool:
    """Return whether the colours of these numbers tell no class.

    They do not if each number is shown as the grey level of the same number, or two numbers as one colour.
    """
    colours = palette[[number for number in numbers if number < len(palette)]]
    ramp = len(colours) == len(numbers) and bool((colours == np.array(numbers)[:, None]).all())
    return ramp or len(np.unique(colours, axis=0)) < len(colours)


def _voc_colours() -> np.ndarray:
    """Return the colours of PASCAL VOC's map, (256, 3) uint8: the bits of a number, dealt to three channels."""
    numbers = np.arange(256)[:, None]
    bits = (numbers >> np.arange(8)) & 1  # (256, 8), the lowest first
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        colours[:, bit % 3] |= bits[:, bit] << (7 - bit // 3)
    return colours.astype(np.uint8)


VOC = _voc_colours()


def _find_uses(path: Path) -> tuple[Path, list[tuple[int, Colour]]]:
    """Return the numbers that a label uses, each with its colour in the palette."""
    try:
        if not has_palette(path):
            return path, []
        label = LabelImage(path)
        palette = label.palette()
    except (DataError, OSError):  # it is reported when the label is read
        return path, []
    assert palette is not None, f"{path} has a palette and no colours"
    numbers = np.flatnonzero(np.bincount(np.asarray(label.image).ravel())).tolist()
    if says_nothing(numbers, palette):
        return path, []
    numbers = [number for number in numbers if number < len(palette)]
    if (palette[numbers] == VOC[numbers]).all():  # its black for 0 is a background, whatever the table has in black
        numbers = [number for number in numbers if number]
    return path, [(number, tuple(palette[number].tolist())) for number in numbers]


def _refuse_double_meaning(uses: Mapping[tuple[int, Colour], Path], by_table: Mapping[Colour, set[int]]) -> None:
    for (number, colour), path in uses.items():
        if len(by_table[colour]) > 1:
            raise DataError(f"{path} has a palette with other numbers than the table, and the colour "
                            f"{_in_words(colour)} of its number {number} stands for several classes; give each class a "
                            "colour of its own in the table, or save the label as grey numbers", KIND)


def _refuse_two_readings(uses: Mapping[tuple[int, Colour], Path], codes: Mapping[int, int]) -> None:
    if all(number in codes for number, _ in uses):
        (number, colour), path = next(use for use in uses.items() if codes[use[0][0]] != codes[use[0][1][0]])
        raise DataError(f"{path} has a palette in which the number {number} is the grey level {colour[0]}, and both "
                        "are numbers of the table; save the label as grey numbers, without a palette", KIND)


def _refuse_two_colours(uses: Mapping[tuple[int, Colour], Path]) -> None:
    seen: dict[int, tuple[Colour, Path]] = {}
    for (number, colour), path in uses.items():
        other, where = seen.setdefault(number, (colour, path))
        if other != colour:
            raise DataError(f"{path} shows the number {number} as {_in_words(colour)}, but {where} shows it as "
                            f"{_in_words(other)}, so the number may mean two classes; give all labels one palette, or "
                            "save them as grey numbers", KIND)


def _in_words(colour: Colour) -> str:
    return " ".join(map(str, colour))
