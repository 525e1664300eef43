"""Light, noise and blur, which perturbations share.

Pictures are (..., H, W) float32 in 0..1.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH = 480  # pixels of the picture for which noise is given


def to_light(picture: Tensor) -> Tensor:
    """Turn grey levels into amounts of light, which can be added. A gamma of 2 is close to sRGB's, and fast."""
    return picture.square()


def to_picture(light: Tensor) -> Tensor:
    """Turn amounts of light into the grey levels of a camera. Too much light becomes white."""
    return light.clamp(0, 1).sqrt_()


def luminance(light: Tensor) -> Tensor:
    """Return the luminance, (3, ...) RGB -> (...), with the weights of Rec. 601."""
    return 0.299 * light[0] + 0.587 * light[1] + 0.114 * light[2]


def grain(picture: Tensor, random: np.random.Generator) -> Tensor:
    """Draw normal noise of a picture's shape. Its deviation is 1 for a picture that is WIDTH pixels wide.

    If a sensor has more pixels, each gets less light. So the deviation grows with the number of pixels along a side,
    and the mean over an area stays as noisy as it was.
    """
    normal = torch.from_numpy(random.standard_normal(picture.shape, np.float32))
    return normal.mul_(picture.shape[-1] / WIDTH)


def smooth_noise(random: np.random.Generator, grains: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Draw smooth noise, (H, W) = size, about 0..1. grains: (rows, columns) of random values."""
    values = torch.from_numpy(random.random(grains, np.float32))
    return F.interpolate(values[None, None], size, mode="bicubic", align_corners=False)[0, 0]


def parts(light: Tensor) -> Tensor:
    """Return the mean light of the parts of a scene: (3, H, W) -> (3, 6, 8)."""
    return F.adaptive_avg_pool2d(light, (6, 8))


def gaussian_blur(picture: Tensor, sigma: float) -> Tensor:
    """Blur with a Gaussian; sigma in pixels."""
    return _convolve(picture, 3 * sigma, lambda frequency: torch.exp(-2 * (math.pi * sigma * frequency) ** 2))


def disc_blur(picture: Tensor, radius: float) -> Tensor:
    """Blur with a disc, as a lens out of focus with a round aperture does; radius in pixels."""
    def transfer(frequency: Tensor) -> Tensor:
        angle = (2 * math.pi * radius * frequency).clamp(min=1e-3)
        return 2 * torch.special.bessel_j1(angle) / angle

    return _convolve(picture, radius, transfer)


def _convolve(picture: Tensor, reach: float, transfer: Callable[[Tensor], Tensor]) -> Tensor:
    """Convolve with a round kernel, given as its Fourier transform at frequencies in cycles per pixel.

    So a radius may be a fraction of a pixel, and a wide blur takes no longer than a narrow one, unlike torchvision's.
    The picture is mirrored beyond its edges, for at least `reach` pixels.
    """
    height, width = picture.shape[-2:]
    (above, below), (left, right) = _margins(height, reach), _margins(width, reach)
    padded = F.pad(picture[None], (left, right, above, below), mode="reflect")[0]
    rows, columns = padded.shape[-2:]
    frequency = torch.hypot(torch.fft.fftfreq(rows)[:, None], torch.fft.rfftfreq(columns))
    blurred = torch.fft.irfft2(torch.fft.rfft2(padded) * transfer(frequency), s=(rows, columns))
    return blurred[..., above:above + height, left:left + width]


def _margins(side: int, reach: float) -> tuple[int, int]:
    """Return the pixels to add before and after a side. The new side is a multiple of 32, if possible: it is fast."""
    before = min(math.ceil(reach), side - 1)
    return before, min(before - (side + 2 * before) % -32, side - 1)
