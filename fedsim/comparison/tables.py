"""The tables of a comparison, as words, CSV and LaTeX, with notes and warnings."""

import csv
import io
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsim.comparison.cars import NAMES_OF_CARS, all_hold_out, notes_on_cars, record_cars, worst_car_cells
from fedsim.comparison.trials import (
    BESIDE,
    UPPER_YARDSTICKS,
    Row,
    Trial,
    Yardstick,
    best_row,
    costs,
    differences,
    format_spread,
    gap,
    spread,
)
from fedsim.comparison.tuning import Tuning, describe
from fedsim.data.partition import Scored
from fedsim.report.tables import Table
from fedsim.report.words import format_number, format_setting
from fedsim.settings.viewing import read_view

MAY_DEVIATE = 0.05  # of the work of runs that are compared at equal work: epochs are drawn, and parts rounded up
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "±": r"$\pm$",
         **{sign: "\\" + sign for sign in "&%$#_{}"}}


@dataclass(frozen=True)
class Comparison:
    """Rows, and the measures by which they are judged."""

    rows: Sequence[Row]
    classes: Sequence[str]
    rare: Sequence[str]  # the rarest classes
    target: float  # the mIoU whose cost is reported
    tuning: Tuning | None = None

    @property
    def scored(self) -> Scored:
        """The scenes that all rows are scored on."""
        return self.rows[0].trials[0].settings.scored()

    @property
    def drives(self) -> list[str]:
        """The scored drives; an empty list if there are not several."""
        return list(dict.fromkeys(drive for row in self.rows for trial in row.trials
                                  for drive in trial.scored[-1]["global"].get("drive_miou", {})))

    @property
    def beside(self) -> list[str]:
        """The models that were scored beside the global one in a run."""
        return [model for model in BESIDE if any(trial.beside(model) is not None for row in self.rows
                                                 for trial in row.trials)]

    @property
    def central(self) -> dict[Yardstick, Row]:
        """The rows of centralised training by which the others are measured."""
        found = {yardstick: best_row(self.rows, yardstick.algo) for yardstick in UPPER_YARDSTICKS}
        return {yardstick: row for yardstick, row in found.items() if row}


def score_table(comparison: Comparison) -> Table:
    """Tabulate the scores of the models."""
    header = ["", "seeds", "final mIoU", *(BESIDE[model].column for model in comparison.beside), "best mIoU",
              *(yardstick.column for yardstick in comparison.central),
              *([] if all_hold_out(comparison.rows) else ["worst car, own scenes"]), "rare classes"]
    rows = []
    for row in comparison.rows:
        seeds = len(row.trials)
        rows.append([row.label, str(seeds), format_spread(row.final, seeds),
                     *(format_spread(spread(trial.beside(model) for trial in row.trials), seeds)
                       for model in comparison.beside),
                     format_spread(row.best, seeds),
                     *(format_spread(gap(row, central), seeds, "+.3f") for central in comparison.central.values()),
                     *([] if all_hold_out(comparison.rows) else [
                         format_spread(spread(trial.worst for trial in row.trials), seeds)]),
                     format_spread(spread(trial.class_iou(comparison.rare) for trial in row.trials), seeds)])
    return Table(f"Scores, {comparison.scored.name}", header, rows)


def cost_table(comparison: Comparison) -> Table:
    """Tabulate the cost of the models."""
    header = ["", f"rounds to {comparison.target:.3f}", "MB to it", "seconds to it", "rounds", "MB", "pictures seen",
              "sequential steps"]
    rows = []
    for row in comparison.rows:
        reached = costs(row, comparison.target)
        to_target = [format_spread(spread(cost[index] for cost in reached), len(row.trials), form)
                     for index, form in enumerate((".1f", ",.1f", ",.0f"))]
        rows.append([row.label, *to_target, *_whole_run_cells(row)])
    return Table("What it took", header, rows)


def class_table(comparison: Comparison) -> Table:
    """Tabulate the IoU of every class after the last round."""
    rows = [[name, *(format_spread(spread(trial.class_iou([name]) for trial in row.trials), len(row.trials))
                     for row in comparison.rows)] for name in comparison.classes]
    return Table("IoU by class", ["", *(row.label for row in comparison.rows)], rows)


