"""The heat map of a partition: a row for each car, a column for each class.

Importing this imports matplotlib, which takes long: import it when there is something to draw.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from fedsim.classes import ClassTable
from fedsim.report.figures import save_png, styled

LEAST = 1e-4  # smaller shares have its colour; a share of 0 is grey
NAMED_CARS = 60  # if there are more cars, only some are named
NUMBERED_CLASSES = 20  # with more classes, shares are colours without numbers


def draw_heat_map(cars: Sequence[str], classes: ClassTable, shares: np.ndarray, path: Path) -> None:
    """Draw `heat_map` as a PNG at `path`."""
    save_png(heat_map(cars, classes, shares), path)


def heat_map(cars: Sequence[str], classes: ClassTable, shares: np.ndarray) -> Figure:
    """Draw the shares (cars, C) of each car's labelled pixels on a logarithmic scale."""
    count, numbered = len(cars), len(cars) <= NAMED_CARS and len(classes) <= NUMBERED_CLASSES
    with styled(grid=None):
        size = (2.6 + (0.42 if numbered else 0.24) * len(classes), 1.5 + min(0.24 * count, 9.0))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set_facecolor("#bbbbbb")
        drawn = axes.imshow(np.ma.masked_equal(shares, 0), aspect="auto", interpolation="nearest", cmap="viridis",
                            norm=LogNorm(LEAST, 1, clip=True))
        axes.set_xticks(range(len(classes)), classes.names, rotation=45, ha="right", rotation_mode="anchor")
        step = -(-count // NAMED_CARS)
        axes.set_yticks(range(0, count, step), [cars[car] for car in range(0, count, step)], fontsize=7)
        if numbered:
            for (car, label), share in np.ndenumerate(shares):
                text = f"{100 * share:.0f}" if share >= 0.005 else "" if share == 0 else "<1"
                axes.text(label, car, text, ha="center", va="center", fontsize=6,
                          color="black" if share > 0.03 else "white")
        bar = figure.colorbar(drawn, ax=axes, shrink=min(1.0, 2 / size[1] + 0.4))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        axes.set_title("share of a car's labelled pixels, in % (grey: none)", loc="left")
    return figure
