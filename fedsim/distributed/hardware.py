"""The devices of all ranks: what each rank tells the others of its own, and the backend that connects them."""

import json
import os
import socket
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.backends import cudnn

from fedsim.distributed.devices import Place, choose_device
from fedsim.errors import MachineError


class Hardware(NamedTuple):
    """The device of a rank, as it tells the other ranks."""

    host: str = ""
    device: str = "cpu"  # as PyTorch writes it
    identity: str = ""  # of a GPU among all GPUs of all machines
    kind: str = ""  # of a GPU, in words: all that decides how it rounds
    fault: str = ""  # why the rank has no device, in a sentence

    @property
    def is_gpu(self) -> bool:
        return bool(self.identity)

    def to_text(self) -> str:
        return json.dumps(self)

    @classmethod
    def from_text(cls, text: str) -> "Hardware":
        return cls(*json.loads(text))


def look(place: Place, device: str) -> Hardware:
    """Choose this rank's device and describe it. device: as --device has it. It raises nothing: a fault is told."""
    host = socket.gethostname()
    try:
        chosen = choose_device(place, device)
    except MachineError as error:
        return Hardware(host, fault=str(error))
    if chosen.type == "cpu":
        return Hardware(host)
    properties = torch.cuda.get_device_properties(chosen)
    # Ranks that see one GPU each call it by the same number.
    identity = getattr(properties, "uuid", None) or f"{host} {os.environ.get('CUDA_VISIBLE_DEVICES', '')} {chosen}"
    kind = (f"{properties.name}, compute capability {properties.major}.{properties.minor}, CUDA {torch.version.cuda}, "
            f"cuDNN {cudnn.version()}")
    return Hardware(host, str(chosen), str(identity), kind)


def choose_backend(everyone: Sequence[Hardware], device: str, backend: str) -> tuple[str, str]:
    """Return the backend for these ranks and the reason for it: the same on every rank, because all know the same.

    device, backend: as --device and --backend have them. NCCL needs a GPU of its own for every rank. Raises
    MachineError if a rank has no device, if some ranks compute on GPUs and others on CPUs, or if the backend does not
    suit the devices.
    """
    _check_devices(everyone)
    ranks, gpus = len(everyone), len({own.identity for own in everyone})
    if not everyone[0].is_gpu:
        reason = "CPU was asked for" if device == "cpu" else "no CUDA device"
        if backend == "nccl":
            raise MachineError(f"--backend nccl needs CUDA devices ({reason}); use --backend gloo")
        return "gloo", reason
    shared = f"{ranks} ranks share {gpus} CUDA device(s)"
    if backend == "nccl" and gpus < ranks:
        raise MachineError(f"--backend nccl: {shared}, and NCCL allows one rank per device; start at most {gpus} ranks "
                           "here, or use --backend gloo")
    reason = shared if gpus < ranks else "a CUDA device for every rank"
    return (("nccl" if gpus == ranks else "gloo") if backend == "auto" else backend), reason


def count_sharing(everyone: Sequence[Hardware], rank: int) -> int:
    """Return how many ranks compute on the GPU of this rank, itself among them."""
    return Counter(own.identity for own in everyone)[everyone[rank].identity]


def tell_kinds_apart(everyone: Sequence[Hardware]) -> str | None:
    """Say in a sentence that ranks compute on GPUs that round differently; None if all are of one kind."""
    kinds: dict[str, list[int]] = {}
    for rank, own in enumerate(everyone):
        kinds.setdefault(own.kind, []).append(rank)
    if len(kinds) < 2:
        return None
    told = "; ".join(f"rank {', '.join(map(str, ranks))}: {kind}" for kind, ranks in kinds.items())
    return (f"ranks compute on GPUs of different kinds, which round differently, so the result depends on which rank "
            f"plays which car ({told})")


def _check_devices(everyone: Sequence[Hardware]) -> None:
    """Raise MachineError if a rank has no device, or if some have GPUs and others do not."""
    broken = [(rank, own) for rank, own in enumerate(everyone) if own.fault]
    if broken:
        rank, own = broken[0]
        raise MachineError(own.fault if len(broken) == len(everyone) else f"rank {rank} on {own.host}: {own.fault}")
    if len({own.is_gpu for own in everyone}) > 1:
        (on_gpu, there), (on_cpu, here) = (
            next((rank, own.host) for rank, own in enumerate(everyone) if own.is_gpu == kind) for kind in (True, False))
        raise MachineError(f"rank {on_gpu} on {there} has a GPU and rank {on_cpu} on {here} has none, and they would "
                           "round differently: start ranks only where there are GPUs, or all of them with --device cpu")
