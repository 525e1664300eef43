"""TensorBoard's pages on a whole run: its charts, its settings, its partition.

The Custom Scalars page has charts of all cars, of the global model, of FedADMM's residuals and of costs. A chart names
tags by regular expressions and shows every run that has one. The HParams page compares runs by their settings and
scores.
"""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2, summary_v2
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.util.tensor_util import make_tensor_proto

from fedsim.classes import ClassTable
from fedsim.data.partition.skew import jensen_shannon
from fedsim.federation.federation import Car
from fedsim.options import spread_options
from fedsim.report.tables import Table, markdown
from fedsim.report.tensorboard.event_file import picture
from fedsim.report.words import format_number
from fedsim.settings.fields import Settings

LAYOUT = custom_scalar.CONFIG_SUMMARY_TAG
SETTINGS = (hparams.SESSION_START_INFO_TAG, hparams.SESSION_END_INFO_TAG)
PARTITION_TABLE, HEAT_MAP = "partition/table", "partition/heat_map"
TAGS = {LAYOUT, *SETTINGS, PARTITION_TABLE, HEAT_MAP}  # tags of the run as a whole, not of a round

# Three charts stand in a row.
_CARS = {
    "training loss": ["train_loss/round"], "training mIoU": ["train_miou"], "drift ‖w − θ‖": ["drift"],
    "training loss of local steps": ["train_loss/step"], "gradient norm": ["gradient_norm"],
    "weight norm ‖w‖": ["weight_norm"],
}
_GLOBAL = {
    "mIoU": ["miou", "averaged_miou", "worst_miou"],
    "mIoU on the cars' held-out scenes": ["own_test/(mean|worst|others)"], "loss": ["loss", "averaged_loss"],
    "IoU of every class": ["class_iou/.+"],
    "pixel accuracy": ["pixel_accuracy"], "how far a round moves θ": ["step_norm"], "‖θ‖": ["theta_norm"],
}
_DUALS = {
    "primal and dual residual": ["primal_residual", "dual_residual"], "mean dual ‖Σ pᵢyᵢ‖": ["mean_dual_norm"],
    "dual variables ‖yᵢ‖ of the cars": ["dual_norm"],
}
_COSTS = {"bytes of a round": ["bytes_up", "bytes_down"], "seconds of a round": ["seconds/.+"],
          "pictures a second": ["pictures_per_second"]}
# The scores of a run do not depend on where and how it was computed.
_NOT_COMPARED = {setting.name for setting in fields(Settings) if setting.metadata["theme"] == "Machine"} | {"data_root"}
MOST_ROWS = 64  # rows of the partition's table; partition.json has every car


def lay_out_charts(duals: bool) -> Summary.Value:
    """Return the layout of the Custom Scalars page. duals: whether the algorithm has dual variables."""
    themes = {"Cars": _CARS, "Global model": _GLOBAL, "Residuals and duals": _DUALS if duals else {}, "Costs": _COSTS}
    page = layout_pb2.Layout(category=[
        layout_pb2.Category(title=theme, chart=[_chart(title, tags) for title, tags in charts.items()])
        for theme, charts in themes.items() if charts])
    return Summary.Value(tag=LAYOUT, metadata=custom_scalar.create_summary_metadata(),
                         tensor=make_tensor_proto(page.SerializeToString()))


def list_settings(name: str, settings: Mapping[str, Any]) -> Summary.Value:
    """Return a run's row on the HParams page, of the settings that its scores depend on.

    name: of the run; runs of one name would share a row.
    """
    compared = {setting: value for setting, value in spread_options(settings).items()
                if setting not in _NOT_COMPARED}
    return summary_v2.hparams_pb(compared, trial_id=name).value[0]


def mark_end() -> Summary.Value:
    """Return the mark by which the HParams page knows that the run has ended."""
    ended = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
    content = hparams.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended))
    return Summary.Value(tag=hparams.SESSION_END_INFO_TAG, metadata=content, tensor=hparams.NULL_TENSOR)


def tabulate_partition(cars: Sequence[Car], classes: ClassTable, pixels: np.ndarray) -> Summary.Value:
    """Return every car's scenes and classes as a text. pixels: (cars, C) labelled pixels by class."""
    rows = []
    for index, (car, own_pixels, shares) in enumerate(zip(cars[:MOST_ROWS], pixels, _shares(pixels), strict=False)):
        divergence = jensen_shannon(own_pixels, pixels.sum(0)) if own_pixels.any() else None
        rows.append([f"{index:02d} {car.name}", f"{car.images:,}", format_number(divergence, ".4f"),
                     *(format_number(100 * share if share else None, ".1f") for share in shares)])
    left = len(cars) - len(rows)
    text = markdown(Table(
        "What every car has to train on, labelled pixels by class in %" + (
            f"; {left:,} more cars in partition.json" if left else ""),
        ["car", "scenes", "classes: JS from pool, bits", *classes.names], rows))
    return Summary.Value(tag=PARTITION_TABLE, metadata=create_summary_metadata(display_name=None, description=None),
                         tensor=make_tensor_proto(text.encode()))


def draw_partition(cars: Sequence[Car], classes: ClassTable, pixels: np.ndarray) -> Summary.Value:
    """Return the heat map of cars and classes as a picture. pixels: (cars, C) labelled pixels by class."""
    # Here, because matplotlib takes long to import.
    from fedsim.report.figures import save_png
    from fedsim.report.heat_map import heat_map

    png = io.BytesIO()
    save_png(heat_map([car.name for car in cars], classes, _shares(pixels)), png, dpi="figure")
    return picture(HEAT_MAP, png.getvalue())


def _chart(title: str, tags: list[str]) -> layout_pb2.Chart:
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[f"^{tag}$" for tag in tags]))


def _shares(pixels: np.ndarray) -> np.ndarray:
    """Return the share of each class in each car's labelled pixels, (cars, C); 0 for a car without any."""
    return pixels / np.maximum(pixels.sum(1, keepdims=True), 1)
