"""Numbers, ratios, settings and names as words of a table or a sentence."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from fedsim.options import number_text
from fedsim.record.overview import list_of_texts

UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))  # name, seconds
NAMED = 5  # names in a sentence
ABSENT = "–"  # the cell of a table for which there is no value


def name_some(names: Sequence[str]) -> str:
    """Return names with commas between them: five at most, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def describe_start(facts: dict[str, Any]) -> str:
    """Say in a sentence what a network has taken from a file of weights. facts: those of environment.json."""
    new, left = (f"; {title}: {name_some(names)}" if (names := list_of_texts(facts, key)) else ""
                 for title, key in (("new", "new"), ("left over", "left_over")))
    return f"{facts.get('taken')} tensors taken from {facts.get('source')}{new}{left}"


def format_number(value: Any, form: str = ".3f") -> str:
    """Return a number in the form of a format specification; – for None and all that is no number of a float."""
    try:
        return format(value, form) if isinstance(value, Real) else ABSENT
    except OverflowError:
        return ABSENT


def format_ratio(part: float, whole: float, form: str = ".3f") -> str:
    """Return part / whole; – if the whole is 0."""
    return format(part / whole, form) if whole else ABSENT


def format_percent(share: float) -> str:
    """Return a share as a percentage with one digit, so that a small share never looks like an absent one."""
    return ABSENT if share == 0 else f"{100 * share:.1f}" if share >= 0.0005 else "<0.1"


def format_setting(value: Any, absent: str = ABSENT) -> str:
    """Return the value of a setting, a list or a table with commas; `absent` for None and for an empty one."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={format_setting(one)}" for name, one in value.items()) or absent
    if isinstance(value, list):
        return ",".join(map(format_setting, value)) or absent
    return absent if value is None else number_text(value) if isinstance(value, float) else str(value)


def format_age(seconds: float) -> str:
    """Return a time in its largest unit, such as "3 h"."""
    for name, length in UNITS:
        if seconds >= length:
            return f"{seconds // length:.0f} {name}"
    return "now"


def format_bytes(count: int) -> str:
    """Return a number of bytes in megabytes, 10^6 bytes, such as "186.9 MB"."""
    return f"{count / 1e6:,.1f} MB"


def list_names(names: Sequence[str], most: int) -> str:
    """Return the first names with commas between them, and how many more there are; – if there are no names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else ABSENT
