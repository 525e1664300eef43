"""Checkpoints, from which a killed run goes on to the bit, on any number of ranks.

    checkpoints/
      round-000012.json                 a checkpoint: its parts with their sizes and SHA-256
      global-000012.safetensors         the coordinator's part
      car-00003-000011.safetensors      the part of car 3, unchanged since round 11, written by the rank of this car

A part is synced to the disk before a checkpoint names it, and is not changed as long as one does. The checkpoint itself
is written beside its place, synced and renamed. So all files that the latest checkpoint names are whole at any moment.
The two latest checkpoints are kept. A car's part is written only if the car has taken part since the checkpoint before,
by the car's own rank: all ranks share the folder.

Nothing is unpickled, no file's name comes from a file, and no file is read before its size is known to be right.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from logging import Logger
from pathlib import Path
from typing import Any, TypeVar

from fedsim.errors import OutputError, RunError
from fedsim.federation.federation import Federation
from fedsim.federation.state import State
from fedsim.record import snapshot
from fedsim.record.part_files import PartFile, digest_of, read_part, write_part
from fedsim.record.run_directory import PART
from fedsim.system.files import replacing, sync
from fedsim.version import __version__

T = TypeVar("T")

FORMAT = 1  # raise it if older checkpoints cannot be read any more
KEPT = 2  # checkpoints
RECORD_BYTES, RECORD_BYTES_PER_CAR = 2**10, 2**8  # a round-N.json is smaller than both together
HEADER_BYTES = 2**20  # a part is at most that much larger than its tensors, by their names and shapes
RECORD = re.compile(r"round-(\d{6,})\.json")
LEFT_BY_A_KILL = re.compile(r"\.round-\d{6,}\.part\.json")


class Checkpoints:
    """The checkpoints of a run. Every rank has such an object, and all ranks call its methods together."""

    def __init__(self, folder: Path, federation: Federation, identity: str) -> None:
        """identity: a digest of all that decides the run's result; a checkpoint with another one is refused."""
        self.folder, self._federation, self._identity = folder, federation, identity
        self._parts: dict[int, PartFile] = {}  # car -> its part; all cars at the coordinator, this rank's elsewhere
        self._saved: dict[int, tuple[Any, ...]] = {}  # car of this rank -> what its part was written from
        self._files_by_round: dict[int, set[str]] = {}  # round of a checkpoint -> the files that belong to it

    def save(self, state: State) -> None:
        """Write a checkpoint, and remove the files that belong neither to it nor to the one before.

        Raises RunError on every rank if a disk refuses. The checkpoint before is then still the latest, and whole.
        """
        world = self._federation.world
        world.doing = f"writing the checkpoint of round {state.round}"
        fresh = world.together(lambda: self._or_run_error(state, lambda: self._write_cars(state)))
        for text in world.gather_texts(json.dumps(fresh)) or []:
            self._parts |= {int(car): PartFile(*file) for car, file in json.loads(text).items()}
        if world.is_coordinator:
            world.together(lambda: self._or_run_error(state, lambda: self._commit(state)))
            self._remove_others()
        else:
            world.together(lambda: None)

    def load(self, state: State, log: Logger) -> State:
        """Return the state of the latest checkpoint that is whole, or `state` if there are no checkpoints yet.

        state: that of round 0. `log` is warned of each damaged checkpoint, and the one before it is tried.
        Raises OutputError on every rank if there are checkpoints and none of them can be used.
        """
        world = self._federation.world
        world.doing = "reading a checkpoint"
        rounds = json.loads(world.broadcast_text(json.dumps(self._rounds()) if world.is_coordinator else ""))
        faults: list[str] = []
        for round_number in rounds:
            try:
                return world.together(lambda latest=round_number: self._read(state, latest))  # type: ignore[misc]
            except OutputError as error:
                faults.append(str(error))
                log.warning("%s", error)
        if faults:
            raise OutputError(f"none of the {len(faults)} checkpoint(s) in {self.folder} can be used; start a new run "
                              f"with another --out ({faults[0]})")
        return state

    def _rounds(self) -> list[int]:
        """Return the rounds of the checkpoints in the folder, the latest first."""
        return sorted((int(match[1]) for path in self.folder.glob("round-*.json")
                       if (match := RECORD.fullmatch(path.name))), reverse=True)

    def _write_cars(self, state: State) -> dict[int, PartFile]:
        """Write the parts of this rank's cars that have changed since the checkpoint before."""
        fresh = {}
        for car, sources in _sources_of_parts(state).items():
            before = self._saved.get(car, ())
            if len(before) == len(sources) and all(one is other for one, other in zip(before, sources, strict=True)):
                continue
            tensors = snapshot.car_tensors(self._federation, state, car)
            if car in self._saved or not snapshot.is_empty(state, tensors):
                fresh[car] = write_part(self.folder / _part_name(state.round, car), tensors, state.round)
                self._saved[car] = sources
        if fresh:
            sync(self.folder)
        return fresh

    def _commit(self, state: State) -> None:
        """Write the coordinator's part, then the checkpoint itself."""
        file = write_part(self.folder / _part_name(state.round), snapshot.global_tensors(state), state.round)
        content = {"format": FORMAT, "fedsim": __version__, "run": self._identity, "round": state.round,
                   "theta_sha256": state.digest(), "global": file, "cars": dict(sorted(self._parts.items()))}
        text = json.dumps(content)
        with replacing(self.folder / _record_name(state.round)) as new:
            with open(new, "w", encoding="utf-8") as record:
                record.write(f'{{"sha256": "{digest_of(text.encode())}", "checkpoint": {text}}}\n')
            sync(self.folder)  # the part has its name on the disk before the checkpoint names it
        sync(self.folder)
        self._files_by_round[state.round] = self._files(state.round)

    def _read(self, state: State, round_number: int) -> State:
        """Return the state of one checkpoint, with the memories of this rank's cars. Raises OutputError."""
        path, fleet = self.folder / _record_name(round_number), self._federation.fleet
        content = _read_record(path, self._identity, RECORD_BYTES + RECORD_BYTES_PER_CAR * len(fleet.cars))
        parts: dict[int, PartFile] = content["cars"]
        # The watch keeps two float64 of every round.
        max_bytes = snapshot.max_part_bytes(state) + 16 * round_number + HEADER_BYTES
        found = self._use_part(self.folder / _part_name(round_number), content["global"], max_bytes,
                               partial(snapshot.restore_global, state))
        if found.round != round_number or found.digest() != content["theta_sha256"]:
            raise OutputError(f"{path} and its parts do not belong together")
        for car in fleet.scenes:
            if car in parts:
                found = self._use_part(self.folder / _part_name(parts[car].round, car), parts[car], max_bytes,
                                       partial(snapshot.restore_car, self._federation, found, car))
        self._parts, self._saved = parts, _sources_of_parts(found)
        self._files_by_round = {round_number: self._files(round_number)}
        return found

    def _use_part(self, path: Path, file: PartFile, max_bytes: int, use: Callable[[snapshot.Tensors], T]) -> T:
        try:
            return use(read_part(path, file, max_bytes))
        except snapshot.InvalidPart as error:
            raise OutputError(f"{path} cannot be used: {error}") from error

    def _files(self, round_number: int) -> set[str]:
        return {_record_name(round_number), _part_name(round_number),
                *(_part_name(file.round, car) for car, file in self._parts.items())}

    def _remove_others(self) -> None:
        """Remove the files of checkpoints that are not kept. A file that cannot be removed stays and does no harm."""
        latest = sorted(self._files_by_round)[-KEPT:]
        self._files_by_round = {round_number: self._files_by_round[round_number] for round_number in latest}
        needed = set().union(*self._files_by_round.values())
        for path in [*self.folder.iterdir()]:
            is_own = any(pattern.fullmatch(path.name) for pattern in (RECORD, PART, LEFT_BY_A_KILL))
            if is_own and path.name not in needed:
                with suppress(OSError):
                    path.unlink()

    def _or_run_error(self, state: State, action: Callable[[], T]) -> T:
        try:
            return action()
        except OSError as error:
            raise RunError(f"round {state.round}, rank {self._federation.world.rank}: cannot write the checkpoint in "
                           f"{self.folder} ({error.strerror or error}); make room and go on with --resume: the "
                           "checkpoint before it is whole") from error


