"""Perturbations by the lens and the windscreen: blur and dirt."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fedsim.data.perturbations.picture import disc_blur, gaussian_blur, smooth_noise, to_light, to_picture
from fedsim.data.perturbations.weather import HORIZON

DOUBLINGS = 4  # so often the number of exposures doubles: 16 give a smooth blur
SPECKS = 110  # number of specks of dirt at the highest severity
MUD = (0.22, 0.18, 0.13)  # shares of R, G, B that pass through mud
MASK_WIDTH = 80  # pixels of the mask that dirt is painted into; dirt is out of focus, so a coarse mask will do


def motion_blur(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Expose for a long time while driving: all moves away from the vanishing point, faster if farther from it.

    The blur is not sideways as in a turn, because cars mostly drive ahead. The distance stays sharp, unlike in defocus.
    The mean of n exposures, averaged with the same mean zoomed by n steps, is the mean of 2 n exposures.
    """
    zoom = (1.03, 1.09, 1.19, 1.38, 1.75)[severity - 1]  # over the whole exposure
    light = to_light(picture)
    for doubling in range(DOUBLINGS):
        light = torch.lerp(light, _zoom(light, zoom ** (2 ** doubling / (2 ** DOUBLINGS - 1))), 0.5)
    return to_picture(light)


def defocus(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Put the lens out of focus: each point becomes a disc."""
    radius = (0.006, 0.012, 0.02, 0.035, 0.06)[severity - 1]  # of the width
    return to_picture(disc_blur(to_light(picture), radius * picture.shape[-1]))


def dirt(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Put dry mud and drops on the windscreen. Too near to be sharp, they darken and blur what is behind them."""
    count = (7, 18, 40, 70, SPECKS)[severity - 1]
    height, width = picture.shape[-2:]
    rows = max(round(MASK_WIDTH * height / width), 1)
    centre = random.random((SPECKS, 2), np.float32)  # (y, x) as shares of height and width
    radius = 0.012 + 0.042 * random.exponential(1, SPECKS).astype(np.float32).clip(max=3.5)  # of the width
    outline = smooth_noise(random, (18, 24), (rows, MASK_WIDTH)).numpy()
    y = (np.arange(rows, dtype=np.float32) + 0.5) / MASK_WIDTH
    x = (np.arange(MASK_WIDTH, dtype=np.float32) + 0.5) / MASK_WIDTH
    away = np.hypot(y[:, None] - centre[:count, 0, None, None] * height / width, x - centre[:count, 1, None, None])
    inside = (1 - away / radius[:count, None, None]).max(0) + 0.9 * (outline - 0.5)
    mud = torch.from_numpy(0.92 * (inside / 0.35).clip(0, 1))
    mud = F.interpolate(mud[None, None], (height, width), mode="bilinear", antialias=True)[0]
    light = to_light(picture)
    behind = gaussian_blur(light, 0.03 * width).mul_(torch.tensor(MUD)[:, None, None])
    return to_picture(torch.lerp(light, behind, mud))


def _zoom(light: Tensor, factor: float) -> Tensor:
    """Enlarge a picture around the vanishing point, by bilinear interpolation."""
    height, width = light.shape[-2:]
    # grid_sample counts from -1 to 1 between a picture's outer edges.
    x = (2 * torch.arange(width) + 1) / (width * factor) - 1 / factor
    y = ((2 * torch.arange(height) + 1) / height - 2 * HORIZON) / factor + 2 * HORIZON - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    return F.grid_sample(light[None], grid[None], align_corners=False)[0]
