"""What two runs of the same have in common: records, events, models and checkpoints, apart from times."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from fedsim.record.checkpoints import PART

TIMED = ("seconds", "pictures_per_second")
Tensors = Mapping[str, tuple[str, tuple[int, ...], bytes]]


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def without_seconds(run: Path) -> list[dict]:
    def untimed(values: dict) -> dict:
        return {key: value for key, value in values.items() if key not in TIMED}

    return [untimed(record) | {"cars": [untimed(entry) for entry in record["cars"]]} for record in records(run)]


# keys of a record beside "global"
OF_A_SCORE = ("worst", "own_test", "averaged", "bytes_up", "bytes_down", "statistics_sha256")


def without_score(record: dict) -> dict:
    """What a record says whether or not its round was scored; scoring exchanges statistics too."""
    cars = [{key: value for key, value in entry.items() if key not in ("miou", "own_loss")} for entry in record["cars"]]
    return {key: value for key, value in record.items() if key not in OF_A_SCORE} | {"global": None, "cars": cars}


def events(run: Path) -> dict[str, list]:
    """Run and tag -> (step, value) of all scalars but times, in TensorBoard's order; the steps of pictures."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in sorted((run / "tensorboard").iterdir()):
        read = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
        read.Reload()
        for tag in (tag for tag in read.Tags()["scalars"] if not tag.startswith(TIMED)):
            found[f"{folder.name}/{tag}"] = [(event.step, event.value) for event in read.Scalars(tag)]
        for tag in read.Tags()["images"]:
            found[f"{folder.name}/{tag}"] = [event.step for event in read.Images(tag)]
    return found


def tensors(path: Path) -> Tensors:
    """Name -> type, shape and bytes."""
    return {name: (str(tensor.dtype), tuple(tensor.shape), tensor.numpy().tobytes())
            for name, tensor in load_file(path).items()}


def models(run: Path) -> dict[str, Tensors]:
    """Name of a file -> its tensors."""
    return {path.name: tensors(path) for path in (run / "checkpoints").glob("*.safetensors")
            if not PART.fullmatch(path.name)}


def last_checkpoint(run: Path) -> dict[str, Any]:
    """The latest checkpoint's round, and the content of all its parts, whenever they were written."""
    path = max((run / "checkpoints").glob("round-*.json"))
    content = json.loads(path.read_text())["checkpoint"]
    parts = {"global": content["global"], **{f"car-{int(car):05d}": file for car, file in content["cars"].items()}}
    return {"round": content["round"]} | {
        name: tensors(path.with_name(f"{name}-{file[0]:06d}.safetensors")) for name, file in parts.items()}