def drive_table(comparison: Comparison) -> Table:
    """Tabulate the mIoU on every drive after the last round; without a row if there are not several drives."""
    rows = [[drive, *(format_spread(spread(trial.drive_miou(drive) for trial in row.trials), len(row.trials))
                      for row in comparison.rows)] for drive in comparison.drives]
    return Table(f"mIoU by drive, {comparison.scored.name}", ["", *(row.label for row in comparison.rows)], rows,
                 long=True)


def tuning_table(tuning: Tuning) -> Table:
    """Tabulate the mIoU of every candidate: a column for each learning rate if nothing else was tried."""
    tried = {name for scores in tuning.scores.values() for candidate in scores for name, _ in candidate}
    if tried == {"lr"}:
        grid = sorted({candidate for scores in tuning.scores.values() for candidate in scores})
        return Table("Learning rates", ["", *(format_setting(lr) for ((_, lr),) in grid), "chosen"], [
            [algo, *(format_number(scores.get(candidate)) for candidate in grid),
             format_setting(dict(tuning.chosen(algo) or ()).get("lr"))] for algo, scores in tuning.scores.items()])
    rows = [[algo, describe(candidate), format_number(miou), "yes" if candidate == tuning.chosen(algo) else ""]
            for algo, scores in tuning.scores.items() for candidate, miou in scores.items()]
    return Table("Settings that were tried", ["", "with", "mIoU", "chosen"], rows)


def settings_table(comparison: Comparison) -> Table:
    """Tabulate the settings that differ among rows."""
    return Table("Settings that differ", ["", *(row.label for row in comparison.rows)],
                 [[name.replace("_", "-"), *values] for name, values in differences(comparison.rows).items()])


def run_table(comparison: Comparison) -> Table:
    """Tabulate every single run."""
    rows = [[trial.path, row.label, str(trial.settings.seed), f"{trial.rounds} of {trial.settings.rounds}",
             f"{trial.final:.3f}", f"{trial.best:.3f}", *worst_car_cells(trial)]
            for row in comparison.rows for trial in row.trials]
    return Table("Runs", ["", "algorithm", "seed", "rounds", "final mIoU", "best mIoU", "worst car", "which"], rows)


def notes(comparison: Comparison) -> list[str]:
    """Return what a reader of the tables must know, in notes of a sentence or two."""
    lines = [f"Scores are measured on the {comparison.scored.name} after the last round. mIoU is the mean over classes "
             "that occur in labels or predictions; void pixels are not counted.", _seed_note(comparison.rows),
             "The best mIoU is the highest of all rounds. It is chosen on the split that it is measured on, so it "
             "flatters."]
    lines += _yardstick_notes(comparison)
    lines += [
        f"The target of {comparison.target:.3f} is reached in the first round whose mIoU is so high. (k/n): k of n "
        "seeds have reached it; –: not one has.",
        *notes_on_cars(comparison.rows),
        "Rare classes: mean IoU of the rarest third, by training pixels, of the classes that occur in training and on "
        f"the {comparison.scored.name}: {', '.join(comparison.rare) or 'there are none'}.",
        "MB are 10^6 bytes, up and down, that a real federation would exchange. Seconds are those of rounds and "
        "scoring on the machine that played the runs, which may have done other work meanwhile."]
    lines += [BESIDE[model].note for model in comparison.beside]
    if comparison.drives:
        lines.append("mIoU by drive: over the classes that occur on the drive, so that the split's mIoU is not their "
                     "mean.")
    if comparison.tuning:
        lines.append("Tuning: every algorithm was tried with the same values of all that it reads, and seed 0. The "
                     f"numbers are final mIoUs on the {comparison.tuning.split} split; the highest decides.")
    return lines + [note for row in comparison.rows if (note := _own_models_note(row, comparison.scored.name))]


