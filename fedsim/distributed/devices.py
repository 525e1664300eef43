"""Choose the device, the backend and the number of threads of a rank."""

import os
from dataclasses import dataclass

import torch

from fedsim.errors import MachineError, PlaceError
from fedsim.system.machine import cores


@dataclass(frozen=True)
class Place:
    """A process's rank and the number of ranks, in the whole run and on its machine. The default is one rank alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def from_environment(cls) -> "Place":
        """Read the place from the variables that torchrun sets.

        Raises PlaceError if only some of them are set, or if one is not a number or out of its range.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        texts = {name: text for name in names if (text := os.environ.get(name)) is not None}
        if not texts:
            return cls()
        remedy = f"start ranks with torchrun, which sets {', '.join(names)}, or unset them all"
        if missing := [name for name in names if name not in texts]:
            raise PlaceError(f"{', '.join(missing)} must be set beside {', '.join(texts)}: {remedy}")
        for name, text in texts.items():
            if not (text.isascii() and text.isdigit() and len(text) < 10):
                raise PlaceError(f"{name} is {text[:40]!r}, which is not a number of ranks: {remedy}")
        place = cls(*map(int, texts.values()))
        for name, value, least, most in (
                ("WORLD_SIZE", place.size, 1, None), ("LOCAL_WORLD_SIZE", place.local_size, 1, place.size),
                ("RANK", place.rank, 0, place.size - 1), ("LOCAL_RANK", place.local_rank, 0, place.local_size - 1)):
            if value < least or (most is not None and value > most):
                limit = f"at least {least}" if value < least else f"at most {most}"
                raise PlaceError(f"{name} is {value}, and with WORLD_SIZE {place.size} and LOCAL_WORLD_SIZE "
                                 f"{place.local_size} it is {limit}: {remedy}")
        return place


def check_meeting_point() -> None:
    """Check the variables that say where ranks meet. Raises PlaceError that names the one which is missing or wrong."""
    remedy = "start ranks with torchrun, which sets it"
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise PlaceError(f"{name} is {'empty' if name in os.environ else 'not set'}, so this rank does not know "
                             f"where to meet the others: {remedy}")
    port = os.environ["MASTER_PORT"]
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 2**16):
        raise PlaceError(f"MASTER_PORT is {port[:40]!r}, which is not a port from 1 to 65535: {remedy}")


def fair_threads(place: Place) -> int:
    """Return a rank's share of the cores that this process may use; at least 1."""
    return max(1, cores() // place.local_size)


def ranks_that_fit(device: str, threads: int | None) -> int:
    """Return how many ranks of `threads` threads this machine has room for: one for each GPU, or as cores allow."""
    return _usable_gpus(device) or max(1, cores() // (threads or 1))


def choose_device(place: Place, device: str, backend: str) -> tuple[torch.device, str, str]:
    """Return the device, the backend and the reason for it. NCCL needs a GPU of its own for every local rank.

    device, backend: as --device and --backend have them. Raises MachineError if the machine cannot do what they ask.
    """
    gpus = _usable_gpus(device)
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
                           f"allows one rank per device; start at most {gpus} ranks here, or use --backend "
                           "gloo")
    shared = f"{place.local_size} ranks share {gpus} CUDA device(s)"
    reason = "a CUDA device for every rank" if own else shared
    if backend == "auto":
        backend = "nccl" if own else "gloo"
    return torch.device("cuda", place.local_rank % gpus), backend, reason


def _usable_gpus(device: str) -> int:
    return torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
