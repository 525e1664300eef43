"""Copies between the host and a device that make the host wait as seldom as possible.

A device works through a queue of its own. The host waits for the end of the queue whenever it asks for a number, and
also when it copies memory that the system could move elsewhere.
"""

import torch
from torch import Tensor

CPU = torch.device("cpu")


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to a device. The host does not wait for the device."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)  # from memory that stays in its place


def fetch(*tensors: Tensor) -> list[Tensor]:
    """Return tensors of one device on the CPU, as they are. The host waits once for all of them.

    They hold floats, or whole numbers below 2**53: float64 carries both without rounding.
    """
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return list(tensors)
    together = torch.cat([tensor.flatten().double() for tensor in tensors]).cpu()
    parts = together.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape).to(tensor.dtype) for part, tensor in zip(parts, tensors, strict=True)]
