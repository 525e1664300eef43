"""The process group: ranks meet at a store, tell each other what they have, and connect."""

import os
import socket
from datetime import timedelta

import torch
import torch.distributed as dist

from fedsim.distributed.devices import Place, check_meeting_point
from fedsim.distributed.meeting import common_prefix
from fedsim.distributed.presence import Presence
from fedsim.errors import RankError

PATIENCE = timedelta(seconds=15)  # to reach a store that is known to be there
NCCL_SAYS = "Last error:"  # and then, on lines of their own, what NCCL knows about a failure


class Meeting:
    """The ranks at a store, before they are connected."""

    def __init__(self, place: Place, timeout: timedelta) -> None:
        """Come to the store. Raises PlaceError if a variable does not say where, RankError if not all ranks come."""
        check_meeting_point()
        listen_at_home(place)
        self._place, self._timeout = place, timeout
        try:
            # torchrun's own store is there before its ranks: if it is not, torchrun has ended.
            is_there = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            self._store, self._rank, self._size = next(dist.rendezvous(
                "env://", place.rank, place.size, timeout=min(timeout, PATIENCE) if is_there else timeout))
            self._store.set_timeout(timeout)
            self._prefix = common_prefix(self._store, self._rank, self._size, timeout.total_seconds())
        except (RuntimeError, ValueError) as error:
            raise self._failure(error) from error

    def exchange(self, text: str) -> list[str]:
        """Return the texts of all ranks, in their order. Raises RankError if a rank is lost."""
        everyone = range(self._size)
        try:
            self._store.set(f"{self._prefix}/text/{self._rank}", text)
            texts = [self._store.get(f"{self._prefix}/text/{other}").decode() for other in everyone]
            self._store.set(f"{self._prefix}/read/{self._rank}", "")
            if self._rank == 0:  # whose process may have the store
                for other in everyone:
                    self._store.get(f"{self._prefix}/read/{other}")
        except RuntimeError as error:
            raise self._failure(error) from error
        return texts

    def connect(self, backend: str, device: torch.device) -> Presence:
        """Form the process group, and return this rank's heartbeat. Raises RankError."""
        # NCCL raises a time-out in the call of the collective only if that call blocks.
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
        try:
            dist.init_process_group(
                backend, store=dist.PrefixStore(self._prefix, self._store), rank=self._rank, world_size=self._size,
                timeout=self._timeout,
                device_id=device if backend == "nccl" else None)  # so that NCCL connects now, and fails now
            # The heartbeat has a connection of its own: one that waits for an answer blocks all other requests.
            own = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
                                timeout=self._timeout, wait_for_workers=False)
        except (RuntimeError, ValueError) as error:
            raise self._failure(error) from error
        return Presence(dist.PrefixStore(f"{self._prefix}/presence", own), self._rank, self._size)

    def _failure(self, error: Exception) -> RankError:
        return RankError(f"rank {self._place.rank} could not meet the other ranks: {reason_of(error)}")


def listen_at_home(place: Place) -> None:
    """Let ranks that are all on one machine talk over its loopback, so that nobody outside it can reach them.

    An interface that the user has named in the environment stays.
    """
    if place.size == place.local_size:
        loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, loopback)


def reason_of(error: Exception) -> str:
    """Return the first line of an error's message, and what NCCL says at its end. Torch adds C++ stack traces."""
    lines = str(error).splitlines()
    if NCCL_SAYS not in lines:
        return lines[0]
    said = lines[lines.index(NCCL_SAYS) + 1 :]
    trace = next((place for place, line in enumerate(said) if line.startswith("Exception raised from")), len(said))
    return " ".join([lines[0], *(line.strip() for line in said[:trace] if line.strip())])
