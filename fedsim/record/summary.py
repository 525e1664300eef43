"""What a run came to: the closing table on the screen, and the same in report/summary.md."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fedsim.record.tables import Table, markdown, print_tables
from fedsim.scenes.classes import ClassTable

PRINTED_CARS = 32  # on the screen; summary.md has every car


def print_summary(records: list[dict], classes: ClassTable, baselines: dict[str, float],
                  paths: Sequence[Path], *, split: str, notes: Sequence[str]) -> None:
    """Print scores, cars, counts and the paths written, on stdout.

    records: lines of metrics.jsonl, round 0 first; baselines: name -> mIoU of a trivial answer; split: the
    one that scores are of; notes: sentences on what else has to be known to read them.
    """
    print_tables((_scores(records, classes, baselines, split), _cars(records), _counts(records)), PRINTED_CARS)
    for note in _notes(records, baselines, split, notes):
        print(note)
    print("\nWritten:")
    for path in paths:
        print(f"  {path}")


def write_summary(records: list[dict], classes: ClassTable, baselines: dict[str, float],
                  paths: Sequence[Path], *, split: str, notes: Sequence[str], path: Path) -> None:
    """Write the same as `print_summary`, with every car, as Markdown at `path`."""
    lines = [f"# {records[-1]['algo']}, {records[-1]['round']} rounds", ""]
    for table in (_scores(records, classes, baselines, split), _cars(records), _counts(records)):
        lines += [markdown(table), ""]
    lines += [f"- {note}" for note in _notes(records, baselines, split, notes)]
    lines += ["", "## Files", "", *(f"- `{written}`" for written in paths), ""]
    Path(path).write_text("\n".join(lines), encoding="utf-8")


def _scores(records: list[dict], classes: ClassTable, baselines: dict[str, float], split: str) -> Table:
    """The untrained and the latest evaluated model, and baselines beside their mIoU."""
    columns = _scored(records)
    rounds = ("untrained" if record["round"] == 0 else f"round {record['round']}" for record in columns)
    header = ["", *rounds, *baselines]
    scores = [record["global"] for record in columns]
    blank = [""] * len(baselines)
    rows = [
        ["loss", *(_number(score["loss"]) for score in scores), *blank],
        ["mIoU", *(_number(score["miou"]) for score in scores), *map(_number, baselines.values())],
    ]
    if _is_local(records):
        worst = [record.get("worst") for record in columns]
        rows.append(["mIoU of the worst car",
                     *(f"{_number(car['miou'])} ({car['name']})" if car else "–" for car in worst), *blank])
    rows.append(["pixel accuracy", *(_number(score["pixel_accuracy"]) for score in scores), *blank])
    rows += [[f"IoU {name}", *(_number(score["class_iou"].get(name)) for score in scores), *blank]
             for name in classes.names]
    which = "The cars' own models, mean" if _is_local(records) else "Global model"
    return Table(f"{which}, {split} split", header, rows)


def _cars(records: list[dict]) -> Table:
    """A row for each car that took part, with its latest values and the round they are of."""
    latest: dict[int, tuple[int, dict]] = {}
    steps: dict[int, int] = {}
    for record in records:
        for entry in record["cars"]:
            latest[entry["car"]] = record["round"], entry
            steps[entry["car"]] = steps.get(entry["car"], 0) + entry["steps"]
    columns: list[tuple[str, Callable[[int, dict], str]]] = [
        ("images", lambda _, entry: f"{entry['images']:,}"),
        ("steps", lambda _, entry: f"{steps[entry['car']]:,}"),
        ("last loss", lambda number, entry: _number(entry["loss"]) + (
            "" if number == records[-1]["round"] else f" (round {number})")),
        ("drift", lambda _, entry: _number(entry.get("drift"))),
    ]
    for key, title in (("dual_norm", "dual norm"), ("miou", "own mIoU")):
        if any(key in entry for _, entry in latest.values()):
            columns.append((title, lambda _, entry, key=key: _number(entry.get(key))))  # type: ignore[misc]
    rows = [[f"{car:02d} {latest[car][1]['name']}", *(cell(*latest[car]) for _, cell in columns)]
            for car in sorted(latest)]
    return Table("Cars that took part", ["car", *(title for title, _ in columns)], rows)


def _counts(records: list[dict]) -> Table:
    """What the run took. Bytes and seconds are counted a round, pictures and steps since the start."""
    last = records[-1]
    up, down = (sum(record[key] for record in records) / 1e6 for key in ("bytes_up", "bytes_down"))
    seconds = sum(record["seconds"]["total"] for record in records)
    rows = [
        ["rounds", f"{last['round']:,}"],
        ["pictures seen by all cars", f"{last['pictures']:,}"],
        ["sequential local steps", f"{last['sequential_steps']:,}"],
        ["MB up, cars to coordinator", f"{up:,.1f}"],
        ["MB down, coordinator to cars", f"{down:,.1f}"],
        ["seconds in rounds and scoring", f"{seconds:,.1f}"],
    ]
    return Table(f"What {last['algo']} took", ["", "whole run"], rows)


def _notes(records: list[dict], baselines: dict[str, float], split: str, notes: Sequence[str]) -> list[str]:
    """What has to be known to read the scores."""
    said = [f"Scores are of the {split} split; mIoU is the mean over classes that occur in labels or "
            "predictions, void pixels not counted; – is a class that occurs in neither."]
    if _is_local(records):
        said.append("Cars never communicated: scores are plain means over the cars' own models.")
    said += notes
    if baselines:
        said.append(f"Beside it, the mIoU of trivial answers on the same split: {', '.join(baselines)}.")
    return said


def _scored(records: list[dict]) -> list[dict]:
    """The untrained model's record and the latest evaluated one, where there are."""
    evaluated = [record for record in records if record["global"]]
    return evaluated if len(evaluated) < 2 else [evaluated[0], evaluated[-1]]


def _is_local(records: list[dict]) -> bool:
    """Whether cars never communicated: there is no global model then, only a worst car."""
    return any("worst" in record for record in records)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
