"""Checkpoints: what a run is continued from, to the bit, on any number of ranks, whenever it was killed.

    checkpoints/
      round-000012.json                 a checkpoint: its parts with their sizes and SHA-256
      global-000012.safetensors         the coordinator's part
      car-00003-000011.safetensors      what car 3 keeps since round 11, written by the rank that plays it

A part is synced to the disk before a checkpoint names it, and never touched while one does; the checkpoint itself is
written beside its place, synced and renamed. So whatever the latest checkpoint names is whole at any moment. Two are
kept. What a car keeps is written when it has taken part since the last one, by its own rank: ranks share the folder.

Nothing is unpickled, no name of a file comes from a file, and nothing is read before its size is known to be right.
"""

import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from logging import Logger
from pathlib import Path
from typing import Any, TypeVar

import torch

from fedsim.distributed.world import World
from fedsim.errors import OutputError, RunError
from fedsim.federation.federation import Federation
from fedsim.federation.state import State
from fedsim.record.part_files import Written, digest_of, read_part, write_part
from fedsim.record.run_directory import PART
from fedsim.record.snapshot import Part, Unfit, car_part, global_part, keeps_nothing, part_bytes, with_car, with_global
from fedsim.system.files import replacing, sync
from fedsim.version import __version__

T = TypeVar("T")

FORMAT = 1  # raise it when a checkpoint would be read otherwise
KEPT = 2  # checkpoints
RECORD_HEAD, RECORD_CAR = 2**10, 2**8  # more bytes than a round-N.json takes, and than each car takes in it
HEADER = 2**20  # bytes that a part may take beside its tensors: names and shapes
RECORD = re.compile(r"round-(\d{6,})\.json")
OWN = re.compile(rf"{RECORD.pattern}|\.round-\d{{6,}}\.part\.json|{PART.pattern}")  # the second one: left by a kill


class Checkpoints:
    """The checkpoints of a run. Every rank has an object of these, and all call its methods together."""

    def __init__(self, folder: Path, federation: Federation, identity: str) -> None:
        """identity: a digest of all that decides the run's result; a checkpoint of another one is refused."""
        self.folder, self._federation, self._identity = folder, federation, identity
        self._cars: dict[int, Written] = {}  # the parts of all cars; complete at the coordinator alone
        self._saved: dict[int, Any] = {}  # car of this rank -> what its part holds: a handle of its memory, its norms
        self._kept: dict[int, set[str]] = {}  # round of a checkpoint -> the files that belong to it

    def save(self, state: State) -> None:
        """Write a checkpoint, and remove what belongs to neither it nor the one before.

        Raises RunError on every rank where a disk refuses; the one before it is then the latest, and whole.
        """
        world = self._federation.world
        world.doing = f"writing the checkpoint of round {state.round}"
        fresh = world.together(lambda: self._or_run_error(state, lambda: self._write_cars(state)))
        for text in _texts(world, json.dumps(fresh)):
            self._cars |= {int(car): Written(*written) for car, written in json.loads(text).items()}
        if world.is_coordinator:
            world.together(lambda: self._or_run_error(state, lambda: self._commit(state)))
            self._remove_others()
        else:
            world.together(lambda: None)

    def load(self, state: State, log: Logger) -> State:
        """The state of the latest checkpoint that is whole; `state`, that of round 0, where there is none yet.

        Of one that is damaged `log` is told, and the one before is taken. Raises OutputError on every rank where there
        are some and none of them can be used.
        """
        world = self._federation.world
        world.doing = "reading a checkpoint"
        rounds = json.loads(world.broadcast_text(json.dumps(self._rounds()) if world.is_coordinator else ""))
        faults: list[str] = []
        for number in rounds:
            try:
                return world.together(lambda number=number: self._read(state, number))  # type: ignore[misc]
            except OutputError as error:
                faults.append(str(error))
                log.warning("%s", error)
        if faults:
            raise OutputError(f"none of the {len(faults)} checkpoint(s) in {self.folder} can be used; start a new run "
                              f"with another --out ({faults[0]})")
        return state

    def _rounds(self) -> list[int]:
        """Of the checkpoints there are, the latest first."""
        return sorted((int(match[1]) for path in self.folder.glob("round-*.json")
                       if (match := RECORD.fullmatch(path.name))), reverse=True)

    def _write_cars(self, state: State) -> dict[int, Written]:
        """Write what this rank's cars keep and no part holds yet."""
        fresh = {}
        for car, kept in _kept(state).items():
            before = self._saved.get(car, ())
            if len(before) == len(kept) and all(one is other for one, other in zip(before, kept, strict=True)):
                continue
            part = car_part(self._federation, state, car)
            if car in self._saved or not keeps_nothing(state, part):
                fresh[car] = write_part(self.folder / _part_name(state.round, car), part, state.round)
                self._saved[car] = kept
        if fresh:
            sync(self.folder)
        return fresh

    def _commit(self, state: State) -> None:
        """Write the coordinator's part, then the checkpoint itself."""
        number = state.round
        written = write_part(self.folder / _part_name(number), global_part(state), number)
        content = {"format": FORMAT, "fedsim": __version__, "run": self._identity, "round": number,
                   "theta_sha256": state.digest(), "global": written, "cars": dict(sorted(self._cars.items()))}
        text = json.dumps(content)
        path = self.folder / _record_name(number)
        with replacing(path) as new:
            with open(new, "w", encoding="utf-8") as file:
                file.write(f'{{"sha256": "{digest_of(text.encode())}", "checkpoint": {text}}}\n')
            sync(self.folder)  # the name of the part is on the disk before the checkpoint is
        sync(self.folder)
        self._kept[number] = self._files(number)

    def _read(self, state: State, number: int) -> State:
        """What this rank needs of a checkpoint. Raises OutputError."""
        path = self.folder / _record_name(number)
        content = _read_record(path, self._identity, RECORD_HEAD + RECORD_CAR * len(self._federation.fleet.cars))
        cars: dict[int, Written] = content["cars"]
        most = part_bytes(state) + 16 * number + HEADER
        found = self._fit(self.folder / _part_name(number), content["global"], most, partial(with_global, state))
        if found.round != number or found.digest() != content["theta_sha256"]:
            raise OutputError(f"{path} and its parts do not belong together")
        for car in self._federation.fleet.scenes:
            if car in cars:
                part_path = self.folder / _part_name(cars[car].round, car)
                found = self._fit(part_path, cars[car], most, partial(with_car, self._federation, found, car))
        self._cars, self._saved = cars, _kept(found)
        self._kept = {number: self._files(number)}
        return found

    def _fit(self, path: Path, written: Written, most: int, use: Callable[[Part], T]) -> T:
        try:
            return use(read_part(path, written, most))
        except Unfit as error:
            raise OutputError(f"{path} cannot be used: {error}") from error

    def _files(self, number: int) -> set[str]:
        return {_record_name(number), _part_name(number),
                *(_part_name(written.round, car) for car, written in self._cars.items())}

    def _remove_others(self) -> None:
        """Remove the files of checkpoints that are not kept. Best effort: a file that stays does no harm."""
        self._kept = {number: self._kept[number] for number in sorted(self._kept)[-KEPT:]}
        needed = set().union(*self._kept.values())
        for path in [*self.folder.iterdir()]:
            if OWN.fullmatch(path.name) and path.name not in needed:
                with suppress(OSError):
                    path.unlink()

    def _or_run_error(self, state: State, action: Callable[[], T]) -> T:
        try:
            return action()
        except OSError as error:
            raise RunError(f"round {state.round}, rank {self._federation.world.rank}: cannot write the checkpoint in "
                           f"{self.folder} ({error.strerror or error}); make room and go on with --resume: the "
                           "checkpoint before it is whole") from error


