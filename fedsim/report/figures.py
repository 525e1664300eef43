"""The figures of a report. Importing this imports matplotlib: do it when there is something to draw.

Nothing here touches pyplot, so no display is needed and a caller's own figures are left alone.
"""

import io
import re
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedsim.classes import ClassTable
from fedsim.report.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, line_of
from fedsim.report.scenes import tiles

LINE_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)  # of cars; black is the global model's
_CAR_LINES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
MARKS = 25
MOST_LETTERS = 28  # of a car's name in a legend
_NAMED_CARS = 20  # of more, thin grey lines and their median
_BASELINE_LINES = ((0, (6, 3)), (0, (2, 2)), (0, (8, 2, 2, 2)), (0, (1, 3)))

SCREEN = 1.25  # times the size in print, so that a figure's words are as large as the page's

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8,
    "text.parse_math": False,  # a name may hold a dollar sign
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "axes.grid": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "axes.axisbelow": True,
    "legend.frameon": False, "lines.solid_capstyle": "round", "savefig.dpi": 200,
    "svg.fonttype": "none", "svg.hashsalt": "fedsim",  # text as text; the same figure, the same file
}


def save_png(figure: Figure, path: Path) -> None:
    """Draw a figure as a PNG at `path`. Raises OSError."""
    _save(figure, path, format="png")


