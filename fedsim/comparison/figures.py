"""The figures of a comparison.

Importing this imports matplotlib, which takes long: import it when there is something to draw.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedsim.classes import ClassTable
from fedsim.comparison.trials import Row, curve, spread
from fedsim.report.figures import class_legend, legend_columns, shorten, styled
from fedsim.report.palette import LineStyle, line_styles
from fedsim.report.scenes import Shown, tiles

AXES = {"round": "round", "megabytes": "MB communicated, up and down", "pictures": "pictures seen by all cars",
        "sequential_steps": "sequential local steps"}
NAME = 2.4  # inches for the name of a model or a car beside a heat map
MOST_NUMBERED = 600  # cells of a heat map that have numbers
BARS = 110  # side by side in a panel, counting the gaps between classes


def curves_figure(rows: Sequence[Row]) -> Figure:
    """Draw mIoU over rounds, bytes, pictures and steps: a line for each row, a band from its worst to its best seed."""
    with styled():
        figure = Figure(figsize=(9.6, 6.2), layout="constrained")
        panels = figure.subplots(2, 2, sharey=True).ravel()
        for axes, (axis, label) in zip(panels, AXES.items(), strict=True):
            for row, line in zip(rows, line_styles([row.algo for row in rows]), strict=True):
                _draw_row(axes, row, axis, line)
            axes.set_xlabel(label)
            axes.set_xlim(0, None)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=axis != "megabytes"))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda amount, _: f"{amount:,.10g}"))
        panels[0].set(ylabel="mIoU", ylim=(0, None))
        panels[2].set(ylabel="mIoU")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=_columns(labels), handlelength=3)
    return figure


def classes_figure(rows: Sequence[Row], classes: Sequence[str]) -> Figure:
    """Draw the IoU of every class after the last round: a bar for each row, with a whisker for the deviation."""
    beside = max(3, BARS // (len(rows) + 2))  # classes in a panel
    groups = [classes[start:start + beside] for start in range(0, len(classes), beside)]
    with styled(grid="y"):
        figure = Figure(figsize=(9.6, 1.2 + 2.1 * len(groups)), layout="constrained")
        panels = figure.subplots(len(groups), 1, squeeze=False).ravel()
        for axes, group in zip(panels, groups, strict=True):
            for index, (row, line) in enumerate(zip(rows, line_styles([row.algo for row in rows]), strict=True)):
                _draw_bars(axes, row, line, group, (index - (len(rows) - 1) / 2) * 0.84 / len(rows), 0.77 / len(rows))
            axes.set_xticks(range(len(group)), group, rotation=30, ha="right", rotation_mode="anchor")
            axes.set(ylabel="IoU", xlim=(-0.6, min(beside, len(classes)) - 0.4), ylim=(0, 1))
            axes.tick_params(axis="x", length=0)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=_columns(labels), handlelength=1.4)
    return figure


def scenes_figure(shown: Shown, predictions: Mapping[str, list[np.ndarray]], classes: ClassTable) -> Figure:
    """Draw each scene, its truth, and the prediction of each row's model side by side.

    predictions: label of a row -> (h, w) uint8 for each scene.
    """
    panels = [tiles(shown.images, shown.labels, labels, classes) for labels in predictions.values() or [shown.labels]]
    columns = dict(zip(["scene", "truth", *predictions],
                       [*panels[0][:2], *(panel[2] for panel in panels[:len(predictions)])], strict=True))
    count, height, width = panels[0].shape[1:4]
    # In inches. A tile is at most half as wide as a column of text, and wide enough for a label above it.
    tile = max(min(1.7, 8.4 / len(columns)), 0.07 * max(map(len, columns)))
    tall, side, title, gap = tile * height / width, 0.17, 0.22, 0.04
    named = max(1, int(tile * len(columns) / 1.2))  # classes side by side in the legend
    legend = 0.14 + 0.15 * -(-(len(classes) + 1) // named)
    page = side + (tile + gap) * len(columns), title + (tall + gap) * count + legend
    with styled(grid=None):
        figure = Figure(figsize=page)
        for column, (label, pictures) in enumerate(columns.items()):
            for line, picture in enumerate(pictures):
                axes = figure.add_axes(((side + column * (tile + gap)) / page[0],
                                        (page[1] - title - (line + 1) * tall - line * gap) / page[1],
                                        tile / page[0], tall / page[1]))
                axes.imshow(picture, interpolation="nearest", aspect="auto")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if line == 0:
                    axes.set_title(label, fontsize=8, pad=3)
                if column == 0:
                    axes.set_ylabel(shorten(shown.names[line], tall), fontsize=6, labelpad=2)
        class_legend(figure, classes, named)
    return figure


def _draw_row(axes: Axes, row: Row, axis: str, line: LineStyle) -> None:
    amount, mean, least, most = curve(row, axis)
    style: dict[str, Any] = {"color": line.colour, "linewidth": 1.6}
    if axis == "megabytes" and not any(amount):  # nothing is sent: a level at the last score
        axes.axhline(mean[-1], linestyle=(0, (6, 3)) if line.dash == "-" else line.dash, label=row.label, **style)
        return
    axes.plot(amount, mean, linestyle=line.dash, marker=line.marker, markersize=3, label=row.label, **style,
              markevery=max(1, len(mean) // 16))
    if len(row.trials) > 1 and all(later >= earlier for earlier, later in pairwise(amount)):
        axes.fill_between(amount, least, most, color=line.colour, alpha=0.15, linewidth=0)


def _draw_bars(axes: Axes, row: Row, line: LineStyle, classes: Sequence[str], shift: float, width: float) -> None:
    """Draw a row's bar in the group of each class. shift: of the bar from the middle of its group."""
    ious = [spread(trial.class_iou([name]) for trial in row.trials) for name in classes]
    whiskers = [iou.deviation or 0.0 if iou else 0.0 for iou in ious] if len(row.trials) > 1 else None
    hatch = None if line.dash == "-" else "////"  # if its line in other figures is dashed
    axes.bar(np.arange(len(classes)) + shift, [iou.mean if iou else 0.0 for iou in ious], width, color=line.colour,
             label=row.label, hatch=hatch, edgecolor="white" if hatch else line.colour, linewidth=0, yerr=whiskers,
             error_kw={"elinewidth": 0.7, "ecolor": "#555555"})


