"""The file metrics.jsonl: each line is a JSON object, the record of a round."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedsim.errors import OutputError

# What a report needs of a record: a type, a dict or a list of forms, or a tuple of forms of which one must fit. In a
# dict, a key that ends with ? may be missing, and * stands for all other keys.
_NUMBER = (int, float)
_MAYBE = (int, float, type(None))
_CAR = {"car": int, "name": str, "images": int, "steps": int, "loss": _NUMBER, "drift": _NUMBER, "dual_norm?": _MAYBE,
        "train_miou?": _MAYBE, "miou?": _MAYBE}
_SCORES = {"loss": _NUMBER, "miou": _NUMBER, "pixel_accuracy": _NUMBER, "class_iou": {"*": _MAYBE},
           "drive_miou?": {"*": _MAYBE}}
_RECORD = {"round": int, "algo": str, "global": (_SCORES, type(None)), "cars": [_CAR], "pictures": int,
           "sequential_steps": int, "bytes_up": int, "bytes_down": int, "seconds": {"total": _NUMBER},
           "worst?": ({"name": str, "miou": _NUMBER}, type(None)), "warning?": str, "ended?": str}
_LARGEST = 2**63  # a whole number of a record is smaller


def read_metrics(path: Path) -> list[dict]:
    """Read the records of a metrics.jsonl in the order in which they were written.

    A last line without its line feed is left out, because the run was killed while it wrote it.
    Raises OutputError naming the line that is not a record, or the file that cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise OutputError(f"cannot read {path} ({error.strerror}); is it a run's metrics.jsonl?") from error
    except UnicodeDecodeError as error:
        raise OutputError(f"{path} is damaged: it is not text ({error.reason})") from error
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise OutputError(f"{path}, line {number}, is not a JSON object") from error
        if not isinstance(record, dict) or type(record.get("round")) is not int:
            raise OutputError(f"{path}, line {number}, is not the record of a round")
        records.append(record)
    return records


def check_records(records: list[dict], path: Path) -> None:
    """Raise OutputError if one of the records, which were read from `path`, lacks what a report needs."""
    for line, record in enumerate(records, start=1):
        if not _is_like(record, _RECORD) or not all(math.isfinite(value) for _, value in floats_in(record)):
            raise OutputError(f"{path} is damaged: line {line}, the record of round {record['round']}, has missing or "
                              "wrong fields; restore it, or start a new run")


def as_line(record: dict) -> str:
    """Return a record as a line of metrics.jsonl."""
    return json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n"


def floats_in(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield every float of a record with its key, e.g. ("cars[2].loss", 0.7)."""
    if isinstance(value, float):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from floats_in(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from floats_in(inner, f"{key}[{index}]")


def _is_like(value: Any, form: Any) -> bool:
    """Return whether a value has the form that `form` describes, as `_RECORD` does."""
    if isinstance(form, tuple):
        return any(_is_like(value, one) for one in form)
    if isinstance(form, dict):
        return isinstance(value, dict) and all(_fits(value, name, inner) for name, inner in form.items())
    if isinstance(form, list):
        return isinstance(value, list) and all(_is_like(inner, form[0]) for inner in value)
    return type(value) is form and (form is not int or abs(value) < _LARGEST)


def _fits(value: dict, name: str, form: Any) -> bool:
    """Return whether a dict has under a name of `_RECORD` what belongs there."""
    if name == "*":
        return all(_is_like(inner, form) for inner in value.values())
    key = name.removesuffix("?")
    return _is_like(value[key], form) if key in value else key != name