def _kept(state: State) -> dict[int, tuple[Any, ...]]:
    """What each car of this rank keeps: replaced as a whole when it changes, so identity tells."""
    return {car: (handle, state.own_norms.get(car)) for car, handle in state.memories.items()}


def _record_name(number: int) -> str:
    return f"round-{number:06d}.json"


def _part_name(number: int, car: int | None = None) -> str:
    return f"{'global' if car is None else f'car-{car:05d}'}-{number:06d}.safetensors"


def _read_record(path: Path, identity: str, most: int) -> dict[str, Any]:
    """The content of a round-N.json. Raises OutputError where it is damaged, another run's or another version's."""
    try:
        if path.stat().st_size > most:
            raise ValueError
        whole = path.read_text(encoding="utf-8")
        read = json.loads(whole)
        digest, content = read["sha256"], read["checkpoint"]
        version = content["format"]
        damaged = digest != digest_of(json.dumps(content).encode())
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise OutputError(f"{path} is damaged, or no checkpoint") from error
    if version != FORMAT:
        raise OutputError(f"{path} is a checkpoint of format {version}, written by another version of fedsim; this one "
                          f"({__version__}) reads format {FORMAT}: go on with that version")
    if damaged:
        raise OutputError(f"{path} is damaged: its digest is another than was written")
    if content.get("run") != identity:
        raise OutputError(f"{path} is a checkpoint of another run: its settings or its data were others")
    try:
        cars = {int(car): _written(written) for car, written in content["cars"].items()}
        return content | {"global": _written(content["global"]), "cars": cars}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"{path} is no checkpoint: it does not name its parts") from error


def _written(read: Any) -> Written:
    """Raises ValueError, TypeError."""
    written = Written(*read)
    if not type(written.round) is type(written.bytes) is int or written.round < 0:
        raise ValueError
    return written


def _texts(world: World, text: str) -> Iterable[str]:
    """Every rank's text at the coordinator; nothing elsewhere."""
    own = text.encode()
    lengths = world.table({world.rank: [len(own)]}, world.size, 1)[:, 0].astype(int)
    padded = torch.zeros(int(lengths.max()), dtype=torch.uint8)
    padded[:len(own)] = torch.frombuffer(bytearray(own), dtype=torch.uint8)
    everyone = world.gather(padded) or []
    return [bytes(row[:length].tolist()).decode() for row, length in zip(everyone, lengths, strict=False)]