def to_svg(figure: Figure) -> str:
    """Draw a figure as an <svg> element that may stand among others in one page: text is text, no date."""
    drawn = io.StringIO()
    _save(figure, drawn, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    element = drawn.getvalue()
    element = element[element.index("<svg "):]
    element = re.sub(r'([\d.]+)pt', lambda size: f"{SCREEN * float(size[1]):.1f}pt", element, count=2)  # width, height
    # Ids that are only counted would stand in a page once a figure; those that are pointed at are digests.
    return re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", element)


def _save(figure: Figure, target: Path | io.StringIO, **options: Any) -> None:
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in letters that the font lacks has boxes
        figure.savefig(target, **options)


def draw_loss(records: list[dict], path: Path) -> None:
    """Draw `loss_figure` as a PNG at `path`."""
    save_png(loss_figure(records), path)


def loss_figure(records: list[dict]) -> Figure:
    """Every car's training loss and the global model's loss against rounds.

    records: lines of metrics.jsonl. A car that takes part in some rounds only has a mark in each of them.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 3.8), layout="constrained")
        axes = figure.add_subplot()
        draw_cars(axes, records, "loss")
        rounds, losses = _evaluated(records, "loss")
        axes.plot(rounds, losses, color="black", linewidth=2, marker="o", markersize=3, zorder=3,
                  markevery=marks(len(rounds)), label=_model_name(records))
        axes.set(xlabel="round", ylabel="loss (cross-entropy)", xlim=(0, 1.02 * max(1, records[-1]["round"])))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        # The global model first: it is what the figure is about. The cars under a heading without a line.
        *car_lines, model_line = axes.get_legend_handles_labels()[0]
        heading = Line2D([], [], linestyle="none", label="cars, in training:")
        figure.legend(handles=[model_line, heading, *car_lines], loc="outside right upper", handlelength=2.6,
                      labelspacing=0.35)
    return figure


def draw_miou(records: list[dict], path: Path, baselines: dict[str, float]) -> None:
    """Draw `miou_figure` as a PNG at `path`."""
    save_png(miou_figure(records, baselines), path)


def miou_figure(records: list[dict], baselines: dict[str, float]) -> Figure:
    """mIoU against pictures seen and against sequential local steps, side by side, in the algorithm's colour.

    baselines: name -> mIoU of a trivial answer, a dashed line each.
    """
    with matplotlib.rc_context(STYLE):
        # The padding, in inches, keeps the last number of one axis from the other's first.
        figure = Figure(figsize=(6.6, 3.2), layout=ConstrainedLayoutEngine(w_pad=0.1))
        left, right = figure.subplots(1, 2, sharey=True)
        line = line_of(records[-1]["algo"])
        scored = [record for record in records if record["global"] and record["global"]["miou"] is not None]
        for axes, key, label in ((left, "pictures", "pictures seen by all cars"),
                                 (right, "sequential_steps", "sequential local steps")):
            amounts = [record[key] for record in scored]
            axes.plot(amounts, [record["global"]["miou"] for record in scored], color=line.colour,
                      linestyle=line.dash, linewidth=1.8, marker=line.marker, markersize=3,
                      markevery=marks(len(amounts)), label=_model_name(records))
            worst = [(record[key], record["worst"]["miou"]) for record in scored if "worst" in record]
            if worst:
                axes.plot(*zip(*worst, strict=True), color=line.colour, linewidth=1.0, marker="v", markersize=2,
                          markevery=marks(len(worst)), label="worst car")
            for index, (name, miou) in enumerate(baselines.items()):
                axes.axhline(miou, color="#666666", linewidth=1.1, label=f"{name} ({miou:.2f})",
                             linestyle=_BASELINE_LINES[index % len(_BASELINE_LINES)])
            axes.set(xlabel=label, xlim=(0, 1.02 * max([1, *amounts])))
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(_amount))
        top = max([*baselines.values(), *(record["global"]["miou"] for record in scored)], default=1.0)
        left.set(ylabel="mIoU", ylim=(0, min(1.0, 1.1 * top) or 1.0))
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=legend_columns(labels), handlelength=3)
    return figure


def draw_segmentation(images: np.ndarray, labels: np.ndarray, predictions: np.ndarray, classes: ClassTable,
                      path: Path, names: Sequence[str]) -> None:
    """Draw scenes, truth and predictions with their titles and the classes' colours, as a PNG at `path`.

    images: (K, h, w, 3) uint8 RGB; labels, predictions: (K, h, w) uint8 class index or VOID, sizes may
    differ; names: the K scenes' names.
    """
    rows = tiles(images, labels, predictions, classes)
    count, height, width = rows.shape[1:4]
    # Inches: tiles share the width of a text column pair; a single scene is not blown up to all of it.
    tile = min(2.4, 7.0 / count)
    legend_columns = 4 if tile * count < 4.5 else 6
    legend_rows = -(-(len(classes) + 1) // legend_columns)
    title, gap, side = 0.22, 0.04, 0.25
    page_width = max(tile * count + gap * (count - 1) + 2 * side, 4.6)
    tile_height = tile * height / width
    page_height = title + 3 * tile_height + 2 * gap + 0.08 + 0.15 * legend_rows + 0.06
    margin = (page_width - tile * count - gap * (count - 1)) / 2
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(page_width, page_height))
        for row, row_title in enumerate(("scene", "truth", "prediction")):
            bottom = page_height - title - (row + 1) * tile_height - row * gap
            for column in range(count):
                left = margin + column * (tile + gap)
                axes = figure.add_axes((left / page_width, bottom / page_height,
                                        tile / page_width, tile_height / page_height))
                axes.imshow(rows[row, column], interpolation="nearest", aspect="auto")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if row == 0:
                    axes.set_title(shortened(names[column], tile), fontsize=7, pad=3)
                if column == 0:
                    axes.set_ylabel(row_title, fontsize=8, labelpad=3)
        class_legend(figure, classes, legend_columns)
        figure.savefig(path, format="png")


def class_legend(figure: Figure, classes: ClassTable, columns: int) -> None:
    """Name every class's colour, and void's, at the bottom of the figure."""
    named = [*zip(classes.names, classes.colours, strict=True), ("void", classes.void_colour)]
    patches = [Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colour), label=name, edgecolor="#888888",
                     linewidth=0.4) for name, colour in named]
    figure.legend(handles=patches, loc="lower center", ncols=columns, fontsize=7, handlelength=1.2,
                  handleheight=1, columnspacing=1.2, borderaxespad=0.2, labelspacing=0.35)


def draw_cars(axes: Axes, records: list[dict], key: str) -> None:
    """Draw what every car's entries have under `key` against rounds; of many cars, thin grey lines and their median."""
    cars = _car_curves(records, key)
    if len(cars) > _NAMED_CARS:
        _draw_many(axes, cars)
        return
    for index, (name, rounds, values) in enumerate(cars):
        axes.plot(rounds, values, color=LINE_COLOURS[index % len(LINE_COLOURS)],
                  linestyle=_CAR_LINES[index // len(LINE_COLOURS)], linewidth=1.3,
                  marker="o" if _has_gaps(rounds) else None, markersize=3, label=_middle_left_out(name))


def _draw_many(axes: Axes, cars: list[tuple[str, list[int], list[float]]]) -> None:
    """Draw cars as thin grey lines, as one picture inside an SVG, and their median in each round."""
    of_round: dict[int, list[float]] = {}
    for _, rounds, values in cars:
        for number, value in zip(rounds, values, strict=True):
            of_round.setdefault(number, []).append(value)
    lines = [np.column_stack([rounds, values]) for _, rounds, values in cars]
    axes.add_collection(LineCollection(lines, colors="#999999", alpha=max(0.05, min(0.35, 20 / len(cars))),
                                       linewidths=0.6, rasterized=True, label=f"each of {len(cars)} cars"))
    numbers = sorted(of_round)
    axes.plot(numbers, [np.median(of_round[number]) for number in numbers], color=LINE_COLOURS[0],
              linewidth=1.8, label="median car", marker="o" if len(numbers) == 1 else None, markersize=3)
    axes.autoscale_view()


def _car_curves(records: list[dict], key: str) -> list[tuple[str, list[int], list[float]]]:
    """Of every car that has a number under `key`, in order of cars: its name, its rounds and the number in each."""
    found: dict[int, tuple[str, list[int], list[float]]] = {}
    for record in records:
        for entry in record["cars"]:
            if (value := number_in(entry, key)) is not None:
                _, rounds, values = found.setdefault(entry["car"], (entry["name"], [], []))
                rounds.append(record["round"])
                values.append(value)
    return [found[car] for car in sorted(found)]


def number_in(part: dict, key: str) -> float | None:
    """A number of a record or of a part of one; None where there is none."""
    value = part.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _evaluated(records: list[dict], key: str) -> tuple[list[int], list[float]]:
    """The rounds that were evaluated, and the global model's `key` in each."""
    pairs = [(record["round"], record["global"][key]) for record in records if record["global"]]
    return [number for number, _ in pairs], [value for _, value in pairs]


def _has_gaps(rounds: list[int]) -> bool:
    """Whether a car sat out rounds between its first and its last; a single round needs its mark too."""
    return len(rounds) == 1 or any(later - earlier > 1 for earlier, later in pairwise(rounds))


def marks(points: int) -> int:
    """Of how many points of a curve one has a mark: all of a short curve, about twenty of a long one."""
    return -(-points // MARKS) or 1


def _amount(amount: float, _: int) -> str:
    """A number on an axis; millions would run into each other."""
    return f"{amount / 1e6:g} M" if amount >= 1e6 else f"{amount:,.0f}"


def _middle_left_out(name: str) -> str:
    """A name in no more letters than a legend has room for; cars are told apart by either end."""
    return name if len(name) <= MOST_LETTERS else f"{name[:MOST_LETTERS // 2]}…{name[-MOST_LETTERS // 2 + 1:]}"


def legend_columns(labels: list[str]) -> int:
    """In how many columns a legend of 8 points fits a page of 6.6 inches: about 110 letters a row."""
    beside = 9  # letters' worth of line and space beside a label
    if sum(len(label) + beside for label in labels) <= 110:
        return len(labels)
    return max(1, 110 // (max(map(len, labels)) + beside))


def _model_name(records: list[dict]) -> str:
    """What `global` is: the global model, or the mean of cars that never communicate."""
    return "mean of cars' own models" if any("worst" in record for record in records) else "global model"


def shortened(name: str, inches: float) -> str:
    """The end of a name, which tells scenes of one drive apart, in as much as fits at 7 points."""
    fits = int(inches / 0.062)
    return name if len(name) <= fits else "…" + name[-(fits - 1):]
