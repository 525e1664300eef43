"""Ranks, devices and collectives; the only importer of torch.distributed but for ranks.py, which starts torchrun.

The rest of fedsim asks a `World` and never whether there is more than one rank: with one rank every method
does the same work without a message.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from fedsim import errors
from fedsim.distributed.meeting import common_prefix
from fedsim.distributed.presence import Presence
from fedsim.errors import FedsimError, MachineError, RankError
from fedsim.system.machine import cores

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where this process stands, as torchrun tells it; alone without torchrun."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def from_environment(cls) -> "Place":
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        read = {name: os.environ.get(name) for name in names}
        if read["RANK"] is None:
            return cls()
        missing = [name for name, value in read.items() if value is None]
        if missing:
            raise MachineError(f"RANK is set but {', '.join(missing)} is not: start ranks with torchrun")
        return cls(*(int(value or 0) for value in read.values()))


class World:
    """The ranks of a run. Every rank calls every collective, in the same order."""

    def __init__(self, place: Place, device: torch.device, backend: str, why: str, threads: int,
                 timeout_seconds: float = 600.0, presence: Presence | None = None) -> None:
        """presence: where there are other ranks."""
        self.place = place
        self.rank, self.size = place.rank, place.size
        self.device, self.backend, self.why, self.threads = device, backend, why, threads
        self.timeout_seconds = timeout_seconds
        self._presence = presence
        self.doing = "starting"

    @classmethod
    def join(cls, device: str = "auto", backend: str = "auto", threads: int | None = None,
             timeout_seconds: float = 600.0) -> "World":
        """Take this process's place among the ranks. Raises MachineError where the machine cannot do it."""
        place = Place.from_environment()
        chosen, chosen_backend, why = choose_device(place, device, backend)
        threads = threads or fair_threads(place)
        torch.set_num_threads(threads)
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
            torch.backends.cudnn.deterministic = True  # the same bits again, on any number of ranks
        presence = _meet(place, chosen_backend, timedelta(seconds=timeout_seconds)) if place.size > 1 else None
        return cls(place, chosen, chosen_backend, why, threads, timeout_seconds, presence)

    def use_threads(self, threads: int | None) -> None:
        """So many threads from now on; None leaves them as they are."""
        if threads:
            self.threads = threads
            torch.set_num_threads(threads)

    def leave(self) -> None:
        if self._presence:
            self._presence.stop()
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def doing(self) -> str:
        """What this rank is at: the others are told so where they lose it."""
        return self._doing

    @doing.setter
    def doing(self, text: str) -> None:
        self._doing = text
        if self._presence:
            self._presence.tell(text)

    @property
    def is_coordinator(self) -> bool:
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> None:
        """Sum over ranks, in place on every rank. Exact, so order-free, for integers."""
        self._collective(tensor, lambda wire: dist.all_reduce(wire, dist.ReduceOp.SUM))

    def broadcast_(self, tensor: Tensor, source: int = 0) -> None:
        """Overwrite the tensor on every rank with the source rank's."""
        self._collective(tensor, lambda wire: dist.broadcast(wire, source))

    def gather(self, tensor: Tensor) -> list[Tensor] | None:
        """Every rank's tensor, at the coordinator in the order of ranks; None elsewhere. All are shaped alike."""
        if self.size == 1:
            return [tensor]
        everyone: list[Tensor] = []

        def send(wire: Tensor) -> None:
            if self.is_coordinator:
                everyone.extend(torch.empty_like(wire) for _ in range(self.size))
            dist.gather(wire, everyone or None)

        self._collective(tensor, send)
        return [own.to(tensor.device) for own in everyone] if self.is_coordinator else None

    def number(self, value: float) -> float:
        """The coordinator's number, on every rank: where all must judge alike."""
        wire = torch.tensor([value], dtype=torch.float64)
        self.broadcast_(wire)
        return float(wire)

    def tell(self, text: str) -> str:
        """The coordinator's text, on every rank."""
        length = int(self.table({0: [len(text.encode())]} if self.is_coordinator else {}, 1, 1)[0, 0])
        wire = torch.zeros(length, dtype=torch.uint8)
        if self.is_coordinator:
            wire = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        self.broadcast_(wire)
        return bytes(wire.tolist()).decode()

    def table(self, rows: Mapping[int, Sequence[float]], length: int, width: int) -> np.ndarray:
        """Collect rows, each written by one rank, into a (length, width) float64 table on every rank.

        Adding zeros is exact, so the table does not depend on which rank wrote which row.
        """
        table = torch.zeros(length, width, dtype=torch.float64)
        for index, row in rows.items():
            table[index, : len(row)] = torch.as_tensor(row, dtype=torch.float64)
        self.sum_(table)
        return table.numpy()

    def together(self, action: Callable[[], T], *, first_on_each_node: bool = False) -> T:
        """Run an action on every rank; if it fails for one, raise the lowest such rank's error on all.

        first_on_each_node: the action fills a cache, so one rank of every machine runs it before the others.
        """
        if first_on_each_node:
            self._agreed(action if self.place.local_rank == 0 else lambda: None)
        return self._agreed(action)

    def _agreed(self, action: Callable[[], T]) -> T:
        result, failure = None, b""
        try:
            result = action()
        except FedsimError as error:
            failure = json.dumps([type(error).__name__, str(error)]).encode()
        lengths = self.table({self.rank: [len(failure)]}, self.size, 1)[:, 0]
        failed = np.flatnonzero(lengths)
        if failed.size:
            text = torch.zeros(int(lengths[failed[0]]), dtype=torch.uint8)
            if self.rank == failed[0]:
                text = torch.frombuffer(bytearray(failure), dtype=torch.uint8)
            self.broadcast_(text, source=int(failed[0]))
            kind, message = json.loads(bytes(text.tolist()).decode())
            raise getattr(errors, kind)(message)
        return result  # type: ignore[return-value]

    def _collective(self, tensor: Tensor, send: Callable[[Tensor], object]) -> None:
        """gloo speaks CPU tensors, NCCL those of the rank's own device."""
        if self._presence is None:
            return
        wire = tensor.to(self.device if self.backend == "nccl" else "cpu").contiguous()
        self._presence.entered += 1
        started = time.monotonic()
        try:
            send(wire)
        except RuntimeError as error:
            waited = time.monotonic() - started
            raise RankError(self._left_alone(waited, error, self._presence.give_up())) from error
        if wire is not tensor:
            tensor.copy_(wire)

    def _left_alone(self, waited: float, error: RuntimeError, missing: str | None) -> str:
        """Why a collective came to nothing after so many seconds."""
        outcome = "for" if waited >= self.timeout_seconds else "and lost"
        if missing is None:
            missing = f"the other ranks while {self.doing}: {first_line(error)}"
        return f"rank {self.rank} waited {waited:.1f} s {outcome} {missing}"


