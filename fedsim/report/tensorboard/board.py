"""The event files of a run for TensorBoard: the coordinator's and each car's.

TensorBoard treats each of them as a run. A tag means the same in all of them, so that one chart shows the coordinator
and all cars. docs/tensorboard.md lists the tags.
"""

import io
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from fedsim.record.round_record import CarDetail
from fedsim.report.tensorboard import pages
from fedsim.report.tensorboard.event_file import EventFile, cut, picture

MAX_CARS = 64  # that have event files: more than TensorBoard shows legibly, fewer than the limit of open files
STEP_LOSS = "train_loss/step"  # the only tag whose steps are local steps; those of all others are rounds

# key of a record, or of one of its parts -> tag
_GLOBAL_TAGS = {key: key for key in ("loss", "miou", "pixel_accuracy")}
_AVERAGED_TAGS = {key: f"averaged_{key}" for key in ("loss", "miou")}
_OWN_TEST_TAGS = {key: f"own_test/{key}" for key in ("mean", "worst", "others", "deviation", "jain")}
_COORDINATOR_TAGS = {key: key for key in (
    "lr", "theta_norm", "step_norm", "primal_residual", "dual_residual", "mean_dual_norm", "rho",
    "pictures_per_second")}
_RESULT_TAGS = {key: f"result/{key}" for key in ("miou", "loss", "pixel_accuracy", "pictures", "sequential_steps")}
_CAR_TAGS = {"loss": "train_loss/round", "own_loss": "loss"} | {key: key for key in (
    "train_miou", "drift", "gradient_norm", "weight_norm", "dual_norm", "miou", "pictures_per_second")}


class TensorBoard:
    """The event files of a run, under one directory. If there are more than 64 cars, only the first 64 have files."""

    def __init__(self, directory: Path, car_names: list[str], records: list[dict]) -> None:
        """Open the coordinator's event file. A car's is opened when it first takes part.

        records: of the rounds so far. Two kinds of events are removed: those of later rounds, which a run that was
        killed has left, and those of the run as a whole, which will be written anew.
        """
        self._directory = Path(directory)
        self._car_names = car_names
        self._cars: dict[int, EventFile] = {}
        self._steps: dict[int, int] = {}  # car -> its local steps so far
        for record in records:
            for entry in record["cars"]:
                self._steps[entry["car"]] = self._steps.get(entry["car"], 0) + entry["steps"]
        last = records[-1]["round"] if records else -1
        for name in ("coordinator", "result"):
            cut(self._directory / name, lambda event: event.step <= last and not _tags(event) & pages.TAGS)
        for car in range(min(len(car_names), MAX_CARS)):
            cut(self._folder(car), partial(_came_before, round=last, steps=self._steps.get(car, 0)))
        self._coordinator = EventFile(self._directory / "coordinator")
        # Scores have an event file of their own: the HParams page shows a column for every tag beside the settings.
        self._result = EventFile(self._directory / "result")

    def describe(self, *values: Summary.Value) -> None:
        """Write values that hold for the whole run."""
        self._coordinator.write(0, values)
        self._flush()

    def compare(self, value: Summary.Value) -> None:
        """Write a value for the HParams page, which compares runs."""
        self._result.write(0, [value])
        self._flush()

    def log_round(self, record: dict, details: Mapping[int, CarDetail]) -> None:
        """Write a round. record: a line of metrics.jsonl; details: by car, what the record leaves out."""
        round_number, scores = record["round"], record["global"] or {}
        scalars = _pick(record, _COORDINATOR_TAGS) | _score_scalars(record)
        if round_number > 0:
            scalars |= {"bytes_up": record["bytes_up"], "bytes_down": record["bytes_down"]}
            scalars |= {f"seconds/{phase}": seconds for phase, seconds in record["seconds"].items()}
        if scores:
            self._result.write_scalars(round_number, _pick(record | scores, _RESULT_TAGS))
        self._coordinator.write_scalars(round_number, scalars)
        for entry in record["cars"]:
            if entry["car"] < MAX_CARS:
                self._log_car(round_number, entry, details[entry["car"]])
        self._flush()

    def log_score(self, record: dict) -> None:
        """Write the scores of a round that was written without them."""
        round_number = record["round"]
        self._coordinator.write_scalars(round_number, _score_scalars(record))
        self._result.write_scalars(round_number, _pick(record | record["global"], _RESULT_TAGS))
        for entry in record["cars"]:
            scores = {key: entry[key] for key in ("miou", "own_loss") if key in entry}
            if scores and entry["car"] < MAX_CARS:
                self._file_of(entry["car"]).write_scalars(round_number, _pick(scores, _CAR_TAGS))
        self._flush()

    def log_panel(self, round_number: int, panel: np.ndarray) -> None:
        """Write a picture of the round, (H, W, 3) uint8 RGB, as made by `fedsim.report.scenes`."""
        from PIL import Image

        png = io.BytesIO()
        Image.fromarray(panel).save(png, format="png")
        self._coordinator.write(round_number, [picture("panel", png.getvalue())])
        self._flush()

    def close(self) -> None:
        """Close every file."""
        for file in (self._coordinator, self._result, *self._cars.values()):
            file.close()

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _log_car(self, round_number: int, entry: dict, detail: CarDetail) -> None:
        car = entry["car"]
        file = self._file_of(car)
        before = self._steps.get(car, 0)
        self._steps[car] = before + len(detail.step_losses)
        for step, loss in enumerate(detail.step_losses, start=before + 1):
            file.write_scalars(step, {STEP_LOSS: loss})
        file.write_scalars(
            round_number, _pick(entry, _CAR_TAGS) | {"seconds/local": detail.seconds}
            | _by_name("train_class_iou", detail.train_class_iou) | _by_name("class_iou", detail.class_iou))

    def _file_of(self, car: int) -> EventFile:
        if car not in self._cars:
            self._cars[car] = EventFile(self._folder(car))
        return self._cars[car]

    def _folder(self, car: int) -> Path:
        name = re.sub(r"[^\w.-]+", "-", self._car_names[car])
        return self._directory / f"car-{car:02d}-{name}"

    def _flush(self) -> None:
        for file in (self._coordinator, self._result, *self._cars.values()):
            file.flush()


def _score_scalars(record: dict) -> dict[str, float]:
    """Return the scores of the global model and of the worst car by their tags; empty if the round was not scored."""
    scores = record["global"] or {}
    found = _pick(scores, _GLOBAL_TAGS) | _by_name("class_iou", scores.get("class_iou", {}))
    found |= _by_name("drive_miou", scores.get("drive_miou", {}))
    found |= _pick(record.get("averaged", {}), _AVERAGED_TAGS)
    found |= _pick(record.get("own_test", {}), _OWN_TEST_TAGS)
    return found | ({"worst_miou": record["worst"]["miou"]} if "worst" in record else {})


def _came_before(event: Event, round: int, steps: int) -> bool:
    """Return whether a car's event belongs to this round or local step, or to an earlier one."""
    return event.step <= (steps if STEP_LOSS in _tags(event) else round)


def _tags(event: Event) -> set[str]:
    return {value.tag for value in event.summary.value}


def _pick(values: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, float]:
    """Return the values that are not None, by their tags."""
    return {tag: values[key] for key, tag in tags.items() if values.get(key) is not None}


def _by_name(theme: str, ious: Mapping[str, float | None]) -> dict[str, float]:
    """Return the IoUs of classes or drives that are not None, by their tags."""
    return {f"{theme}/{name}": iou for name, iou in ious.items() if iou is not None}
