"""From scenes on disk to a network's input. Pure functions on whole batches."""

import torch
from torch import Tensor

FLOOR = 1e-3  # squared grey levels; keeps a channel of one value finite, and moves no other visibly


def standardise(images: Tensor) -> Tensor:
    """Bring every scene to mean 0 and deviation 1 in each channel, by its own mean and deviation.

    images: (B, 3, H, W) uint8. Returns float32 of the same shape; a channel of one value becomes zeros.
    So a drive's light leaves little mark on what the network sees.
    """
    pixels = images.shape[2] * images.shape[3]
    # A sum of integers is exact: the same on every device, and zeros are exactly zeros.
    mean = images.sum((2, 3), keepdim=True, dtype=torch.int64).double().div_(pixels).float()
    centred = images.float().sub_(mean)
    variance = centred.square().mean((2, 3), keepdim=True)
    return centred.div_(variance.add_(FLOOR).sqrt_())


def flip(images: Tensor, labels: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror the chosen scenes left to right.

    images: (B, 3, H, W); labels: (B, H, W); chosen: (B,) bool. Returns new images and labels.
    """
    return (torch.where(chosen[:, None, None, None], images.flip(-1), images),
            torch.where(chosen[:, None, None], labels.flip(-1), labels))
