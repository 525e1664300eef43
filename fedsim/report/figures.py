"""The look of all figures, and saving them as PNG or SVG.

Importing this imports matplotlib, which takes long: import it when there is something to draw.

Nothing here touches pyplot, so no display is needed and a caller's own figures are left alone.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text

from fedsim.classes import ClassTable
from fedsim.system.names import printable

SCREEN = 1.25  # times the size in print, so that a figure's words are as large as the page's

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8,
    "text.parse_math": False,  # a name may hold a dollar sign
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "axes.axisbelow": True,
    "legend.frameon": False, "lines.solid_capstyle": "round", "savefig.dpi": 200,
    "svg.fonttype": "none", "svg.hashsalt": "fedsim",  # text as text; the same figure, the same file
}


@contextmanager
def styled(grid: Literal["both", "x", "y"] | None = "both") -> Iterator[None]:
    """Draw in the look of all figures, whatever a program or a matplotlibrc has set.

    grid: the axes whose ticks have lines across the figure.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"axes.grid": grid is not None, "axes.grid.axis": grid or "both"})
        yield


def save_png(figure: Figure, target: Path | io.BytesIO, **options: Any) -> None:
    """Draw a figure as a PNG. options: those of `Figure.savefig`. Raises OSError."""
    _save(figure, target, format="png", **options)


def to_svg(figure: Figure) -> str:
    """Draw a figure as an <svg> element for a page that may hold several: text stays text, and there is no date."""
    drawn = io.StringIO()
    _save(figure, drawn, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    element = drawn.getvalue()
    element = element[element.index("<svg "):]
    element = re.sub(r'([\d.]+)pt', lambda size: f"{SCREEN * float(size[1]):.1f}pt", element, count=2)  # width, height
    # matplotlib numbers some ids, so that two figures of a page would share them. The ids that are needed are digests.
    return re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", element)


def _save(figure: Figure, target: Path | io.StringIO | io.BytesIO, **options: Any) -> None:
    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))
    with styled(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in letters that the font lacks has boxes
        _lay_out(figure)
        figure.savefig(target, **options)


def _lay_out(figure: Figure) -> None:
    """Find the places of all that a figure holds, once for all its files.

    `savefig` would find them anew for each file, and draw the whole figure once more for that.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def class_legend(figure: Figure, classes: ClassTable, columns: int) -> None:
    """Name every class's colour, and void's, at the bottom of the figure."""
    named = [*zip(classes.names, classes.colours, strict=True), ("void", classes.void_colour)]
    patches = [Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colour), label=name, edgecolor="#888888",
                     linewidth=0.4) for name, colour in named]
    figure.legend(handles=patches, loc="lower center", ncols=columns, fontsize=7, handlelength=1.2,
                  handleheight=1, columnspacing=1.2, borderaxespad=0.2, labelspacing=0.35)


def legend_columns(labels: list[str]) -> int:
    """Return the number of columns in which a legend of 8 points fits a page of 6.6 inches.

    About 110 letters stand in a row.
    """
    beside = 9  # letters' worth of line and space beside a label
    if sum(len(label) + beside for label in labels) <= 110:
        return len(labels)
    return max(1, 110 // (max(map(len, labels)) + beside))


def shorten(name: str, inches: float) -> str:
    """Return the end of a scene's name that fits at 7 points. Scenes of one drive differ in the ends of their names."""
    fits = int(inches / 0.062)
    return name if len(name) <= fits else "…" + name[-(fits - 1):]
