"""The figures of a report. Importing this imports matplotlib: do it when there is something to draw.

Nothing here touches pyplot, so no display is needed and a caller's own figures are left alone.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedsim.record.panel import tiles
from fedsim.scenes.classes import ClassTable

# Okabe & Ito 2008, told apart by the colour-blind; black is the global model's, yellow too faint on white.
LINE_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_CAR_LINES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_NAMED_CARS = 20  # of more, thin grey lines and their median
_BASELINE_LINES = ((0, (6, 3)), (0, (2, 2)), (0, (8, 2, 2, 2)), (0, (1, 3)))

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8,
    "text.parse_math": False,  # a name may hold a dollar sign
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "axes.grid": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "axes.axisbelow": True,
    "legend.frameon": False, "lines.solid_capstyle": "round", "savefig.dpi": 200,
}


def draw_loss(records: list[dict], path: Path) -> None:
    """Draw every car's training loss and the global model's loss against rounds, as a PNG at `path`.

    records: lines of metrics.jsonl. A car that takes part in some rounds only has a mark in each of them.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 3.8), layout="constrained")
        axes = figure.add_subplot()
        cars = _car_losses(records)
        if len(cars) > _NAMED_CARS:
            _draw_many(axes, cars)
        else:
            for index, (name, rounds, losses) in enumerate(cars):
                axes.plot(rounds, losses, color=LINE_COLOURS[index % len(LINE_COLOURS)],
                          linestyle=_CAR_LINES[index // len(LINE_COLOURS)], linewidth=1.3,
                          marker="o" if _has_gaps(rounds) else None, markersize=3, label=name)
        rounds, losses = _evaluated(records, "loss")
        axes.plot(rounds, losses, color="black", linewidth=2, marker="o", markersize=3, zorder=3,
                  label=_model_name(records))
        axes.set(xlabel="round", ylabel="loss (cross-entropy)", xlim=(0, 1.02 * max(1, records[-1]["round"])))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        # The global model first: it is what the figure is about. The cars under a heading without a line.
        *car_lines, model_line = axes.get_legend_handles_labels()[0]
        heading = Line2D([], [], linestyle="none", label="cars, in training:")
        figure.legend(handles=[model_line, heading, *car_lines], loc="outside right upper", handlelength=2.6,
                      labelspacing=0.35)
        figure.savefig(path, format="png")


def draw_miou(records: list[dict], path: Path, baselines: dict[str, float]) -> None:
    """Draw mIoU against pictures seen and against sequential local steps, side by side, as a PNG at `path`.

    baselines: name -> mIoU of a trivial answer, a dashed line each.
    """
    with matplotlib.rc_context(STYLE):
        # The padding, in inches, keeps the last number of one axis from the other's first.
        figure = Figure(figsize=(6.6, 3.2), layout=ConstrainedLayoutEngine(w_pad=0.1))
        left, right = figure.subplots(1, 2, sharey=True)
        scored = [record for record in records if record["global"] and record["global"]["miou"] is not None]
        for axes, key, label in ((left, "pictures", "pictures seen by all cars"),
                                 (right, "sequential_steps", "sequential local steps")):
            amounts = [record[key] for record in scored]
            axes.plot(amounts, [record["global"]["miou"] for record in scored], color=LINE_COLOURS[0],
                      linewidth=1.8, marker="o", markersize=3, label=_model_name(records))
            worst = [(record[key], record["worst"]["miou"]) for record in scored if "worst" in record]
            if worst:
                axes.plot(*zip(*worst, strict=True), color=LINE_COLOURS[5], linewidth=1.3, label="worst car")
            for index, (name, miou) in enumerate(baselines.items()):
                axes.axhline(miou, color="#666666", linewidth=1.1, label=f"{name} ({miou:.2f})",
                             linestyle=_BASELINE_LINES[index % len(_BASELINE_LINES)])
            axes.set(xlabel=label, xlim=(0, 1.02 * max([1, *amounts])))
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda amount, _: f"{amount:,.0f}"))
        top = max([*baselines.values(), *(record["global"]["miou"] for record in scored)], default=1.0)
        left.set(ylabel="mIoU", ylim=(0, min(1.0, 1.1 * top) or 1.0))
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=_columns(labels), handlelength=3)
        figure.savefig(path, format="png")


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
                    axes.set_title(_shortened(names[column], tile), fontsize=7, pad=3)
                if column == 0:
                    axes.set_ylabel(row_title, fontsize=8, labelpad=3)
        _class_legend(figure, classes, legend_columns)
        figure.savefig(path, format="png")


def _class_legend(figure: Figure, classes: ClassTable, columns: int) -> None:
    """Name every class's colour, and void's, at the bottom of the figure."""
    named = [*zip(classes.names, classes.colours, strict=True), ("void", classes.void_colour)]
    patches = [Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colour), label=name, edgecolor="#888888",
                     linewidth=0.4) for name, colour in named]
    figure.legend(handles=patches, loc="lower center", ncols=columns, fontsize=7, handlelength=1.2,
                  handleheight=1, columnspacing=1.2, borderaxespad=0.2, labelspacing=0.35)


def _draw_many(axes: Axes, cars: list[tuple[str, list[int], list[float]]]) -> None:
    """Draw cars as thin grey lines, and their median in each round."""
    of_round: dict[int, list[float]] = {}
    for index, (_, rounds, losses) in enumerate(cars):
        axes.plot(rounds, losses, color="#999999", alpha=0.35, linewidth=0.6,
                  label=f"each of {len(cars)} cars" if index == 0 else None)
        for number, loss in zip(rounds, losses, strict=True):
            of_round.setdefault(number, []).append(loss)
    numbers = sorted(of_round)
    axes.plot(numbers, [np.median(of_round[number]) for number in numbers], color=LINE_COLOURS[0],
              linewidth=1.8, label="median car")


def _car_losses(records: list[dict]) -> list[tuple[str, list[int], list[float]]]:
    """Of every car that took part, in order of cars: its name, its rounds and its loss in each of them."""
    found: dict[int, tuple[str, list[int], list[float]]] = {}
    for record in records:
        for entry in record["cars"]:
            _, rounds, losses = found.setdefault(entry["car"], (entry["name"], [], []))
            rounds.append(record["round"])
            losses.append(entry["loss"])
    return [found[car] for car in sorted(found)]


def _evaluated(records: list[dict], key: str) -> tuple[list[int], list[float]]:
    """The rounds that were evaluated, and the global model's `key` in each."""
    pairs = [(record["round"], record["global"][key]) for record in records if record["global"]]
    return [number for number, _ in pairs], [value for _, value in pairs]


def _has_gaps(rounds: list[int]) -> bool:
    """Whether a car sat out rounds between its first and its last; a single round needs its mark too."""
    return len(rounds) == 1 or any(later - earlier > 1 for earlier, later in pairwise(rounds))


def _columns(labels: list[str]) -> int:
    """In how many columns a legend of 8 points fits a page of 6.6 inches: about 110 letters a row."""
    beside = 9  # letters' worth of line and space beside a label
    if sum(len(label) + beside for label in labels) <= 110:
        return len(labels)
    return max(1, 110 // (max(map(len, labels)) + beside))


def _model_name(records: list[dict]) -> str:
    """What `global` is: the global model, or the mean of cars that never communicate."""
    return "mean of cars' own models" if any("worst" in record for record in records) else "global model"


def _shortened(name: str, inches: float) -> str:
    """The end of a name, which tells scenes of one drive apart, in as much as fits at 7 points."""
    fits = int(inches / 0.062)
    return name if len(name) <= fits else "…" + name[-(fits - 1):]
