"""The report of `fedsim compare`: tables, figures, a page."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fedsim.comparison.cars import own_test_table
from fedsim.comparison.findings import Findings
from fedsim.comparison.tables import (
    Comparison,
    class_table,
    cost_table,
    drive_table,
    latex,
    notes,
    run_csv,
    run_table,
    score_table,
    settings_table,
    summary_csv,
    tuning_table,
    warnings,
)
from fedsim.comparison.trials import default_target, format_spread, rarest, rows_of
from fedsim.comparison.tuning import Tuning
from fedsim.errors import OutputError
from fedsim.report.page import Page, Picture, Section, write_page
from fedsim.report.tables import Table, markdown, print_block, print_tables

LONG = 24  # drives; a longer table is folded on the page
ABOUT_CURVES = ("mIoU of every row over rounds, over the bytes that its cars have sent and received, over the pictures "
                "that they have seen, and over the steps that follow one another. Lines are means over seeds, bands "
                "reach from the lowest to the highest seed. A dashed or dotted level is the last score of a row that "
                "sends nothing.")
ABOUT_CLASSES = "IoU of every class after the last round; a whisker is the deviation over seeds."


def judge(findings: Findings, target: float | None, tuning: Tuning | None) -> Comparison:
    """Judge runs by a target mIoU; None is the default target. Raises SettingsError if they cannot be compared."""
    rows, classes = rows_of(findings.trials), findings.classes.names
    return Comparison(rows, classes, rarest(classes, findings.trained, findings.scored),
                      default_target(rows) if target is None else target, tuning)


def write_report(comparison: Comparison, findings: Findings, troubles: Sequence[str], command: str,
                 folder: Path) -> None:
    """Write the tables, with figures and a page, into a folder, and print them. Raises OutputError.

    troubles: sentences on failed runs, which make the numbers doubtful; command: the one that repeats the comparison.
    """
    warned = [*troubles, *warnings(comparison)]
    try:
        written = _write_files(comparison, findings, warned, command, folder)
    except OSError as error:
        raise OutputError(f"cannot write the report in {folder} ({error.strerror or error}); make room, then compare "
                          "again") from error
    finally:
        print_tables(_first_tables(comparison))
        for line in (*notes(comparison), *(f"WARNING: {warning}" for warning in warned)):
            print(line)
    print_block("Written", written)


def _write_files(comparison: Comparison, findings: Findings, warned: Sequence[str], command: str,
                 folder: Path) -> list[Path]:
    """Write figures, texts and a page of both; return their paths, the page first. Raises OSError."""
    # Here, because matplotlib takes long to import.
    from fedsim.comparison.figures import classes_figure, curves_figure, scenes_figure
    from fedsim.report.figures import save_png, to_svg

    figures = {"curves.png": curves_figure(comparison.rows),
               "classes.png": classes_figure(comparison.rows, comparison.classes),
               "scenes.png": scenes_figure(findings.shown, _predictions(comparison, findings), findings.classes)}
    for name, figure in figures.items():
        save_png(figure, folder / name)
    texts = {"report.md": _markdown(comparison, warned, command, figures), "table.csv": run_csv(comparison),
             "summary.csv": summary_csv(comparison), "table.tex": latex(comparison)}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", errors="replace")
    page = _page(comparison, warned, command, to_svg(figures["curves.png"]), to_svg(figures["classes.png"]),
                 (folder / "scenes.png").read_bytes())
    write_page(page, folder / "index.html")
    return [folder / name for name in ("index.html", *texts, *figures)]


def _first_tables(comparison: Comparison) -> list[Table]:
    """Return the tables that are printed, and stand first in the report."""
    return [score_table(comparison), *_own_test_tables(comparison), *_drive_tables(comparison), cost_table(comparison),
            *_choice_tables(comparison)]


def _own_test_tables(comparison: Comparison) -> list[Table]:
    """Return the table of scores on the cars' held-out scenes, in a list that is empty if no run has such scenes."""
    table = own_test_table(comparison.rows)
    return [table] if table.rows else []


def _drive_tables(comparison: Comparison) -> list[Table]:
    """Return the table of mIoU by drive, in a list that is empty if there are not several drives."""
    table = drive_table(comparison)
    return [table] if table.rows else []


def _choice_tables(comparison: Comparison) -> list[Table]:
    """Return the tables of learning rates and of settings that differ, if there are any."""
    tables = [tuning_table(comparison.tuning)] if comparison.tuning else []
    differing = settings_table(comparison)
    return [*tables, differing] if differing.rows else tables


def _predictions(comparison: Comparison, findings: Findings) -> dict[str, list[np.ndarray]]:
    """Return label of a row -> predictions of its first seed that has a model."""
    return {row.label: findings.predictions[paths[0]] for row in comparison.rows
            if (paths := [trial.path for trial in row.trials if trial.path in findings.predictions])}


def _title(comparison: Comparison) -> tuple[str, str]:
    rows, settings = comparison.rows, comparison.rows[0].trials[0].settings
    seeds = len({trial.settings.seed for row in rows for trial in row.trials})
    runs = sum(len(row.trials) for row in rows)
    return (f"{', '.join(row.label for row in rows)} on {settings.data}",
            f"{runs} runs, {seeds} {'seed' if seeds == 1 else 'seeds'}, scored on the {comparison.scored.name}")


def _markdown(comparison: Comparison, warned: Sequence[str], command: str, figures: Iterable[str]) -> str:
    title, subtitle = _title(comparison)
    tables = [*_first_tables(comparison), class_table(comparison), run_table(comparison)]
    return "\n\n".join([
        f"# {title}", f"{subtitle}. Made by `{command}`.", *(f"**Warning**: {warning}." for warning in warned),
        *map(markdown, tables), "## Notes", "\n".join(f"- {note}" for note in notes(comparison)),
        *(f"![{name.removesuffix('.png')}]({name})" for name in figures)]) + "\n"


def _page(comparison: Comparison, warned: Sequence[str], command: str, curves: str, classes: str,
          scenes: bytes) -> Page:
    """Lay out the page. curves, classes: <svg> elements; scenes: a PNG."""
    title, subtitle = _title(comparison)
    labels = ", ".join(row.label for row in comparison.rows)
    about = [Section("How they were made", tables=_choice_tables(comparison))] if _choice_tables(comparison) else []
    return Page(title, subtitle, [(row.label, format_spread(row.final, len(row.trials))) for row in comparison.rows], [
        Section("Scores", warnings=warned, tables=[
            score_table(comparison), *_own_test_tables(comparison), cost_table(comparison)]),
        Section("How to read them", text=notes(comparison)),
        Section("Curves", pictures=[Picture(curves, ABOUT_CURVES, f"mIoU of {labels}")]),
        *(Section("Drives", tables=[table], folded=len(table.rows) > LONG) for table in _drive_tables(comparison)),
        Section("Classes", tables=[class_table(comparison)],
                pictures=[Picture(classes, ABOUT_CLASSES, f"IoU by class of {labels}")]),
        Section("Scenes", pictures=[Picture(
            scenes, "Scenes of the evaluated split, their truth, and the predictions of each row's first "
            "seed.", f"Scenes, truth and predictions of {labels}")]),
        *about,
        Section("Runs", commands=[command], tables=[run_table(comparison)], folded=True)])
