"""Pictures and labels: resized, standardised, mirrored."""

import numpy as np
import torch
from torch import Tensor

FLOOR = 1e-3  # squared grey levels; keeps a channel of one value finite and hardly changes any other


def nearest(source: int, target: int) -> np.ndarray:
    """Return the index of the source pixel under the centre of each target pixel, (target,) int64."""
    return (2 * np.arange(target) + 1) * source // (2 * target)


def resize_picture(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring a picture (h, w, 3) uint8 to another size (width, height): (height, width, 3) uint8."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    from PIL import Image  # late: most starts find their scenes in the cache

    # A picture that shrinks takes the mean over the area of each new pixel, as a coarser camera would.
    shrinks = size[0] <= width and size[1] <= height
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    # Rows first, then columns: pixels are rounded in between, and versions of Pillow choose different orders.
    return np.asarray(Image.fromarray(image).resize((size[0], height), method).resize(size, method))


def standardise(images: Tensor) -> Tensor:
    """Bring every scene to mean 0 and deviation 1 in each channel, by its own mean and deviation.

    images: (B, 3, H, W) uint8. Returns float32 of the same shape; a channel of one value becomes zeros.
    The network then sees little of the light in which a drive was recorded.
    """
    pixels = images.shape[2] * images.shape[3]
    # A sum of integers is exact. So it is the same on every device, and a channel of one value gives exact zeros.
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
