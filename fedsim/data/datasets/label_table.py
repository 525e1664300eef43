"""Tables in CSV that say what the numbers and colours of labels mean.

    # a comment
    label,name,red,green,blue,trained_as
    0,Road,128,64,128,Road
    1,Lane marking,128,0,192,Road
    2,Ego car,0,0,0,

A label that has an empty trained_as is void: neither learnt nor scored. Without the column trained_as, each label is a
class of its own, but for one named void. Classes are numbered in the order in which they first appear in the table.
Names that differ only in capitals or spaces are one name. Without the three columns of colours, colours are made up.
"""

import colorsys
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from os.path import isfile
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from fedsim.classes import VOID, ClassTable
from fedsim.data.datasets.picture_files import read_lines
from fedsim.errors import DataError

TABLES = Path(__file__).parent / "tables"  # the tables that come with fedsim
NUMBERED = ("label", "name", "red", "green", "blue")
TRAINED_AS = "trained_as"
MOST_CLASSES = VOID  # class indices are below VOID
MOST_LABEL = 2**16 - 1  # the largest number in a PNG of 16 bits
DELIMITERS = ",;\t"  # some spreadsheets write another than the comma


class Label(NamedTuple):
    """A line of a table."""

    line: int  # its number in the file, from 1
    number: int
    name: str
    colour: tuple[int, int, int]  # RGB, 0..255
    trained_as: str | None  # the name of a class; None for void


def read_labels(path: Path, columns: tuple[str, ...] = NUMBERED) -> tuple[Label, ...]:
    """Read the labels of a table, line by line. Raises DataError that names the line.

    columns: the file's own names for the columns label, name, red, green and blue. Give four names if the file has no
    column label; its labels are then numbered from 0.
    """
    lines = ((line, cells) for line, cells in _cells(path) if any(cells))
    header = _header(path, next(lines, (0, []))[1], columns)
    labels: list[Label] = []
    for line, cells in lines:
        if len(cells) != len(header):
            raise DataError(f"{path} line {line} has {len(cells)} values, but there are {len(header)} columns")
        labels.append(_label(path, line, len(labels), dict(zip(header, cells, strict=True)), columns))
    refuse_doubles(path, labels, "the number", lambda label: label.number)
    refuse_doubles(path, labels, "the name", lambda label: same_name(label.name))
    spelling: dict[str, str] = {}  # of the names of classes: the first one counts
    labels = [label if label.trained_as is None else label._replace(
        trained_as=spelling.setdefault(same_name(label.trained_as), label.trained_as)) for label in labels]
    if columns[-1] not in header:
        labels = [label._replace(colour=_make_colour(index)) for index, label in enumerate(labels)]
    return tuple(labels)


def same_name(name: str) -> str:
    """Return what names have in common that differ only in capitals, in spaces, or in how letters are encoded."""
    return " ".join(normalize("NFC", name).casefold().replace("_", " ").split())


def refuse_other_table(path: Path, classes: Mapping[int, str | None]) -> None:
    """Raise DataError if there is a table at `path` that gives numbers other names than a data set's own.

    classes: the name of each number; None for void.
    """
    for label in read_labels(path) if isfile(path) else ():
        own = classes.get(label.number)
        if label.number in classes and same_name(label.trained_as or "") != same_name(own or ""):
            raise DataError(f"{path} line {label.line} says that {label.number} is {label.name}, but in this data set "
                            f"it is {own or 'void'}; take the table away, or lay your own data out for --data folder")


def class_table(path: Path, labels: Iterable[Label]) -> ClassTable:
    """Return the classes that the labels of a table are trained as. A class has the colour of the label of its name.

    Raises DataError if there are no classes, too many, or two of one colour.
    """
    first: dict[str, Label] = {}
    for label in labels:
        if label.trained_as is not None and (label.trained_as not in first or label.name == label.trained_as):
            first[label.trained_as] = label
    if not 0 < len(first) <= MOST_CLASSES:
        raise DataError(f"{path} has {len(first) or 'no'} classes that are not void; there must be 1 to {MOST_CLASSES}")
    refuse_doubles(path, first.values(), "the colour", lambda label: label.colour)
    return ClassTable(tuple(first), tuple(label.colour for label in first.values()))


def class_index(label: Label, classes: ClassTable) -> int:
    """Return the index of the class that a label is trained as, or VOID."""
    return VOID if label.trained_as is None else classes.names.index(label.trained_as)


def refuse_doubles(path: Path, labels: Iterable[Label], what: str, of: Callable[[Label], object]) -> None:
    """Raise DataError if two labels share a value. what: its name, e.g. "the colour"; of: takes it from a label."""
    seen: dict[object, Label] = {}
    for label in labels:
        other = seen.setdefault(of(label), label)
        if other is not label:
            raise DataError(f"{path} line {label.line}: {label.name} has {what} of {other.name} in line {other.line}; "
                            "give each its own")


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, values) of each line that is no comment."""
    delimiter = None
    for line, text in enumerate(read_lines(path), 1):
        if text.strip() and not text.lstrip().startswith("#"):
            delimiter = delimiter or max(DELIMITERS, key=text.count)  # that of the first line
            yield line, [cell.strip() for row in csv.reader([text], delimiter=delimiter) for cell in row]


def _header(path: Path, cells: list[str], columns: tuple[str, ...]) -> list[str]:
    """Return the names of a table's columns, as fedsim spells them. Raises DataError."""
    header = [re.sub(r"[\s-]+", "_", cell.lower()) for cell in cells]
    missing = [column for column in columns if column not in header]
    if len(columns) == len(NUMBERED) and missing == list(columns[-3:]):
        missing = []  # the numbers tell classes, and colours are only for figures
    if missing:
        raise DataError(f"{path} has no column {' and no column '.join(missing)}; its first line must be "
                        f"{','.join(columns)}")
    if doubles := [name for name in header if name and header.count(name) > 1]:
        raise DataError(f"{path} has two columns {doubles[0]}; give each a name of its own")
    for name in header:
        if TRAINED_AS not in header and name not in columns and get_close_matches(name, [TRAINED_AS], cutoff=0.75):
            raise DataError(f"{path} has a column {name}, which is not read; did you mean {TRAINED_AS}?")
    return header


def _label(path: Path, line: int, number: int, row: dict[str, str], columns: tuple[str, ...]) -> Label:
    *numbered, name, red, green, blue = columns
    if numbered:
        number = _number(path, line, row, numbered[0], MOST_LABEL)
    if not row[name]:
        raise DataError(f"{path} line {line} has no name; give the label one")
    r, g, b = (_number(path, line, row, column, 255) if column in row else 0 for column in (red, green, blue))
    trained_as = row.get(TRAINED_AS, row[name])
    is_void = not trained_as or same_name(trained_as) == "void"
    return Label(line, number, row[name], (r, g, b), None if is_void else trained_as)


def _make_colour(index: int) -> tuple[int, int, int]:
    """Make up a colour that differs from those of other indices."""
    turn = index * 0.618033988749895  # the golden ratio spreads hues evenly, however many there are
    red, green, blue = colorsys.hsv_to_rgb(turn % 1, 0.55 + 0.4 * (turn * 7 % 1), 0.55 + 0.4 * (turn * 3 % 1))
    return round(255 * red), round(255 * green), round(255 * blue)


def _number(path: Path, line: int, row: dict[str, str], column: str, most: int) -> int:
    text = row[column]
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= most):
        raise DataError(f"{path} line {line} has {text!r} as {column}; it must be a whole number from 0 to {most}")
    return int(text)
