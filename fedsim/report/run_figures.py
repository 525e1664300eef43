"""The figures of a run: losses, mIoU, scenes, cars, residuals, classes.

Importing this imports matplotlib, which takes long: import it when there is something to draw.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from fedsim.classes import ClassTable
from fedsim.report.figures import class_legend, legend_columns, save_png, shorten, styled
from fedsim.report.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, line_style
from fedsim.report.scenes import Pictures, tiles
from fedsim.report.words import format_number

# Key of a car's entry -> title of its panel. The loss has a figure of its own, with the global model's.
CAR_PANELS = {"drift": "drift ‖w − θ‖", "dual_norm": "dual norm ‖y‖", "train_miou": "mIoU in training",
              "miou": "mIoU of the car's own model", "gradient_norm": "gradient norm of a local step"}
RESIDUALS = {"primal_residual": "primal residual", "dual_residual": "dual residual", "mean_dual_norm": "mean dual"}
TICKS = 12  # rounds that are named under the classes
LINE_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)  # of cars; black is the global model's
_CAR_LINES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
MARKS = 25  # marks on a curve, at most
MOST_LETTERS = 28  # letters of a car's name in a legend
_NAMED_CARS = 20  # more cars are thin grey lines, with their median
_BASELINE_LINES = ((0, (6, 3)), (0, (2, 2)), (0, (8, 2, 2, 2)), (0, (1, 3)))


def draw_loss(records: list[dict], path: Path) -> Figure:
    """Draw `loss_figure` as a PNG at `path`, and return it."""
    figure = loss_figure(records)
    save_png(figure, path)
    return figure


def loss_figure(records: list[dict]) -> Figure:
    """Draw every car's training loss and the global model's loss against rounds.

    records: lines of metrics.jsonl. A car that does not take part in every round has a mark in each round of its own.
    """
    with styled():
        figure = Figure(figsize=(6.6, 3.8), layout="constrained")
        axes = figure.add_subplot()
        draw_cars(axes, records, "loss")
        rounds, losses = _evaluated(records, "loss")
        axes.plot(rounds, losses, color="black", linewidth=2, marker="o", markersize=3, zorder=3,
                  markevery=marks(len(rounds)), label=_model_name(records))
        axes.set(xlabel="round", ylabel="loss", xlim=(0, 1.02 * max(1, records[-1]["round"])))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        # The global model comes first, because the figure is about it. The cars follow under a heading without a line.
        *car_lines, model_line = axes.get_legend_handles_labels()[0]
        heading = Line2D([], [], linestyle="none", label="cars, in training:")
        figure.legend(handles=[model_line, heading, *car_lines], loc="outside right upper", handlelength=2.6,
                      labelspacing=0.35)
    return figure


def draw_miou(records: list[dict], path: Path, baselines: dict[str, float]) -> Figure:
    """Draw `miou_figure` as a PNG at `path`, and return it."""
    figure = miou_figure(records, baselines)
    save_png(figure, path)
    return figure


def miou_figure(records: list[dict], baselines: dict[str, float]) -> Figure:
    """Draw mIoU against pictures seen and against sequential local steps, side by side, in the algorithm's colour.

    baselines: name -> mIoU of a trivial answer; each has a dashed line.
    """
    with styled():
        # The padding, in inches, keeps the last number of one axis from the other's first.
        figure = Figure(figsize=(6.6, 3.2), layout=ConstrainedLayoutEngine(w_pad=0.1))
        left, right = figure.subplots(1, 2, sharey=True)
        line = line_style(records[-1]["algo"])
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


def draw_segmentation(images: Pictures, labels: Pictures, predictions: Pictures, classes: ClassTable,
                      path: Path, names: Sequence[str]) -> None:
    """Draw scenes, truth and predictions with their titles and the classes' colours, as a PNG at `path`.

    images: K of (h, w, 3) uint8 RGB; labels, predictions: K of (h, w) uint8 class index or VOID; sizes may
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
    with styled(grid=None):
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
                    axes.set_title(shorten(names[column], tile), fontsize=7, pad=3)
                if column == 0:
                    axes.set_ylabel(row_title, fontsize=8, labelpad=3)
        class_legend(figure, classes, legend_columns)
        save_png(figure, path)


