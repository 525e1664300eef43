"""An event file of TensorBoard: writing it, and cutting it when a run goes on.

Events are written by tensorboard's RecordWriter. SummaryWriter takes six times as long for a scalar (89 against 14 µs
on one CPU core) and starts a thread for every car.
"""

import re
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from fedsim.system.files import replacing

PREFIX = "events.out.tfevents."  # begins the name of an event file; the time at which it was made follows
NAME = re.compile(re.escape(PREFIX) + r"\d+\.\d{6}")


class EventFile:
    """A new event file in a directory that TensorBoard calls a run."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads a directory's files in order of name: a resumed run's comes after, whatever the clock says.
        latest = max((float(path.name.removeprefix(PREFIX)) for path in _event_files(directory)), default=0.0)
        self._file = open(directory / f"{PREFIX}{max(time.time(), latest + 1):.6f}", "xb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._records.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

    def write(self, step: int, values: Iterable[Summary.Value]) -> None:
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._records.write(event.SerializeToString())

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self.write(step, (Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()))

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()


def picture(tag: str, png: bytes) -> Summary.Value:
    """Return a PNG as a value to write."""
    width, height = struct.unpack(">II", png[16:24])  # a PNG's first chunk begins with them
    return Summary.Value(tag=tag, image=Summary.Image(height=height, width=width, colorspace=3,
                                                      encoded_image_string=png))


def cut(directory: Path, keeps: Callable[[Event], bool]) -> None:
    """Remove the events for which `keeps` is false from a directory's event files. The directory need not exist."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    for path in _event_files(directory):
        events = [Event.FromString(data) for data in RawEventFileLoader(str(path)).Load()]
        kept = [event for event in events if event.file_version or keeps(event)]
        if len(kept) < len(events):
            with replacing(path) as new, open(new, "wb") as file:
                records = RecordWriter(file)
                for event in kept:
                    records.write(event.SerializeToString())
                records.close()


def _event_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob(f"{PREFIX}*") if NAME.fullmatch(path.name))