def _meet(place: Place, backend: str, timeout: timedelta) -> Presence:
    """Form the process group. Raises RankError where not all ranks come."""
    # NCCL only raises a time-out where the collective is called if it blocks there.
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
    listen_at_home(place)
    try:
        store, rank, size = next(dist.rendezvous("env://", place.rank, place.size, timeout=timeout))
        prefix = common_prefix(store, rank, size, timeout.total_seconds())
        dist.init_process_group(backend, store=dist.PrefixStore(prefix, store), rank=rank, world_size=size,
                                timeout=timeout)
        # A connection of its own: one that waits for something lets nobody else speak.
        own = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
                            timeout=timeout, wait_for_workers=False)
    except RuntimeError as error:
        raise RankError(f"rank {place.rank} could not meet the other ranks: {first_line(error)}") from error
    return Presence(dist.PrefixStore(f"{prefix}/presence", own), rank, size)


def listen_at_home(place: Place) -> None:
    """Where all ranks are on one machine, nobody outside it reaches them, unless the user names another interface."""
    if place.size == place.local_size:
        loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, loopback)


def first_line(error: RuntimeError) -> str:
    return str(error).splitlines()[0]


def fair_threads(place: Place) -> int:
    """The cores this process may use, shared among the machine's ranks; at least 1."""
    return max(1, cores() // place.local_size)


def places(device: str, threads: int | None) -> int:
    """How many ranks of so many threads this machine has room for: one a GPU, or a core where none is used."""
    gpus = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    return gpus or max(1, cores() // (threads or 1))


def choose_device(place: Place, device: str, backend: str) -> tuple[torch.device, str, str]:
    """The device, the backend and the reason. NCCL needs a GPU of its own for every local rank."""
    gpus = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if device == "cuda" and not gpus:
        raise MachineError("--device cuda: no usable CUDA device here; use --device cpu, or --device auto to "
                           "choose")
    if not gpus:
        reason = "CPU was asked for" if device == "cpu" else "no CUDA device"
        if backend == "nccl":
            raise MachineError(f"--backend nccl needs CUDA devices ({reason}); use --backend gloo")
        return torch.device("cpu"), "gloo", reason
    own = place.local_size <= gpus
    if backend == "nccl" and not own:
        raise MachineError(f"--backend nccl: {place.local_size} ranks share {gpus} CUDA device(s), and NCCL "
                           f"allows one rank a device; start at most {gpus} ranks here, or use --backend "
                           "gloo")
    shared = f"{place.local_size} ranks share {gpus} CUDA device(s)"
    reason = "a CUDA device for every rank" if own else shared
    if backend == "auto":
        backend = "nccl" if own else "gloo"
    return torch.device("cuda", place.local_rank % gpus), backend, reason