def cars_figure(records: list[dict]) -> Figure | None:
    """Draw each number of the cars but the loss against rounds, in a panel of its own; None without any number."""
    keys = [key for key in CAR_PANELS if any(number_in(entry, key) is not None
                                             for record in records for entry in record["cars"])]
    if not keys:
        return None
    rows = -(-len(keys) // 2)
    with styled():
        figure = Figure(figsize=(6.6, 2.3 * rows + 0.5), layout="constrained")
        panels = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes, key in zip(panels, keys, strict=False):
            draw_cars(axes, records, key)
            _set_rounds(axes, records)
            axes.set_title(CAR_PANELS[key], loc="left")
            axes.set_ylim(bottom=0)
        for axes in panels[len(keys):]:
            axes.set_axis_off()
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=legend_columns(labels), handlelength=2.6)
    return figure


def residual_figure(records: list[dict]) -> Figure | None:
    """Draw FedADMM's residuals, on a logarithmic scale, and its penalty against rounds; None for other algorithms."""
    if not any(number_in(record, key) is not None for record in records for key in RESIDUALS):
        return None
    with styled():
        figure = Figure(figsize=(6.6, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        for index, (key, name) in enumerate(RESIDUALS.items()):
            _draw_curve(left, records, key, color=LINE_COLOURS[index], label=name, positive=True)
        if any(line.get_ydata().size for line in left.lines):
            left.set_yscale("log")
            left.yaxis.set_major_formatter(FuncFormatter(lambda norm, _: f"{norm:g}"))
            left.yaxis.set_minor_formatter(NullFormatter())
        _set_rounds(left, records)
        left.set_title("norms", loc="left")
        _draw_curve(right, records, "rho", color="black", label=None)
        _set_rounds(right, records)
        right.set_title("penalty ρ", loc="left")
        right.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=len(RESIDUALS), handlelength=2.6)
    return figure


def class_figure(records: list[dict], classes: ClassTable) -> Figure | None:
    """Draw the IoU of every class over rounds, and the latest as bars; None if no round was evaluated."""
    scored = [record for record in records if record["global"]]
    if not scored:
        return None
    ious = np.array([[number_in(record["global"]["class_iou"], name) for record in scored]
                     for name in classes.names], dtype=np.float64)  # (C, scored rounds), NaN: in neither
    count = len(classes)
    with styled(grid=None):
        figure = Figure(figsize=(6.6, 1.1 + 0.2 * count), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        left.set_facecolor("#bbbbbb")
        drawn = left.imshow(np.ma.masked_invalid(ious), aspect="auto", interpolation="nearest", cmap="viridis",
                            vmin=0, vmax=1)
        step = -(-len(scored) // TICKS)
        left.set_xticks(range(0, len(scored), step), [record["round"] for record in scored[::step]])
        left.set_yticks(range(count), classes.names)
        left.set(xlabel="round", title="IoU by round (grey: class in neither)")
        figure.colorbar(drawn, ax=left, location="left", aspect=30, pad=0.02)
        latest = ious[:, -1]
        right.barh(range(count), np.nan_to_num(latest), height=0.7, linewidth=0.5, edgecolor="#555555",
                   color=["#{:02x}{:02x}{:02x}".format(*colour) for colour in classes.colours])
        for row, iou in enumerate(latest):
            right.text(np.nan_to_num(iou) + 0.015, row, format_number(None if np.isnan(iou) else iou, ".2f"),
                       va="center", fontsize=7)
        right.tick_params(axis="y", length=0)
        right.set(xlim=(0, 1.12), xticks=[0, 0.5, 1], title=f"IoU after round {scored[-1]['round']}", xlabel="IoU")
    return figure


def _draw_curve(axes: Axes, records: list[dict], key: str, color: str, label: str | None,
                positive: bool = False) -> None:
    """Draw a number of the records against rounds. positive: leave out what a logarithmic scale cannot show."""
    points = [(record["round"], value) for record in records
              if (value := number_in(record, key)) is not None and (value > 0 or not positive)]
    axes.plot([round_number for round_number, _ in points], [value for _, value in points], color=color, linewidth=1.5,
              marker="o", markersize=3, markevery=marks(len(points)), label=label)


def _set_rounds(axes: Axes, records: list[dict]) -> None:
    axes.set(xlabel="round", xlim=(0, 1.02 * max(1, records[-1]["round"])))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def draw_cars(axes: Axes, records: list[dict], key: str) -> None:
    """Draw the number `key` of every car against rounds; many cars are thin grey lines, with their median."""
    cars = _car_curves(records, key)
    if len(cars) > _NAMED_CARS:
        _draw_many(axes, cars)
        return
    for index, (name, rounds, values) in enumerate(cars):
        axes.plot(rounds, values, color=LINE_COLOURS[index % len(LINE_COLOURS)],
                  linestyle=_CAR_LINES[index // len(LINE_COLOURS)], linewidth=1.3,
                  marker="o" if _has_gaps(rounds) else None, markersize=3, label=_cut_middle(name))


def _draw_many(axes: Axes, cars: list[tuple[str, list[int], list[float]]]) -> None:
    """Draw cars as thin grey lines, in an SVG as one embedded picture, and their median in each round."""
    of_round: dict[int, list[float]] = {}
    for _, rounds, values in cars:
        for round_number, value in zip(rounds, values, strict=True):
            of_round.setdefault(round_number, []).append(value)
    lines = [np.column_stack([rounds, values]) for _, rounds, values in cars]
    axes.add_collection(LineCollection(lines, colors="#999999", alpha=max(0.05, min(0.35, 20 / len(cars))),
                                       linewidths=0.6, rasterized=True, label=f"each of {len(cars)} cars"))
    played = sorted(of_round)
    axes.plot(played, [np.median(of_round[round_number]) for round_number in played], color=LINE_COLOURS[0],
              linewidth=1.8, label="median car", marker="o" if len(played) == 1 else None, markersize=3)
    axes.autoscale_view()


def _car_curves(records: list[dict], key: str) -> list[tuple[str, list[int], list[float]]]:
    """Return (name, rounds, the number `key` in each) of every car that has such a number, in order of cars."""
    curves: dict[int, tuple[str, list[int], list[float]]] = {}
    for record in records:
        for entry in record["cars"]:
            if (value := number_in(entry, key)) is not None:
                _, rounds, values = curves.setdefault(entry["car"], (entry["name"], [], []))
                rounds.append(record["round"])
                values.append(value)
    return [curves[car] for car in sorted(curves)]


def number_in(entry: dict, key: str) -> float | None:
    """Return the number `key` of a record, or of an entry in it; None if it has no such number."""
    value = entry.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _evaluated(records: list[dict], key: str) -> tuple[list[int], list[float]]:
    """Return the rounds that were evaluated, and the global model's `key` in each."""
    scored = [record for record in records if record["global"]]
    return [record["round"] for record in scored], [record["global"][key] for record in scored]


def _has_gaps(rounds: list[int]) -> bool:
    """Return whether a line without marks would hide rounds: a car sat some out, or took part only once."""
    return len(rounds) == 1 or any(later - earlier > 1 for earlier, later in pairwise(rounds))


def marks(points: int) -> int:
    """Return n so that every n-th point of a curve has a mark: all of a short curve, about 20 of a long one."""
    return -(-points // MARKS) or 1


def _amount(amount: float, _: int) -> str:
    """Write a number on an axis, millions in short: they would run into each other."""
    return f"{amount / 1e6:g} M" if amount >= 1e6 else f"{amount:,.0f}"


def _cut_middle(name: str) -> str:
    """Shorten a car's name to what a legend has room for. Names of cars differ at either end."""
    return name if len(name) <= MOST_LETTERS else f"{name[:MOST_LETTERS // 2]}…{name[-MOST_LETTERS // 2 + 1:]}"


def _model_name(records: list[dict]) -> str:
    """Return the name of what records have under `global`."""
    return "mean of cars' own models" if any("worst" in record for record in records) else "global model"
