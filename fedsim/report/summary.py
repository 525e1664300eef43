"""The summary of a run, on the screen and as report/summary.md."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedsim.data.partition import CLOSE, Scored
from fedsim.report.tables import Table, markdown, print_block, print_tables
from fedsim.report.words import ABSENT, format_number
from fedsim.system.files import write_whole

# key of a record's own_test -> what it is
OWN_TEST = {"mean": "mIoU, mean of the cars", "worst": "mIoU of the worst car", "deviation": "deviation over cars",
            "jain": "Jain's index of fairness", "others": "mIoU on other cars' scenes, mean"}
# key of a record -> what is scored there, beside the global model
BESIDE = {"mean_of_cars": "mIoU of the mean of the cars' vectors", "averaged": "mIoU of the average over rounds"}


@dataclass(frozen=True)
class Outcome:
    """The result of a run, ready to be reported."""

    records: list[dict]  # lines of metrics.jsonl, round 0 first, at least one
    classes: Sequence[str]  # names, in order of labels
    scored: Scored  # the scenes that were scored
    baselines: dict[str, float]  # name -> mIoU of a trivial answer
    notes: Sequence[str]  # further sentences that a reader of the scores must know
    warnings: Sequence[str]  # given before training, without a full stop

    def tables(self) -> list[Table]:
        """Return the tables of scores, drives, cars and counts."""
        by_place = [table for table in (own_test_table(self), drives_table(self)) if table.rows]
        return [scores_table(self), *by_place, cars_table(self.records), counts_table(self.records)]

    def sentences(self) -> list[str]:
        """Return the sentences that a reader of the tables must know."""
        lines = [f"Scores are measured on the {self.scored.name}; mIoU is the mean over classes that occur in "
                 "labels or predictions; void pixels are not counted. –: the class occurs in neither."]
        if drives_table(self).rows:
            lines.append("The mIoU of a drive is over the classes that occur there, so the split's is not their mean.")
        if own_test_table(self).rows:
            lines.append("Each car's own scenes that are held out are the last of every stretch of a drive; no car "
                         f"trains on them, or on a scene of the drive within {CLOSE:g} seconds. Jain's index is 1 if "
                         "all cars are served alike.")
        if _is_local(self.records):
            lines.append("Cars never communicated: scores are plain means over the cars' own models.")
        lines += self.notes
        if self.baselines:
            lines.append("Beside the model's mIoU is that of trivial answers on the same scenes: "
                         f"{', '.join(self.baselines)}.")
        return lines

    def all_warnings(self) -> list[str]:
        """Return the warnings of the run, those of its rounds last."""
        return [*self.warnings, *(f"round {record['round']}: {record['warning']}" for record in self.records
                                  if "warning" in record)]


def print_summary(outcome: Outcome, paths: Sequence[Path]) -> None:
    """Print scores, cars, counts and the paths written, on stdout."""
    print_tables(outcome.tables())
    for line in _notes(outcome):
        print(line)
    print_block("Written", paths)


def write_summary(outcome: Outcome, paths: Sequence[Path], path: Path) -> None:
    """Write the same with all cars as Markdown at `path`, and baselines and notes as JSON beside it."""
    last = outcome.records[-1]
    lines = [f"# {last['algo']}, {last['round']} rounds", ""]
    for table in outcome.tables():
        lines += [markdown(table), ""]
    lines += [f"- {line}" for line in _notes(outcome)]
    lines += ["", "## Files", "", *(f"- `{written}`" for written in paths), ""]
    content = {"split": outcome.scored.split, "hold_out_drive": outcome.scored.drive, "baselines": outcome.baselines,
               "notes": [*outcome.notes]}
    write_whole(path.with_suffix(".json"), json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_whole(path, "\n".join(lines))  # last: a run that has this file has ended


def _notes(outcome: Outcome) -> list[str]:
    return [*outcome.sentences(), *(f"Warning: {warning}." for warning in outcome.all_warnings())]


def scores_table(outcome: Outcome) -> Table:
    """Tabulate the scores of the untrained and of the latest model, with the mIoU of baselines beside theirs."""
    records, baselines = outcome.records, outcome.baselines
    columns = _first_and_latest(records)
    header = ["", *map(_name_round, columns), *baselines]
    scores = [record["global"] for record in columns]
    blank = [""] * len(baselines)
    rows = [
        ["loss", *(format_number(score["loss"]) for score in scores), *blank],
        ["mIoU", *(format_number(score["miou"]) for score in scores), *map(format_number, baselines.values())],
    ]
    if _is_local(records):
        worst = [record.get("worst") for record in columns]
        rows.append(["mIoU of the worst car",
                     *(f"{format_number(car['miou'])} ({car['name']})" if car else ABSENT for car in worst), *blank])
    rows += [[title, *(format_number(record.get(key, {}).get("miou")) for record in columns), *blank]
             for key, title in BESIDE.items() if any(key in record for record in columns)]
    rows.append(["pixel accuracy", *(format_number(score["pixel_accuracy"]) for score in scores), *blank])
    rows += [[f"IoU {name}", *(format_number(score["class_iou"].get(name)) for score in scores), *blank]
             for name in outcome.classes]
    which = "The cars' own models, mean" if _is_local(records) else "Global model"
    return Table(f"{which}, {outcome.scored.name}", header, rows)


def own_test_table(outcome: Outcome) -> Table:
    """Tabulate the scores on the scenes that are held out from each car; without a row if there are no such scenes."""
    columns = _first_and_latest(outcome.records)
    found = [record.get("own_test", {}) for record in columns]
    rows = [[title, *(format_number(scores.get(key)) for scores in found)] for key, title in OWN_TEST.items()]
    worst = rows[[*OWN_TEST].index("worst")]
    worst[1:] = [f"{cell} ({scores.get('worst_car', ABSENT)})" for cell, scores in zip(worst[1:], found, strict=True)]
    cars = [[f"mIoU, {car}", *(format_number(scores.get("cars", {}).get(car)) for scores in found)]
            for car in (found[-1].get("cars", {}) if found else {})]
    return Table("The cars' own scenes that are held out", ["", *map(_name_round, columns)],
                 [*rows, *cars] if any(found) else [], long=True)


def drives_table(outcome: Outcome) -> Table:
    """Tabulate the mIoU of the same models on each scored drive; without a row if there are not several drives."""
    columns = _first_and_latest(outcome.records)
    scores = [record["global"].get("drive_miou", {}) for record in columns]
    rows = [[drive, *(format_number(score.get(drive)) for score in scores)] for drive in (scores[-1] if scores else {})]
    return Table(f"mIoU by drive, {outcome.scored.name}", ["", *map(_name_round, columns)], rows, long=True)


def cars_table(records: list[dict]) -> Table:
    """Tabulate the latest values of each car that took part, and their round if it is not the last one."""
    latest: dict[int, tuple[int, dict]] = {}
    steps: dict[int, int] = {}
    for record in records:
        for entry in record["cars"]:
            latest[entry["car"]] = record["round"], entry
            steps[entry["car"]] = steps.get(entry["car"], 0) + entry["steps"]
    columns: list[tuple[str, Callable[[int, dict], str]]] = [
        ("images", lambda _, entry: f"{entry['images']:,}"),
        ("steps", lambda _, entry: f"{steps[entry['car']]:,}"),
        ("last loss", lambda latest_round, entry: format_number(entry["loss"]) + (
            "" if latest_round == records[-1]["round"] else f" (round {latest_round})")),
        ("drift", lambda _, entry: format_number(entry.get("drift"))),
    ]
    for key, title in (("dual_norm", "dual norm"), ("train_miou", "training mIoU"), ("miou", "own mIoU")):
        if any(key in entry for _, entry in latest.values()):
            columns.append((title, lambda _, entry, key=key: format_number(entry.get(key))))  # type: ignore[misc]
    rows = [[f"{car:02d} {latest[car][1]['name']}", *(cell(*latest[car]) for _, cell in columns)]
            for car in sorted(latest)]
    return Table("Cars that took part", ["car", *(title for title, _ in columns)], rows, long=True)


def counts_table(records: list[dict]) -> Table:
    """Tabulate rounds, pictures, steps, traffic and time of the whole run."""
    last = records[-1]
    up, down = (sum(record[key] for record in records) / 1e6 for key in ("bytes_up", "bytes_down"))
    seconds = sum(record["seconds"]["total"] for record in records)
    idle = sum(bool(record.get("failed")) and not record["cars"] for record in records)
    rows = [
        ["rounds", f"{last['round']:,}"],
        *([["rounds without a step, because too few cars answered", f"{idle:,}"]] if idle else []),
        ["pictures seen by all cars", f"{last['pictures']:,}"],
        ["sequential local steps", f"{last['sequential_steps']:,}"],
        ["MB up, cars to coordinator", f"{up:,.1f}"],
        ["MB down, coordinator to cars", f"{down:,.1f}"],
        ["seconds in rounds and scoring", f"{seconds:,.1f}"],
    ]
    return Table(f"What {last['algo']} took", ["", "whole run"], rows)


def _first_and_latest(records: list[dict]) -> list[dict]:
    """Return the first and the last record with scores: the untrained model's and the latest."""
    evaluated = [record for record in records if record["global"]]
    return evaluated if len(evaluated) < 2 else [evaluated[0], evaluated[-1]]


def _name_round(record: dict) -> str:
    return "untrained" if record["round"] == 0 else f"round {record['round']}"


def _is_local(records: list[dict]) -> bool:
    """Return whether cars never communicated, so that records have a worst car and no global model."""
    return any("worst" in record for record in records)
