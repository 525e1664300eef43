"""Choose the device and the number of threads of a rank, and prepare the device."""

import os
import warnings
from dataclasses import dataclass

import torch
import torch.utils.deterministic
from torch.backends import cuda, cudnn

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


def choose_device(place: Place, device: str) -> torch.device:
    """Return the device of a rank. Ranks of a machine with fewer GPUs share them.

    device: as --device has it. Raises MachineError if the machine has no such device.
    """
    gpus = _usable_gpus(device)
    if device == "cuda" and not gpus:
        raise MachineError("--device cuda: no usable CUDA device here; use --device cpu, or --device auto to "
                           "choose")
    return torch.device("cuda", place.local_rank % gpus) if gpus else torch.device("cpu")


def use_device(device: torch.device) -> None:
    """Make a device this process's own, and let it compute the same bits whenever it computes the same."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
        compute_alike()


def compute_alike() -> None:
    """Let GPUs compute the same bits again: only with kernels that add in a fixed order, where there are such."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first product
    cudnn.deterministic = True
    allow_tf32(False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # This would cost a kernel for every new tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # PyTorch warns of it because indices might come twice, but those of a pooling without overlap never do.
    warnings.filterwarnings("ignore", message="max_unpooling2d_forward_out does not have a deterministic")


def allow_tf32(allowed: bool) -> None:
    """Let convolutions and products of float32 on a GPU round their inputs to TF32, or not.

    TF32 has the exponent of float32 and 11 significant bits (NVIDIA, "Ampere Architecture In-Depth", 2020). PyTorch
    itself allows it for convolutions.
    """
    if hasattr(cudnn, "conv"):  # from PyTorch 2.9 on, which refuses to mix both ways
        for part in (cudnn.conv, cudnn.rnn, cuda.matmul):
            part.fp32_precision = "tf32" if allowed else "ieee"  # type: ignore[union-attr]
    else:
        cudnn.allow_tf32 = cuda.matmul.allow_tf32 = allowed


def fits_on_device(bytes_needed: int, device: torch.device, sharing: int) -> bool:
    """Return whether a rank may keep that much in the memory of a GPU: at most its share of half of what is free.

    sharing: the number of ranks on the device. The other half is for training, sums and scores.
    """
    return bytes_needed * 2 * max(1, sharing) <= torch.cuda.mem_get_info(device)[0]


def _usable_gpus(device: str) -> int:
    return torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