def warnings(comparison: Comparison) -> list[str]:
    """Return a sentence for everything that makes the rows less comparable than they look."""
    lines = [f"{trial.path} has played {trial.rounds} of {trial.settings.rounds} rounds: its numbers are of these "
             "alone" for row in comparison.rows for trial in row.trials if trial.rounds < trial.settings.rounds]
    lines += [f"{trial.path}, round {record['round']}: {record['warning']}" for row in comparison.rows
              for trial in row.trials for record in trial.records if "warning" in record]
    if len({row.trials[0].settings.rounds for row in comparison.rows}) > 1:
        lines.append("the rows have different numbers of rounds: compare them at equal pictures or steps")
    if len({read_view(vars(row.trials[0].settings)) for row in comparison.rows}) > 1:
        lines.append("the rows are scored with different views of the pictures (--test-scales, --test-flip, --tile), "
                     "from which a part of their differences may come")
    if "weighting" in differences(comparison.rows) and _unequal_cars(comparison.rows):
        lines.append("some rows weigh cars by their images and others uniformly, and cars have unequal numbers of "
                     "images: the rows minimise different objectives; --weighting makes them the same")
    lines += _work_warnings(comparison)
    if comparison.tuning:
        lines += _tuning_warnings(comparison.tuning, comparison.scored)
    return lines


def run_csv(comparison: Comparison) -> str:
    """Return a CSV with a line for each run."""
    return _csv(_run_record(comparison, row, trial) for row in comparison.rows for trial in row.trials)


def summary_csv(comparison: Comparison) -> str:
    """Return a CSV with a line for each row: means, deviations over seeds, and how many seeds have the number."""
    records = []
    for row in comparison.rows:
        runs = [_run_record(comparison, row, trial) for trial in row.trials]
        record: dict[str, Any] = {"label": row.label, "algo": row.algo, "seeds": len(runs),
                                  "lr": row.trials[0].settings.lr}
        for name in list(runs[0])[list(runs[0]).index("final_miou"):]:
            if name in NAMES_OF_CARS:  # not a number
                continue
            over = spread(run[name] for run in runs)
            record |= {name: over and over.mean, f"{name}_sd": over and over.deviation,
                       f"{name}_n": over.seeds if over else 0}
        records.append(record)
    return _csv(records)


def latex(comparison: Comparison) -> str:
    """Return scores and the cost of the target as a LaTeX tabular, for \\usepackage{booktabs}."""
    scores, took = score_table(comparison), cost_table(comparison)
    header = ["algorithm", *scores.header[1:], *took.header[1:3]]
    rows = [[*row, *other[1:3]] for row, other in zip(scores.rows, took.rows, strict=True)]
    lines = [" & ".join(map(escape, row)) + r" \\" for row in rows]
    comments = [f"% {' '.join(note.split())}" for note in notes(comparison)]
    return "\n".join([*comments, r"\begin{tabular}{l" + "r" * (len(header) - 1) + "}", r"\toprule",
                      " & ".join(map(escape, header)) + r" \\", r"\midrule", *lines, r"\bottomrule",
                      r"\end{tabular}", ""])


def escape(text: str) -> str:
    """Escape text for LaTeX; a hyphen before a number becomes a minus sign."""
    return re.sub(r"^-(?=\d)", "$-$", "".join(LATEX.get(sign, sign) for sign in text))


def _whole_run_cells(row: Row) -> list[str]:
    """Return the cells on the cost of whole runs. Amounts that are equal in all trials get no deviation."""
    last = [trial.records[-1] for trial in row.trials]
    amounts: list[tuple[list[float], str]] = [
        ([trial.rounds for trial in row.trials], ".0f"), ([trial.megabytes for trial in row.trials], ",.1f"),
        ([record["pictures"] for record in last], ",.0f"), ([record["sequential_steps"] for record in last], ",.0f")]
    return [format(values[0], form) if len(set(values)) == 1 else format_spread(spread(values), len(values), form)
            for values, form in amounts]


def _seed_note(rows: Sequence[Row]) -> str:
    if max(len(row.trials) for row in rows) == 1:
        return ("One seed each: another seed would give other numbers, nobody knows how different, and a small "
                "difference may change its sign.")
    return "± is the sample standard deviation over seeds (with n - 1); a row with one seed has none."


def _yardstick_notes(comparison: Comparison) -> Iterator[str]:
    """Yield what the differences to centralised training are, and what is equal in them."""
    for yardstick, row in comparison.central.items():
        same_steps = "sequential_steps" in yardstick.equal
        steps = ("and takes as many steps, one after another, as the slowest of them" if same_steps
                 else "but takes the steps of all of them one after another")
        yield (f"{yardstick.column.capitalize()}: final mIoU less that of {row.label} with the same seed. It sees as "
               f"many pictures as all cars together, {steps}.")
    if comparison.central:
        yield (f"Seconds of {' and '.join(yardstick.algo for yardstick in comparison.central)} are those of one rank, "
               "which does all of its training; a federation's cars share all ranks.")


