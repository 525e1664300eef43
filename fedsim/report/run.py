"""The page of a run that has ended, report/index.html."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from fedsim.classes import ClassTable
from fedsim.data.partition.skew import jensen_shannon
from fedsim.record.overview import Overview
from fedsim.report.figures import to_svg
from fedsim.report.heat_map import heat_map
from fedsim.report.page import Page, Picture, Section, write_page
from fedsim.report.run_figures import (
    cars_figure,
    class_figure,
    number_in,
    residual_figure,
)
from fedsim.report.summary import (
    OWN_TEST,
    Outcome,
    cars_table,
    counts_table,
    drives_table,
    own_test_table,
    scores_table,
)
from fedsim.report.tables import Table
from fedsim.report.words import ABSENT, format_number

LONG = 24  # rows; a longer table is folded
LISTED = 8  # cars at most that a cell lists by number
PHASES = {"local": "local training", "combine": "combining", "evaluate": "scoring"}


@dataclass(frozen=True)
class Partition:
    """The classes that every car has to train on."""

    cars: Sequence[str]  # names
    pixels: np.ndarray  # (cars, C) int64 labelled pixels by class


class Curves(NamedTuple):
    """The figures of a run that are files too."""

    loss: Figure  # `loss_figure`
    miou: Figure  # `miou_figure`


def write_run_report(outcome: Outcome, overview: Overview, classes: ClassTable, partition: Partition, curves: Curves,
                     segmentation: Path, written: Sequence[Path], path: Path) -> None:
    """Write the page at `path`. Raises OSError.

    segmentation: the PNG of scenes, truth and predictions; written: the files that the page names.
    """
    write_page(Page(overview.path.resolve().name, _subtitle(overview), _facts(outcome), [
        *_preface(outcome), *_scores(outcome, curves.miou), *_own_test(outcome), *_drives(outcome),
        *_cars(outcome.records, curves.loss), *_residuals(outcome.records),
        *_classes(outcome, classes), *_scenes(segmentation), *_partition(partition, classes), *_costs(outcome.records),
        *_settings(overview), *_environment(overview.environment), *_files(overview.path, written)]), path)


def _subtitle(overview: Overview) -> str:
    settings = overview.settings
    forms = {"algo": "{}", "model": "{}", "data": "{}", "image_size": "{}", "partition": "partition {}",
             "hold_out_drive": "drive {} held out",
             "seed": "seed {}"}
    return ", ".join(form.format(Path(str(settings[name])).name) for name, form in forms.items() if name in settings)


def _facts(outcome: Outcome) -> list[tuple[str, str]]:
    """Return the numbers on top of the page."""
    records = outcome.records
    scored = [(score, record["round"]) for record in records
              if (score := number_in(record["global"] or {}, "miou")) is not None]
    last, best = (scored[-1], max(scored, key=lambda pair: pair[0])) if scored else ((None, 0), (None, 0))
    cars = {entry["car"] for record in records for entry in record["cars"]}
    up, down = (sum(record[key] for record in records) / 1e6 for key in ("bytes_up", "bytes_down"))
    return [(f"mIoU, {outcome.scored.name.removesuffix(' split')}, round {last[1]}", format_number(last[0])),
            (f"best mIoU, round {best[1]}", format_number(best[0])), ("rounds", f"{records[-1]['round']:,}"),
            ("cars that took part", f"{len(cars):,}"), ("MB up", f"{up:,.1f}"), ("MB down", f"{down:,.1f}")]


def _preface(outcome: Outcome) -> Iterator[Section]:
    yield Section("What to know", text=outcome.sentences(),
                  warnings=[f"{warning[:1].upper()}{warning[1:]}." for warning in outcome.all_warnings()])


def _scores(outcome: Outcome, miou: Figure) -> Iterator[Section]:
    whole = scores_table(outcome)
    short = whole._replace(rows=[row for row in whole.rows if not row[0].startswith("IoU ")])
    yield Section("Scores", tables=[short], pictures=[_to_picture(
        miou, "mIoU against pictures seen by all cars (left) and against gradient steps taken one after another "
        "(right). A federation of N cars takes N times fewer of these steps for the same pictures.", "mIoU curves")])


def _own_test(outcome: Outcome) -> Iterator[Section]:
    table = own_test_table(outcome)
    if table.rows:
        yield Section(table.title, tables=[table._replace(title="", rows=table.rows[:len(OWN_TEST)])])
        rest = table._replace(title="", rows=table.rows[len(OWN_TEST):])
        yield Section(f"Held-out scenes of all {len(rest.rows):,} cars", tables=[rest], folded=len(rest.rows) > LONG)


def _drives(outcome: Outcome) -> Iterator[Section]:
    table = drives_table(outcome)
    if table.rows:
        long = len(table.rows) > LONG
        title = f"All {len(table.rows):,} drives" if long else "Drives"
        yield Section(title, tables=[table._replace(title="mIoU by drive")], folded=long)


def _cars(records: list[dict], loss: Figure) -> Iterator[Section]:
    pictures = [_to_picture(
        loss, "Mean training loss of each car and round, and the cross entropy of the model on the "
        "evaluated split.", "loss curves of all cars")]
    if figure := cars_figure(records):
        pictures.append(_to_picture(
            figure, "The drift of each car in each round, which is its distance from the global vector (if cars never "
            "communicate: from their mean), and the other numbers that are on record.", "curves of all cars"))
    table = cars_table(records)
    short = len(table.rows) <= LONG
    yield Section("Cars", tables=[table] if short and table.rows else [], pictures=pictures)
    if not short:
        yield Section(f"All {len(table.rows):,} cars that took part", tables=[table._replace(title="")], folded=True)


def _residuals(records: list[dict]) -> Iterator[Section]:
    if figure := residual_figure(records):
        yield Section("Residuals", pictures=[_to_picture(
            figure, "Primal residual: root mean square distance of the round's cars from the global vector. Dual "
            "residual: penalty times the server's step. With a constant penalty, the mean dual goes to zero when the "
            "federation comes to rest; a primal residual of zero alone proves nothing. If the penalty rises as the "
            "learning rate falls, duals rise with it in the last rounds.", "residuals of FedADMM")])


def _classes(outcome: Outcome, classes: ClassTable) -> Iterator[Section]:
    if figure := class_figure(outcome.records, classes):
        yield Section("Classes", pictures=[_to_picture(
            figure, f"Intersection over union of every class on the {outcome.scored.name}, over rounds and at the end.",
            "class IoUs")])


def _scenes(segmentation: Path) -> Iterator[Section]:
    yield Section("Scenes", pictures=[Picture(
        segmentation.read_bytes(), "Scenes of the evaluated split, their labels, and the predictions of the final "
        "model; if cars never communicate, those of the first car's.", "scenes, truth and predictions")])


def _partition(partition: Partition, classes: ClassTable) -> Iterator[Section]:
    pixels = partition.pixels
    pool, totals = pixels.sum(0), pixels.sum(1, keepdims=True)
    distances = [jensen_shannon(car, pool) for car in pixels if car.any()]
    lacking = int(((pixels == 0) & (pool > 0)).any(1).sum())
    text = [f"The classes of a car are {sum(distances) / len(distances):.3f} bits from those of all cars together "
            "(Jensen-Shannon divergence, mean over cars; 0: alike, 1: nothing in common). "
            f"{lacking:,} of {len(pixels):,} cars lack a class that others have."] if len(distances) > 1 else []
    figure = heat_map(partition.cars, classes, pixels / np.maximum(totals, 1))
    yield Section("Partition", text=text, pictures=[_to_picture(figure, "The classes that every car trains on.",
                                                                "heat map of cars and classes")])


def _costs(records: list[dict]) -> Iterator[Section]:
    timings = [record["seconds"] for record in records]  # the first is of scoring the untrained model
    total = sum(seconds["total"] for seconds in timings)
    rows = []
    for key, name in PHASES.items():
        spent = [number_in(seconds, key) or 0.0 for seconds in timings]
        rows.append([name, f"{sum(spent):,.1f}", f"{np.mean(spent[1:] or [0]):,.2f}",
                     f"{100 * sum(spent) / total:.1f} %" if total else ABSENT])
    times = Table("Time, on the coordinator's clock", ["", "seconds", "seconds a round", "share"], rows)
    yield Section("Costs", tables=[counts_table(records), times])
    yield Section("Every round", tables=[_round_table(records)], folded=len(records) > LONG,
                  text=["Bytes are what the cars of a real federation would send and receive, not what the simulation "
                        "moves. Failed cars trained and never answered."])


def _round_table(records: list[dict]) -> Table:
    rows, up, down = [], 0.0, 0.0
    for record in records:
        up, down, failed = up + record["bytes_up"] / 1e6, down + record["bytes_down"] / 1e6, record.get("failed")
        rows.append([
            f"{record['round']}", format_number(number_in(record["global"] or {}, "miou")),
            format_number(number_in(record, "lr"), ".3g"),
            f"{len(record['cars']):,}", _list_failed(failed) if isinstance(failed, list) else ABSENT,
            f"{record['bytes_up'] / 1e6:,.2f}", f"{record['bytes_down'] / 1e6:,.2f}", f"{up:,.1f}", f"{down:,.1f}",
            *(f"{number_in(record['seconds'], key) or 0.0:,.2f}" for key in PHASES),
            f"{record['seconds']['total']:,.2f}"])
    return Table("", ["round", "mIoU", "lr", "cars", "failed", "MB up", "MB down", "up so far", "down so far",
                      "local, s", "combine, s", "score, s", "all, s"], rows)


def _settings(overview: Overview) -> Iterator[Section]:
    commands = [overview.repeat] if overview.repeat else []
    given = overview.given
    if given:
        yield Section("Settings that were given", text=["Repeat the run with:"] if commands else [],
                      commands=commands, tables=[_pairs(given)])
    others = {name: value for name, value in overview.settings.items() if name not in given}
    if others:
        yield Section("Other settings" if given else "Settings, all at their defaults",
                      text=["Defaults, and what followed from the other settings and from the machine."],
                      commands=[] if given else commands, tables=[_pairs(others)], folded=True)


def _environment(environment: Mapping[str, Any]) -> Iterator[Section]:
    """Show versions, machine, ranks and digests of the data, but not what other sections tell."""
    left_out = ("partition", "given", "warnings", "launch")
    shown: dict[str, Any] = {}
    for name, value in environment.items():
        if isinstance(value, dict):
            shown |= {f"{name}: {key}": inner for key, inner in value.items()}
        elif name not in left_out:
            shown[name] = value
    if shown:
        yield Section("Environment", tables=[_pairs(shown)], folded=True)


def _files(folder: Path, written: Sequence[Path]) -> Iterator[Section]:
    others = [folder / name for name in ("config.toml", "environment.json", "partition.json")]
    names = [str(path.relative_to(folder)) for path in [*others, *written]]
    yield Section("Files", text=[f"In {folder}:"], tables=[Table("", ["file"], [[name] for name in names])])


def _pairs(values: Mapping[str, Any]) -> Table:
    return Table("", ["", "value"], [[str(name), str(value)] for name, value in values.items()])


def _to_picture(figure: Figure, caption: str, alternative: str) -> Picture:
    return Picture(to_svg(figure), caption, alternative)


def _list_failed(cars: list) -> str:
    """Return the number of cars, and their numbers if they are few."""
    named = f" ({', '.join(map(str, cars))})" if 0 < len(cars) <= LISTED else ""
    return f"{len(cars)}{named}"