def _columns(labels: list[str]) -> int:
    """Return the number of columns of a legend; these figures are nearly half as wide again as those of a run."""
    return min(len(labels), max(1, round(1.45 * legend_columns(labels))))


def matrix_figure(models: Sequence[str], scenes: Sequence[str], mious: np.ndarray) -> Figure:
    """Draw a heat map of mIoUs (M, S), NaN where there is none: a row for each model, a column for each car's scenes.

    The last column is that of unseen scenes.
    """
    numbered = mious.size <= MOST_NUMBERED
    with styled(grid=None):
        figure = Figure(figsize=(min(14.0, 3.2 + 0.55 * len(scenes)), min(11.0, 1.9 + 0.28 * len(models))),
                        layout="constrained")
        axes = figure.add_subplot()
        axes.set_facecolor("#bbbbbb")
        drawn = axes.imshow(np.ma.masked_invalid(mious), aspect="auto", interpolation="nearest", cmap="viridis")
        axes.axvline(len(scenes) - 1.5, color="white", linewidth=2)
        axes.set_xticks(range(len(scenes)), [shorten(name, NAME) for name in scenes], rotation=45, ha="right",
                        rotation_mode="anchor")
        axes.set_yticks(range(len(models)), [shorten(name, NAME) for name in models])
        least, most = np.nanmin(mious), np.nanmax(mious)
        for (row, column), miou in np.ndenumerate(mious):
            if numbered and not np.isnan(miou):
                axes.text(column, row, f"{miou:.2f}", ha="center", va="center", fontsize=7,
                          color="black" if miou > (least + most) / 2 else "white")
        figure.colorbar(drawn, ax=axes)
        axes.set_title("mIoU of models (rows) on held-out scenes (columns)", loc="left")
    return figure