def _own_models_note(row: Row, scored: str) -> str | None:
    """Explain the mIoU of a row whose cars have no model in common; None for other rows."""
    worst = spread(trial.scored[-1]["worst"]["miou"] for trial in row.trials if "worst" in trial.scored[-1])
    if worst is None:
        return None
    return (f"{row.label}: cars never communicate, so mIoU is the mean over their own models; on the {scored} the "
            f"worst of them has {format_spread(worst, len(row.trials))}. Pictures show the first car's model.")


def _tuning_warnings(tuning: Tuning, scored: Scored) -> list[str]:
    lines = [f"{algo} is best at {name} {format_setting(dict(tuning.chosen(algo) or ())[name])}, the edge of what was "
             "tried: a better value may lie beyond" for algo in tuning.scores for name in tuning.at_edge(algo)]
    if scored.split == tuning.split:
        lines.append(f"settings were chosen on the {scored.name}, on which the rows are scored too: --eval-split test "
                     "keeps the two apart")
    return lines


def _work_warnings(comparison: Comparison) -> Iterator[str]:
    """Yield a sentence for each yardstick whose work is not that of other rows."""
    said = {"pictures": "has seen {} pictures", "sequential_steps": "has taken {} sequential steps"}
    for yardstick, central in comparison.central.items():
        for key in yardstick.equal:
            work = {row.label: statistics.fmean(trial.records[-1][key] for trial in row.trials)
                    for row in comparison.rows if not row.is_central}
            usual = statistics.fmean(trial.records[-1][key] for trial in central.trials)
            unlike = {label: amount for label, amount in work.items() if abs(amount - usual) > MAY_DEVIATE * usual}
            if unlike:
                others = ", ".join(f"{label} {amount:,.0f}" for label, amount in unlike.items())
                yield (f'"{yardstick.column}" compares unequal work: {central.label} '
                       f"{said[key].format(f'{usual:,.0f}')}, and {others}")


def _unequal_cars(rows: Sequence[Row]) -> bool:
    images = {entry["car"]: entry["images"] for row in rows if not row.is_central
              for record in row.trials[0].records for entry in record["cars"]}
    return len(set(images.values())) > 1


def _run_record(comparison: Comparison, row: Row, trial: Trial) -> dict[str, Any]:
    cost, last = trial.cost(comparison.target), trial.records[-1]
    record: dict[str, Any] = {
        "label": row.label, "algo": row.algo, "seed": trial.settings.seed, "run": trial.path,
        "lr": trial.settings.lr, "final_miou": trial.final, "best_miou": trial.best,
        "pixel_accuracy": trial.scored[-1]["global"]["pixel_accuracy"],
        **_gaps(comparison, row, trial),
        **record_cars(trial, comparison.rows), "rare_iou": trial.class_iou(comparison.rare),
        "rounds_to_target": cost and cost.rounds, "mb_to_target": cost and cost.megabytes,
        "seconds_to_target": cost and cost.seconds, "rounds": trial.rounds, "mb": trial.megabytes,
        "seconds": sum(entry["seconds"]["total"] for entry in trial.records), "pictures": last["pictures"],
        "sequential_steps": last["sequential_steps"]}
    return (record | {f"iou {name}": trial.class_iou([name]) for name in comparison.classes}
            | {f"miou {drive}": trial.drive_miou(drive) for drive in comparison.drives}
            | {f"{model}_miou": trial.beside(model) for model in comparison.beside})


def _gaps(comparison: Comparison, row: Row, trial: Trial) -> dict[str, float | None]:
    """Return final mIoU less that of centralised training of each kind with the same seed; None without such a run."""
    gaps = {}
    for yardstick in UPPER_YARDSTICKS:
        central = comparison.central.get(yardstick)
        other = central.of_seed(trial.settings.seed) if central and central is not row else None
        gaps[re.sub(r"\W+", "_", yardstick.column)] = trial.final - other.final if other else None
    return gaps


def _csv(records: Iterable[Mapping[str, Any]]) -> str:
    lines = list(records)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
