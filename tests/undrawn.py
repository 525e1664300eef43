"""Runs without figures and pages, which take longer than tiny runs."""

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image


def draw_nothing(put: Callable[[object, str, object], None]) -> None:
    """Let figures be dots, and those and the page of a run be empty. put: see draw_no_run."""
    from fedsim.report import figures

    dot = io.BytesIO()
    Image.new("L", (1, 1)).save(dot, "PNG")
    put(figures, "_save", lambda figure, target, **options: save_dot(target, dot.getvalue()))
    draw_no_run(put)


def draw_no_run(put: Callable[[object, str, object], None]) -> None:
    """Let the figures and the page of a run be empty files. put: `setattr`, or pytest's, which undoes it later."""
    from fedsim.report import run, run_figures

    for name in ("draw_loss", "draw_miou"):
        put(run_figures, name, lambda records, path, *others: path.touch())
    put(run_figures, "draw_segmentation", lambda images, labels, shown, classes, path, names: path.touch())
    put(run, "write_run_report", lambda *arguments: arguments[-1].touch())


def save_dot(target: Path | io.StringIO | io.BytesIO, dot: bytes) -> None:
    """Write a dot where a figure would be: a PNG, or in a text an <svg> element."""
    if isinstance(target, io.StringIO):
        target.write('<svg width="1pt" height="1pt"></svg>')
    elif isinstance(target, Path):
        target.write_bytes(dot)
    else:
        target.write(dot)
