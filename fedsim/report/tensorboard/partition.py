"""What every car has to train on, as TensorBoard shows it: a table at once, a heat map when there is time to draw."""

import io
from collections.abc import Sequence

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.util.tensor_util import make_tensor_proto

from fedsim.classes import ClassTable
from fedsim.data.partition.skew import jensen_shannon
from fedsim.federation.federation import Car
from fedsim.report.tables import Table, markdown
from fedsim.report.tensorboard.event_file import picture

TABLE, HEAT_MAP = "partition/table", "partition/heat_map"
MOST_ROWS = 64  # of the table; partition.json has every car


def table(cars: Sequence[Car], classes: ClassTable, pixels: np.ndarray) -> Summary.Value:
    """Every car's scenes and classes, as a text. pixels: (cars, C) labelled ones by class."""
    rows = []
    for number, (car, own, shares) in enumerate(zip(cars[:MOST_ROWS], pixels, _shares(pixels), strict=False)):
        divergence = f"{jensen_shannon(own, pixels.sum(0)):.4f}" if own.any() else "–"
        rows.append([f"{number:02d} {car.name}", f"{car.images:,}", divergence,
                     *(f"{100 * share:.1f}" if share else "–" for share in shares)])
    left = len(cars) - len(rows)
    text = markdown(Table(
        "What every car has to train on, labelled pixels by class in %" + (
            f"; {left:,} more cars in partition.json" if left else ""),
        ["car", "scenes", "classes: JS from pool, bits", *classes.names], rows))
    return Summary.Value(tag=TABLE, metadata=create_summary_metadata(display_name=None, description=None),
                         tensor=make_tensor_proto(text.encode()))


def drawing(cars: Sequence[Car], classes: ClassTable, pixels: np.ndarray) -> Summary.Value:
    """Cars against classes, as a picture. Imports matplotlib, which takes long."""
    from fedsim.report.heat_map import heat_map

    png = io.BytesIO()
    heat_map([car.name for car in cars], classes, _shares(pixels)).savefig(png, format="png")
    return picture(HEAT_MAP, png.getvalue())


def _shares(pixels: np.ndarray) -> np.ndarray:
    """Of every class in a car's labelled pixels: (cars, C)."""
    return pixels / np.maximum(pixels.sum(1, keepdims=True), 1)
