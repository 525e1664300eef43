"""The ranks of a run and what they do together: sums, broadcasts, errors.

No file outside this package imports torch.distributed. The rest of fedsim asks a `World` and never asks whether there
is more than one rank: with one rank every method does the same work without a message.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from fedsim import errors
from fedsim.distributed.devices import Place, fair_threads, use_device
from fedsim.distributed.group import Meeting, reason_of
from fedsim.distributed.hardware import Hardware, choose_backend, count_sharing, look
from fedsim.distributed.presence import Presence
from fedsim.errors import FedsimError, RankError, RunError

T = TypeVar("T")


class World:
    """The ranks of a run, as one of them sees it. Every rank calls every collective, in the same order."""

    def __init__(self, place: Place, device: torch.device, backend: str, backend_reason: str, threads: int,
                 timeout_seconds: float = 600.0, presence: Presence | None = None,
                 hardware: Sequence[Hardware] = ()) -> None:
        """presence: None if this rank is the only one. hardware: of every rank, as far as it is known."""
        self.place = place
        self.rank, self.size = place.rank, place.size
        self.device, self.backend, self.backend_reason, self.threads = device, backend, backend_reason, threads
        self.timeout_seconds, self.hardware = timeout_seconds, tuple(hardware)
        self._presence = presence
        self.doing = "starting"

    @classmethod
    def join(cls, device: str = "auto", backend: str = "auto", threads: int | None = None,
             timeout_seconds: float = 600.0) -> "World":
        """Take this process's place among the ranks.

        threads: None for a fair share of the machine's cores. timeout_seconds: how long a collective waits for others.
        Raises MachineError if the machines lack the device or the backend, or if their devices do not go together,
        RankError if not all ranks come.
        """
        place, timeout = Place.from_environment(), timedelta(seconds=timeout_seconds)
        own = look(place, device)
        meeting = Meeting(place, timeout) if place.size > 1 else None
        hardware = [Hardware.from_text(text) for text in meeting.exchange(own.to_text())] if meeting else [own]
        chosen_backend, reason = choose_backend(hardware, device, backend)
        threads, chosen = threads or fair_threads(place), torch.device(own.device)
        torch.set_num_threads(threads)
        use_device(chosen)
        presence = meeting.connect(chosen_backend, chosen) if meeting else None
        return cls(place, chosen, chosen_backend, reason, threads, timeout_seconds, presence, hardware)

    @property
    def sharing(self) -> int:
        """The number of ranks that compute on the device of this rank: on a CPU, all of this machine."""
        gpu = self.device.type != "cpu" and self.hardware
        return count_sharing(self.hardware, self.rank) if gpu else self.place.local_size

    def use_threads(self, threads: int | None) -> None:
        """Use that many threads from now on; None changes nothing."""
        if threads:
            self.threads = threads
            torch.set_num_threads(threads)

    def leave(self) -> None:
        """End this rank's part in the process group."""
        if self._presence:
            self._presence.stop()
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def doing(self) -> str:
        """A few words on the work of this rank; errors of the other ranks quote them if this rank is lost."""
        return self._doing

    @doing.setter
    def doing(self, text: str) -> None:
        self._doing = text
        if self._presence:
            self._presence.tell(text)

    @property
    def is_coordinator(self) -> bool:
        """True on rank 0, which combines, decides and writes for all."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> None:
        """Sum over ranks, in place on every rank. Sums of integers are exact, so they do not depend on the order."""
        self._collective(tensor, lambda wire: dist.all_reduce(wire, dist.ReduceOp.SUM))

    def broadcast_(self, tensor: Tensor, source: int = 0) -> None:
        """Overwrite the tensor on every rank with the source rank's."""
        self._collective(tensor, lambda wire: dist.broadcast(wire, source))

    def gather(self, tensor: Tensor) -> list[Tensor] | None:
        """Return every rank's tensor in the order of ranks at the coordinator, None elsewhere.

        The tensors of all ranks have the same shape.
        """
        if self.size == 1:
            return [tensor]
        everyone: list[Tensor] = []

        def send(wire: Tensor) -> None:
            if self.is_coordinator:
                everyone.extend(torch.empty_like(wire) for _ in range(self.size))
            dist.gather(wire, everyone or None)

        self._collective(tensor, send)
        return [own.to(tensor.device) for own in everyone] if self.is_coordinator else None

    def gather_texts(self, text: str) -> list[str] | None:
        """Return every rank's text in the order of ranks at the coordinator, None elsewhere."""
        own = text.encode()
        lengths = self.table({self.rank: [len(own)]}, self.size, 1)[:, 0].astype(int)
        padded = torch.zeros(int(lengths.max()), dtype=torch.uint8)
        padded[:len(own)] = torch.frombuffer(bytearray(own), dtype=torch.uint8)
        everyone = self.gather(padded)
        if everyone is None:
            return None
        return [bytes(row[:length].tolist()).decode() for row, length in zip(everyone, lengths, strict=True)]

    def broadcast_number(self, value: float) -> float:
        """Return the coordinator's number on every rank, so that all ranks decide alike."""
        wire = torch.tensor([value], dtype=torch.float64)
        self.broadcast_(wire)
        return float(wire)

    def broadcast_text(self, text: str) -> str:
        """Return the coordinator's text on every rank; what other ranks pass is ignored."""
        length = int(self.table({0: [len(text.encode())]} if self.is_coordinator else {}, 1, 1)[0, 0])
        return self._send_bytes(text.encode(), length, source=0).decode()

    def table(self, rows: Mapping[int, Sequence[float]], length: int, width: int) -> np.ndarray:
        """Collect rows, each written by one rank, into a (length, width) float64 table on every rank.

        Adding zeros is exact, so the table does not depend on which rank wrote which row.
        """
        table = torch.zeros(length, width, dtype=torch.float64)
        for index, row in rows.items():
            table[index, : len(row)] = torch.as_tensor(row, dtype=torch.float64)
        self.sum_(table)
        return table.numpy()

    def together(self, action: Callable[[], T]) -> T:
        """Run an action on every rank; if it fails on one, raise the error of the lowest such rank on all.

        So ranks leave together, and each knows why. An exception that is no FedsimError is raised again where it comes
        from, and reaches the other ranks as a RunError.
        """
        result, failure, unexpected = None, b"", None
        try:
            result = action()
        except FedsimError as error:
            kind = RunError if isinstance(error, RankError) else type(error)  # from here on all ranks know of it
            failure = json.dumps([kind.__name__, str(error)]).encode()
        except Exception as error:
            unexpected = error
            said = f"rank {self.rank}, while {self.doing}: {type(error).__name__}: {' '.join(str(error).split())}"
            failure = json.dumps([RunError.__name__, said]).encode()
        lengths = self.table({self.rank: [len(failure)]}, self.size, 1)[:, 0]
        failed = np.flatnonzero(lengths)
        if failed.size:
            first = int(failed[0])
            name, message = json.loads(self._send_bytes(failure, int(lengths[first]), source=first))
            if unexpected is not None:
                raise unexpected
            raise getattr(errors, name)(message)
        return result  # type: ignore[return-value]

    def _send_bytes(self, data: bytes, length: int, source: int) -> bytes:
        """Return the source rank's `length` bytes on every rank."""
        wire = torch.zeros(length, dtype=torch.uint8)
        if self.rank == source:
            wire = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        self.broadcast_(wire, source)
        return bytes(wire.tolist())

    def _collective(self, tensor: Tensor, send: Callable[[Tensor], object]) -> None:
        """Call `send` with the tensor where the backend wants it: gloo on the CPU, NCCL on the rank's own device.

        Raises RankError if the other ranks do not answer.
        """
        if self._presence is None:
            return
        wire = tensor.to(self.device if self.backend == "nccl" else "cpu").contiguous()
        self._presence.entered += 1
        started = time.monotonic()
        try:
            send(wire)
        except RuntimeError as error:
            waited = time.monotonic() - started
            raise RankError(self._describe_loss(waited, error, self._presence.give_up())) from error
        if wire is not tensor:
            tensor.copy_(wire)

    def _describe_loss(self, waited: float, error: RuntimeError, missing: str | None) -> str:
        """Return the message for a collective that failed after `waited` seconds. missing: who kept it waiting."""
        outcome = "for" if waited >= self.timeout_seconds else "and lost"
        if missing is None:
            missing = f"the other ranks while {self.doing}: {reason_of(error)}"
        return f"rank {self.rank} waited {waited:.1f} s {outcome} {missing}"
