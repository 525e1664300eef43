"""What TensorBoard's Custom Scalars page shows: all cars in one chart, the global model, FedADMM's residuals, costs.

A chart names tags by regular expressions and shows every run that has one.
"""

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from tensorboard.util.tensor_util import make_tensor_proto

TAG = metadata.CONFIG_SUMMARY_TAG

# Three charts stand in a row.
_CARS = {
    "training loss": ["train_loss/round"], "training mIoU": ["train_miou"], "drift ‖w − θ‖": ["drift"],
    "training loss of local steps": ["train_loss/step"], "gradient norm": ["gradient_norm"],
    "weight norm ‖w‖": ["weight_norm"],
}
_GLOBAL = {
    "mIoU": ["miou", "worst_miou"], "loss": ["loss"], "IoU of every class": ["class_iou/.+"],
    "pixel accuracy": ["pixel_accuracy"], "how far a round moves θ": ["step_norm"], "‖θ‖": ["theta_norm"],
}
_DUALS = {
    "primal and dual residual": ["primal_residual", "dual_residual"], "mean dual ‖Σ pᵢyᵢ‖": ["mean_dual_norm"],
    "dual variables ‖yᵢ‖ of the cars": ["dual_norm"],
}
_COSTS = {"bytes of a round": ["bytes_up", "bytes_down"], "seconds of a round": ["seconds/.+"],
          "pictures a second": ["pictures_per_second"]}


def layout(duals: bool) -> Summary.Value:
    """The page's charts, of the duals only where an algorithm has some."""
    themes = {"Cars": _CARS, "Global model": _GLOBAL, "Residuals and duals": _DUALS if duals else {}, "Costs": _COSTS}
    page = layout_pb2.Layout(category=[
        layout_pb2.Category(title=theme, chart=[_chart(title, tags) for title, tags in charts.items()])
        for theme, charts in themes.items() if charts])
    return Summary.Value(tag=TAG, metadata=metadata.create_summary_metadata(),
                         tensor=make_tensor_proto(page.SerializeToString()))


def _chart(title: str, tags: list[str]) -> layout_pb2.Chart:
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[f"^{tag}$" for tag in tags]))
