"""The report of `fedsim evaluate`: tables, a plot, perturbed pictures."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from fedsim.classes import ClassTable
from fedsim.data.partition import Scored
from fedsim.evaluation.metrics import Scores
from fedsim.evaluation.robustness import Robustness, Subject
from fedsim.report.palette import line_styles
from fedsim.report.tables import Table, markdown, print_block, print_tables
from fedsim.report.words import ABSENT, format_number, format_ratio


class ScoredRun(NamedTuple):
    """A run and the scores of its model."""

    name: str
    path: str
    algo: str
    result: Robustness


def write_report(runs: Sequence[ScoredRun], subject: Subject, seed: int, folder: Path) -> None:
    """Write the tables, with figures, into an empty folder; then print them.

    subject: a subject of the evaluation. The contact sheet shows one of its scenes.
    """
    scenes, perturbed = subject.scenes, bool(runs[0].result.perturbed)
    classes = scenes.classes
    reference = find_reference(runs)
    tables = [_clean_table(runs, classes, subject.scored), *_drive_tables(runs, subject.scored)]
    if perturbed:
        tables += [_summary_table(runs, reference), _kind_table(runs), _worst_class_table(runs, classes)]
    written = [folder / "robustness.json", folder / "robustness.md"]
    content = _to_json(runs, classes, subject.scored, seed, reference)
    content["view"] = asdict(subject.view)
    note = subject.view.note()
    written[0].write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", errors="replace")
    texts = [*(markdown(table) for table in tables), *filter(None, [note])]
    written[1].write_text("\n\n".join(texts) + "\n", encoding="utf-8", errors="replace")
    if perturbed:
        # Here, because matplotlib takes long to import.
        from fedsim.report.robustness_figures import draw_contact_sheet, draw_robustness

        written += [folder / "robustness.png", folder / "perturbations.png"]
        draw_robustness({run.name: run.result for run in runs}, line_styles([run.algo for run in runs]), written[2])
        draw_contact_sheet(scenes, subject.source, subject.scored.on_disk, seed, written[3])
    print_tables(tables)
    if note:
        print(note)
    print_block("Written", written)


def find_reference(runs: Sequence[ScoredRun]) -> ScoredRun:
    """Return the run by which the others are measured: a centralised one, or else the first."""
    return next((run for algo in ("central", "central-wide") for run in runs if run.algo == algo), runs[0])


def _clean_table(runs: Sequence[ScoredRun], classes: ClassTable, scored: Scored) -> Table:
    """Tabulate the scores on the pictures as they are."""
    rows = [["mIoU", *(f"{run.result.clean.miou:.3f}" for run in runs)],
            ["pixel accuracy", *(f"{run.result.clean.pixel_accuracy:.3f}" for run in runs)]]
    for index, name in enumerate(classes.names):
        ious = [run.result.clean.class_iou[index] for run in runs]
        rows.append([f"IoU {name}", *(format_number(iou) for iou in ious)])
    return Table(f"Pictures as they are, {scored.name}", ["", *(run.name for run in runs)], rows)


def _drive_tables(runs: Sequence[ScoredRun], scored: Scored) -> list[Table]:
    """Tabulate mIoU by drive on the pictures as they are, in a list that is empty if there are not several drives."""
    by_run = [run.result.clean.drive_miou for run in runs]
    rows = [[drive, *(format_number(mious[drive]) for mious in by_run)] for drive in by_run[0]]
    title = f"mIoU by drive, {scored.name}"
    return [Table(title, ["", *(run.name for run in runs)], rows, long=True)] if rows else []


def _summary_table(runs: Sequence[ScoredRun], reference: ScoredRun) -> Table:
    """Tabulate the means over all kinds, a row for each run, as a paper prints it."""
    rows = []
    for run in runs:
        mean, relative = run.result.mean_miou(), run.result.relative_degradation(reference.result)
        rows.append([run.name, f"{run.result.clean.miou:.3f}", f"{mean:.3f}", format_ratio(mean, run.result.clean.miou),
                     format_number(relative)])
    return Table("Under perturbations: mean over kinds of the mean over severities",
                 ["", "mIoU clean", "mIoU perturbed", "ratio", f"lost, relative to {reference.name}"], rows)


def _kind_table(runs: Sequence[ScoredRun]) -> Table:
    """Tabulate mIoU and its ratio to the clean mIoU, a row for each kind."""
    rows = []
    for kind in runs[0].result.kinds():
        mious = [(run.result.miou(kind), run.result.clean.miou) for run in runs]
        rows.append([kind, *(f"{miou:.3f} ({format_ratio(miou, clean, '.2f')})" for miou, clean in mious)])
    return Table("mIoU by kind, mean over severities, and its ratio to clean", ["", *(run.name for run in runs)], rows)


def _worst_class_table(runs: Sequence[ScoredRun], classes: ClassTable) -> Table:
    """Tabulate the class that suffers most, a row for each kind."""
    rows = []
    for kind in runs[0].result.kinds():
        worst = [run.result.worst_class(kind) for run in runs]
        rows.append([kind, *(f"{classes.names[loss[0]]} {loss[1]:+.2f}" if loss else ABSENT for loss in worst)])
    return Table("The class that loses most IoU, by kind", ["", *(run.name for run in runs)], rows)


def _to_json(runs: Sequence[ScoredRun], classes: ClassTable, scored: Scored, seed: int,
             reference: ScoredRun) -> dict[str, Any]:
    """Return all numbers in the form of robustness.json."""
    def to_dict(scores: Scores) -> dict[str, Any]:
        return {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy,
                "class_iou": dict(zip(classes.names, scores.class_iou, strict=True)),
                **({"drive_miou": scores.drive_miou} if scores.drive_miou else {})}

    return {"split": scored.split, "hold_out_drive": scored.drive, "seed": seed, "reference": reference.path, "runs": [
        {"run": run.path, "algo": run.algo, "clean": to_dict(run.result.clean),
         "perturbed": {str(perturbation): to_dict(scores) for perturbation, scores in run.result.perturbed.items()}}
        for run in runs]}