def _sources_of_parts(state: State) -> dict[int, tuple[Any, ...]]:
    """Return what each car's part is written from: the handle of its memory, and its norms.

    Both are replaced as a whole when they change, so a part is up to date if these are the same objects.
    """
    return {car: (handle, state.own_norms.get(car)) for car, handle in state.memories.items()}


def _record_name(round_number: int) -> str:
    return f"round-{round_number:06d}.json"


def _part_name(round_number: int, car: int | None = None) -> str:
    return f"{'global' if car is None else f'car-{car:05d}'}-{round_number:06d}.safetensors"


def _read_record(path: Path, identity: str, max_bytes: int) -> dict[str, Any]:
    """Read the content of a round-N.json. Raises OutputError if it is damaged, another run's or another version's."""
    try:
        if path.stat().st_size > max_bytes:
            raise ValueError
        read = json.loads(path.read_text(encoding="utf-8"))
        digest, content = read["sha256"], read["checkpoint"]
        version = content["format"]
        damaged = digest != digest_of(json.dumps(content).encode())
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise OutputError(f"{path} is damaged, or not a checkpoint") from error
    if version != FORMAT:
        raise OutputError(f"{path} is a checkpoint of format {version}, written by another version of fedsim; this one "
                          f"({__version__}) reads format {FORMAT}: go on with that version")
    if damaged:
        raise OutputError(f"{path} is damaged: its digest is not the one that was written")
    if content.get("run") != identity:
        raise OutputError(f"{path} is a checkpoint of another run: its settings or its data were others")
    try:
        parts = {int(car): _to_part_file(file) for car, file in content["cars"].items()}
        return content | {"global": _to_part_file(content["global"]), "cars": parts}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"{path} is not a checkpoint: it does not name its parts") from error


def _to_part_file(read: Any) -> PartFile:
    """Return an entry of a round-N.json as a PartFile. Raises ValueError or TypeError if it is not one."""
    file = PartFile(*read)
    if not type(file.round) is type(file.bytes) is int or file.round < 0:
        raise ValueError
    return file
