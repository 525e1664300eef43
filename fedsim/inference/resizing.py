"""The resizing of pictures as operations on tensors, for graphs that run without Pillow.

The weights are those of Pillow's Resample.c, whole numbers of 22 bits. So a picture gets the very bytes that
`resize_picture` gives it (fedsim/data/pixels.py).
"""

import torch
from torch import Tensor

BITS = 22  # of a weight: Pillow keeps 32, less 8 for the pixels and 2 for sums


def resize(pictures: Tensor, height: int, width: int) -> Tensor:
    """Bring pictures (N, 3, h, w) uint8 to one size: (N, 3, height, width) uint8, as `resize_picture` does.

    It has no branch that depends on h and w, so that a graph is the same for pictures of all sizes.
    """
    rows, columns = _places(pictures[0, 0, :, 0]), _places(pictures[0, 0, 0, :])
    shrinks = (_count(columns) >= width) & (_count(rows) >= height)
    across = _round(pictures.double() @ _weights(columns, width, shrinks).T)  # Pillow rounds between the two directions
    return _round(_weights(rows, height, shrinks) @ across).to(torch.uint8)


def _places(line: Tensor) -> Tensor:
    """Return the positions 0, 1, … of the pixels of a line, (n,) float64."""
    return torch.ones_like(line, dtype=torch.float64).cumsum(0) - 1


def _count(places: Tensor) -> Tensor:
    """Return the number of positions as a tensor of float64, which a graph computes for each picture."""
    return places[-1] + 1


def _weights(places: Tensor, target: int, shrinks: Tensor) -> Tensor:
    """Return the weights of a line's pixels in each new pixel: (target, n) float64, whole numbers.

    shrinks: whether the mean over an area is taken (BOX); else neighbours are blended (BILINEAR).
    """
    scale = _count(places) / target
    # An area is as wide as the new pixel; neighbours are blended over at least one pixel to either side.
    wide = torch.where(shrinks, scale, torch.clamp(scale, min=1.0))
    reach = torch.where(shrinks, 0.5, 1.0) * torch.clamp(scale, min=1.0)
    centre = (torch.arange(target, dtype=torch.float64, device=places.device)[:, None] + 0.5) * scale
    first = torch.clamp(torch.floor(centre - reach + 0.5), min=0)
    last = torch.minimum(torch.floor(centre + reach + 0.5), _count(places))
    away = (places - centre + 0.5) / wide
    box = ((away > -0.5) & (away <= 0.5)).double()
    triangle = torch.clamp(1 - away.abs(), min=0)
    weights = torch.where(shrinks, box, triangle) * ((places >= first) & (places < last))
    return torch.floor(weights / weights.sum(1, keepdim=True) * 2**BITS + 0.5)


def _round(sums: Tensor) -> Tensor:
    """Return sums of weighted pixels as pixels: whole numbers from 0 to 255, float64. A sum is exact."""
    return torch.clamp(torch.floor((sums + 2 ** (BITS - 1)) / 2**BITS), 0, 255)
