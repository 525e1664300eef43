"""Perturbations by the sensor: noise, compression, coarse pixels, lost rows."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fedsim.data.perturbations.picture import WIDTH, grain, to_light, to_picture

ROWS = 120  # rows of a read-out; each is lost as a whole


def read_noise(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Add normal noise of the read-out. It is as strong in the dark as in the light, so it shows in the dark."""
    deviation = (0.025, 0.07, 0.16, 0.32, 0.6)[severity - 1]  # as a share of white, for each pixel
    return to_picture(to_light(picture).add_(grain(picture, random), alpha=deviation))


def shot_noise(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Count too few photons, by Poisson's law. Smaller pixels get fewer of them."""
    photons = (60, 20, 7, 2.2, 0.6)[severity - 1] * (WIDTH / picture.shape[-1]) ** 2  # in a white pixel
    normal = torch.from_numpy(random.standard_normal(picture.shape, np.float32))
    return to_picture(_poisson(to_light(picture).mul_(photons), normal).div_(photons))


def jpeg(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Send the picture over a slow wire: JPEG of lower quality and with fewer pixels.

    The width that is sent does not depend on the picture's width. Otherwise JPEG's blocks of 8 pixels would be small in
    a large picture.
    """
    sent_width, quality = ((480, 18), (340, 14), (230, 11), (150, 9), (100, 8))[severity - 1]
    height, width = picture.shape[-2:]
    sent = _resize(picture, (max(round(height * sent_width / width), 8), sent_width))
    return _resize(_decode(_encode(sent, quality)), (height, width))


def pixelation(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Make pixels too coarse: take means over blocks, as if the camera had only so many pixels."""
    columns = (100, 54, 35, 23, 15)[severity - 1]
    height, width = picture.shape[-2:]
    columns = min(columns, width)
    coarse = F.adaptive_avg_pool2d(picture, (min(round(columns * height / width), height), columns))
    return F.interpolate(coarse[None], (height, width), mode="nearest-exact")[0]


def lost_rows(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Lose rows of the read-out: a lost row repeats the one above it, or is black, or is noise."""
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
    """Turn normal draws into counts by Poisson's law, so that more light never gives fewer photons.

    Exact below an expected count of 1, above it by the expansion of Cornish & Fisher. numpy's own draws take three
    times as long.
    """
    chance = torch.special.ndtr(normal)
    term = torch.exp(-expected)
    few = torch.zeros_like(expected)
    for count in range(1, 7):
        few += chance.sub_(term).ceil()  # 1 where the chance is not used up, else 0
        term.mul_(expected).div_(count)
    many = torch.addcmul(expected, expected.sqrt(), normal).add_(normal.square().sub_(1), alpha=1 / 6).round_()
    return torch.where(expected < 1, few, many)


def _resize(picture: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(picture[None], size, mode="bicubic", antialias=True)[0]


def _encode(picture: Tensor, quality: int) -> bytes:
    from PIL import Image  # late: most starts need no JPEG

    pixels = picture.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
    with io.BytesIO() as file:
        Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=quality)
        return file.getvalue()


def _decode(code: bytes) -> Tensor:
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(io.BytesIO(code)))).permute(2, 0, 1).float().div_(255)
