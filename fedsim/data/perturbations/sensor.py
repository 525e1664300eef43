"""The sensor and the wire behind it: noise, compression, coarse pixels, rows that are lost."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fedsim.data.perturbations.picture import WIDTH, grain, to_light, to_picture

ROWS = 120  # of a read-out: what is lost together


def read_noise(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Noise of the read-out: normal, as strong in the dark as in the light, so that it is seen in the dark."""
    deviation = (0.025, 0.07, 0.16, 0.32, 0.6)[severity - 1]  # of white, a pixel
    return to_picture(to_light(picture).add_(grain(picture, random), alpha=deviation))


def shot_noise(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Too few photons, each counted: Poisson's law, and the fewer, the smaller a pixel is."""
    photons = (60, 20, 7, 2.2, 0.6)[severity - 1] * (WIDTH / picture.shape[-1]) ** 2  # of a white pixel
    normal = torch.from_numpy(random.standard_normal(picture.shape, np.float32))
    return to_picture(_poisson(to_light(picture).mul_(photons), normal).div_(photons))


def jpeg(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """A stream of pictures squeezed into too narrow a band: JPEG of ever less quality and ever fewer pixels.

    The width of what is sent does not depend on the picture's, or blocks of 8 pixels would be small in a large one.
    """
    sent_width, quality = ((480, 18), (340, 14), (230, 11), (150, 9), (100, 8))[severity - 1]
    height, width = picture.shape[-2:]
    sent = _resized(picture, (max(round(height * sent_width / width), 8), sent_width))
    return _resized(_decoded(_encoded(sent, quality)), (height, width))


def pixelation(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Pixels too coarse: means over blocks, as if the camera had no more."""
    columns = (100, 54, 35, 23, 15)[severity - 1]
    height, width = picture.shape[-2:]
    columns = min(columns, width)
    coarse = F.adaptive_avg_pool2d(picture, (min(round(columns * height / width), height), columns))
    return F.interpolate(coarse[None], (height, width), mode="nearest-exact")[0]


def lost_rows(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Faults of the read-out: a lost row repeats the one above it, or is black, or is noise."""
    lost = (0.012, 0.05, 0.11, 0.2, 0.32)[severity - 1]
    order, faults = random.permutation(ROWS), random.integers(0, 3, ROWS)
    noise = torch.from_numpy(random.random(picture.shape, np.float32))
    rows = np.arange(picture.shape[-2])
    group = rows * ROWS // len(rows)
    good = order[group] >= lost * ROWS
    repeated = picture[:, np.maximum.accumulate(np.where(good, rows, 0))]
    fault = torch.from_numpy(np.where(good, 0, faults[group]))[:, None]
    return torch.where(fault == 2, noise, torch.where(fault == 1, 0.0, repeated))


def _poisson(expected: Tensor, normal: Tensor) -> Tensor:
    """Counts by Poisson's law from normal draws, so that more light never has fewer photons.

    Exact where less than 1 is expected, elsewhere by the expansion of Cornish & Fisher: numpy's own takes three times
    as long.
    """
    chance = torch.special.ndtr(normal)
    term = torch.exp(-expected)
    few = torch.zeros_like(expected)
    for count in range(1, 7):
        few += chance.sub_(term).ceil()  # 1 where the chance is not used up, else 0
        term.mul_(expected).div_(count)
    many = torch.addcmul(expected, expected.sqrt(), normal).add_(normal.square().sub_(1), alpha=1 / 6).round_()
    return torch.where(expected < 1, few, many)


def _resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(picture[None], size, mode="bicubic", antialias=True)[0]


def _encoded(picture: Tensor, quality: int) -> bytes:
    from PIL import Image  # late: names are needed before pictures

    pixels = picture.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
    with io.BytesIO() as file:
        Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=quality)
        return file.getvalue()


def _decoded(code: bytes) -> Tensor:
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(io.BytesIO(code)))).permute(2, 0, 1).float().div_(255)
