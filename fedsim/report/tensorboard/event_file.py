"""An event file of TensorBoard: writing it, and cutting it when a run goes on.

Events are written by tensorboard's RecordWriter. SummaryWriter takes six times as long for a scalar (89 against 14 µs
on one CPU core) and starts a thread for every car.
"""

import re
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from fedsim.system.files import replacing

PREFIX = "events.out.tfevents."  # begins the name of an event file; the time at which it was made follows
NAME = re.compile(re.escape(PREFIX) + r"\d+\.\d{6}")


class EventFile:
    """A new event file in a directory that TensorBoard calls a run."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = open(_next_file(directory), "xb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._records.write(_version().SerializeToString())

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
    """Remove the events for which `keeps` is false from a directory's event files. The directory need not exist.

    A TensorBoard that is open has read these events already. So all events that stay are written again, to a file of
    their own. It begins with the mark of a restart, at which TensorBoard forgets what it has read before. The earlier
    files are emptied and not removed, because a reader does not get past a file that is gone.
    """
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    kept: list[Event] = []
    files, removed = _event_files(directory), False
    for path in files:
        for event in map(Event.FromString, RawEventFileLoader(str(path)).Load()):
            if event.HasField("session_log"):  # all that was kept before follows once more
                kept = []
            elif not event.file_version:
                stays = keeps(event)
                removed |= not stays
                kept += [event] * stays
    if removed:
        _write_file(_next_file(directory), [*[_restart()] * 2, *kept])  # TensorBoard takes the first for the start
        for path in files:
            _write_file(path, [])


def _restart() -> Event:
    return Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START))


def _write_file(path: Path, events: Iterable[Event]) -> None:
    """Write an event file whole or not at all."""
    with replacing(path) as new, open(new, "wb") as file:
        records = RecordWriter(file)
        for event in (_version(), *events):
            records.write(event.SerializeToString())
        records.close()


def _version() -> Event:
    """Return the event with which every file begins."""
    return Event(wall_time=time.time(), file_version="brain.Event:2")


def _next_file(directory: Path) -> Path:
    """Return the path of a new file. TensorBoard reads files in order of name, and the clock may have been set back."""
    latest = max((float(path.name.removeprefix(PREFIX)) for path in _event_files(directory)), default=0.0)
    return directory / f"{PREFIX}{max(time.time(), latest + 1):.6f}"


def _event_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob(f"{PREFIX}*") if NAME.fullmatch(path.name))
