"""Figures that only the page of a run has. Importing this imports matplotlib: do it when there is something to draw."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from fedsim.classes import ClassTable
from fedsim.report.figures import LINE_COLOURS, STYLE, draw_cars, legend_columns, marks, number_in

# Key of a car's entry -> what it is. The loss has a figure of its own, with the global model's.
CAR_PANELS = {"drift": "drift ‖w − θ‖", "dual_norm": "dual norm ‖y‖", "train_miou": "mIoU in training",
              "miou": "mIoU of the car's own model", "gradient_norm": "gradient norm of a local step"}
RESIDUALS = {"primal_residual": "primal residual", "dual_residual": "dual residual", "mean_dual_norm": "mean dual"}
TICKS = 12  # rounds that are named under the classes


def cars_figure(records: list[dict]) -> Figure | None:
    """What the cars' entries have beside the loss, a panel each, against rounds; None where they have nothing."""
    keys = [key for key in CAR_PANELS if any(number_in(entry, key) is not None
                                             for record in records for entry in record["cars"])]
    if not keys:
        return None
    rows = -(-len(keys) // 2)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 2.3 * rows + 0.5), layout="constrained")
        panels = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes, key in zip(panels, keys, strict=False):
            draw_cars(axes, records, key)
            _by_round(axes, records)
            axes.set_title(CAR_PANELS[key], loc="left")
            axes.set_ylim(bottom=0)
        for axes in panels[len(keys):]:
            axes.set_axis_off()
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=legend_columns(labels), handlelength=2.6)
    return figure


def residual_figure(records: list[dict]) -> Figure | None:
    """FedADMM's residuals on a logarithmic scale, and its penalty, against rounds; None of another algorithm."""
    if not any(number_in(record, key) is not None for record in records for key in RESIDUALS):
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        for index, (key, name) in enumerate(RESIDUALS.items()):
            _curve(left, records, key, color=LINE_COLOURS[index], label=name, positive=True)
        if any(line.get_ydata().size for line in left.lines):
            left.set_yscale("log")
            left.yaxis.set_major_formatter(FuncFormatter(lambda norm, _: f"{norm:g}"))
            left.yaxis.set_minor_formatter(NullFormatter())
        _by_round(left, records)
        left.set_title("norms", loc="left")
        _curve(right, records, "rho", color="black", label=None)
        _by_round(right, records)
        right.set_title("penalty ρ", loc="left")
        right.set_ylim(bottom=0)
        figure.legend(loc="outside lower center", ncols=len(RESIDUALS), handlelength=2.6)
    return figure


def class_figure(records: list[dict], classes: ClassTable) -> Figure | None:
    """IoU of every class over the evaluated rounds, and the latest as bars; None where nothing was evaluated."""
    scored = [record for record in records if record["global"]]
    if not scored:
        return None
    ious = np.array([[number_in(record["global"]["class_iou"], name) for record in scored]
                     for name in classes.names], dtype=np.float64)  # (C, scored rounds), NaN: in neither
    count = len(classes)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(6.6, 1.1 + 0.2 * count), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        left.set_facecolor("#bbbbbb")
        drawn = left.imshow(np.ma.masked_invalid(ious), aspect="auto", interpolation="nearest", cmap="viridis",
                            vmin=0, vmax=1)
        step = -(-len(scored) // TICKS)
        left.set_xticks(range(0, len(scored), step), [scored[place]["round"] for place in range(0, len(scored), step)])
        left.set_yticks(range(count), classes.names)
        left.set(xlabel="round", title="IoU by round (grey: class in neither)")
        figure.colorbar(drawn, ax=left, location="left", aspect=30, pad=0.02)
        latest = ious[:, -1]
        right.barh(range(count), np.nan_to_num(latest), height=0.7, linewidth=0.5, edgecolor="#555555",
                   color=["#{:02x}{:02x}{:02x}".format(*colour) for colour in classes.colours])
        for place, iou in enumerate(latest):
            right.text(np.nan_to_num(iou) + 0.015, place, "–" if np.isnan(iou) else f"{iou:.2f}", va="center",
                       fontsize=7)
        right.tick_params(axis="y", length=0)
        right.set(xlim=(0, 1.12), xticks=[0, 0.5, 1], title=f"IoU after round {scored[-1]['round']}", xlabel="IoU")
    return figure


def _curve(axes: Axes, records: list[dict], key: str, color: str, label: str | None, positive: bool = False) -> None:
    """A number of the records against rounds. positive: without what a logarithmic scale cannot show."""
    points = [(record["round"], value) for record in records
              if (value := number_in(record, key)) is not None and (value > 0 or not positive)]
    axes.plot([number for number, _ in points], [value for _, value in points], color=color, linewidth=1.5,
              marker="o", markersize=3, markevery=marks(len(points)), label=label)


def _by_round(axes: Axes, records: list[dict]) -> None:
    axes.set(xlabel="round", xlim=(0, 1.02 * max(1, records[-1]["round"])))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
