"""TensorBoard event files: one run for the coordinator, one for each car.

    tensorboard/
      coordinator/           x-axis: round
        loss/round             loss of the global model on the evaluated split
        miou, pixel_accuracy   of the global model
        class_iou/<Class>      left out where a class is in neither labels nor predictions
        worst_miou             of the worst car's own model, where cars never communicate
        primal_residual, dual_residual, mean_dual_norm, rho      ADMM alone
        lr
        panel                  picture: scenes, truth, prediction
      car-00-<name>/         x-axis: round, but for loss/step
        loss/step              x-axis: the car's local steps since the start of the run, the first is 1
        loss/round             mean training loss of the round
        drift, dual_norm, miou, own_loss      where the record has them

A tag means the same in every run, so TensorBoard lays the cars, and the coordinator, over each other.

The events go through tensorboard's RecordWriter at once: SummaryWriter takes six times as long a scalar
(89 against 14 µs on one CPU core) and starts a thread for every car.
"""

import os
import re
import time
from pathlib import Path
from types import TracebackType

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

PREFIX = "events.out.tfevents."  # of the name of an event file; the time that it was made follows
NAME = re.compile(re.escape(PREFIX) + r"\d+\.\d{6}")
MAX_CARS = 64  # with a run of its own: more than TensorBoard shows legibly, fewer than open files allowed

# key of a record, or of one of its parts -> tag
_GLOBAL_TAGS = {"loss": "loss/round", "miou": "miou", "pixel_accuracy": "pixel_accuracy"}
_COORDINATOR_TAGS = {key: key for key in ("primal_residual", "dual_residual", "mean_dual_norm", "rho", "lr")}
_CAR_TAGS = {"loss": "loss/round", "drift": "drift", "dual_norm": "dual_norm",
             "miou": "miou", "own_loss": "own_loss"}


class TensorBoard:
    """The event files of a run, under one directory. Of more than 64 cars, the first 64 are written."""

    def __init__(self, directory: Path, car_names: list[str], records: list[dict]) -> None:
        """Open the coordinator's event file. A car's is opened when it first takes part.

        records: of the rounds so far; events of later ones, which a run that was killed has left, are removed.
        """
        self._directory = Path(directory)
        self._car_names = car_names
        self._cars: dict[int, _EventFile] = {}
        self._steps: dict[int, int] = {}  # car -> its local steps so far
        for record in records:
            for entry in record["cars"]:
                self._steps[entry["car"]] = self._steps.get(entry["car"], 0) + entry["steps"]
        last = records[-1]["round"] if records else -1
        _cut(self._directory / "coordinator", last, 0)
        for car in range(min(len(car_names), MAX_CARS)):
            _cut(self._folder(car), last, self._steps.get(car, 0))
        self._coordinator = _EventFile(self._directory / "coordinator")

    def log_round(self, record: dict, step_losses: dict[int, list[float]]) -> None:
        """Write a round. record: a line of metrics.jsonl; step_losses: car -> loss of each local step."""
        number = record["round"]
        scalars = _pick(record["global"] or {}, _GLOBAL_TAGS) | _pick(record, _COORDINATOR_TAGS)
        for name, iou in (record["global"] or {}).get("class_iou", {}).items():
            if iou is not None:
                scalars[f"class_iou/{name}"] = iou
        if "worst" in record:
            scalars["worst_miou"] = record["worst"]["miou"]
        self._coordinator.write_scalars(number, scalars)
        for car, losses in step_losses.items():
            if car < MAX_CARS:
                first = self._steps.get(car, 0) + 1
                for step, loss in enumerate(losses, start=first):
                    self._car(car).write_scalars(step, {"loss/step": loss})
                self._steps[car] = first - 1 + len(losses)
        for entry in record["cars"]:
            if entry["car"] < MAX_CARS:
                self._car(entry["car"]).write_scalars(number, _pick(entry, _CAR_TAGS))
        self._flush()

    def log_panel(self, round: int, panel: np.ndarray) -> None:
        """Write a picture of the round, (H, W, 3) uint8 RGB, as made by `fedsim.record.panel`."""
        self._coordinator.write_picture(round, "panel", panel)
        self._flush()

    def close(self) -> None:
        """Close every file."""
        for file in (self._coordinator, *self._cars.values()):
            file.close()

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _car(self, car: int) -> "_EventFile":
        if car not in self._cars:
            self._cars[car] = _EventFile(self._folder(car))
        return self._cars[car]

    def _folder(self, car: int) -> Path:
        name = re.sub(r"[^\w.-]+", "-", self._car_names[car])
        return self._directory / f"car-{car:02d}-{name}"

    def _flush(self) -> None:
        for file in (self._coordinator, *self._cars.values()):
            file.flush()


class _EventFile:
    """One event file in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads a directory's files in order of name: a resumed run's comes after, whatever the clock says.
        latest = max((float(path.name.removeprefix(PREFIX)) for path in _event_files(directory)), default=0.0)
        self._file = open(directory / f"{PREFIX}{max(time.time(), latest + 1):.6f}", "xb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._records.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(step, values)

    def write_picture(self, step: int, tag: str, pixels: np.ndarray) -> None:
        """pixels: (H, W, 3) uint8 RGB."""
        import io

        from PIL import Image

        height, width, channels = pixels.shape
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, format="png")
        picture = Summary.Image(height=height, width=width, colorspace=channels,
                                encoded_image_string=png.getvalue())
        self._write(step, [Summary.Value(tag=tag, image=picture)])

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _write(self, step: int, values: list[Summary.Value]) -> None:
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._records.write(event.SerializeToString())


def _event_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob(f"{PREFIX}*") if NAME.fullmatch(path.name))


def _cut(directory: Path, round: int, steps: int) -> None:
    """Remove the events of later rounds than `round`, and of later local steps than `steps`."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    for path in _event_files(directory):
        events = [Event.FromString(data) for data in RawEventFileLoader(str(path)).Load()]
        kept = [event for event in events
                if event.file_version or event.step <= (steps if _is_of_steps(event) else round)]
        if len(kept) < len(events):
            beside = path.with_name(f".{path.name}.part")
            with open(beside, "wb") as file:
                records = RecordWriter(file)
                for event in kept:
                    records.write(event.SerializeToString())
                records.close()
            os.replace(beside, path)


def _is_of_steps(event: Event) -> bool:
    return any(value.tag == "loss/step" for value in event.summary.value)


def _pick(values: dict, tags: dict[str, str]) -> dict[str, float]:
    """The values that are there, under their tags."""
    return {tag: values[key] for key, tag in tags.items() if values.get(key) is not None}
