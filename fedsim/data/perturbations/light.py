"""Perturbations by light: too little, too much, and stray light."""

import math

import numpy as np
import torch
from torch import Tensor

from fedsim.data.perturbations.picture import grain, luminance, parts, smooth_noise, to_light, to_picture
from fedsim.data.perturbations.weather import HORIZON

DUSK = (0.72, 0.88, 1.2)  # factors for R, G, B at dusk
SUN = (1.0, 0.9, 0.72)  # R, G, B of the low sun


def dusk(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Take most of the light away and tint the rest blue. Few photons and the read-out make noise in the dark."""
    gain = (0.55, 0.25, 0.11, 0.05, 0.02)[severity - 1]
    light = to_light(picture).mul_(torch.tensor(DUSK)[:, None, None] * gain)
    deviation = (light / 150 + 0.014 ** 2).sqrt_()  # 150 photons a pixel by day
    return to_picture(light.addcmul_(deviation, grain(picture, random)))


def glare(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Put the low sun ahead, where the sky is bright: a bloom with rays, a veil, and a shorter exposure."""
    strength = (0.12, 0.28, 0.55, 1.0, 1.8)[severity - 1]
    light = to_light(picture)
    height, width = picture.shape[-2:]
    x, y = _sun(light, random)
    right = (torch.arange(width) + 0.5) / width - x
    below = ((torch.arange(height) + 0.5) / height - y)[:, None] * (height / width)
    away = torch.hypot(right, below)
    disc = 12 * torch.exp(-(away / 0.025) ** 2)  # radii of the width
    bloom = 1.3 / (1 + (away / 0.09) ** 2) * _rays(torch.atan2(below, right), random)
    veil = 0.35
    sun = strength * (disc + bloom + veil) * torch.tensor(SUN)[:, None, None]
    return to_picture(light / (1 + strength) + sun)


def low_contrast(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Leave few grey levels, under uneven stray light, with noise of the read-out between them."""
    contrast = (0.45, 0.24, 0.13, 0.07, 0.04)[severity - 1]
    height, width = picture.shape[-2:]
    stray = picture.mean() + 0.08 * (smooth_noise(random, (3, 4), (height, width)) - 0.5)
    return torch.lerp(stray, picture, contrast).add_(grain(picture, random), alpha=1.5 / 255)


def _sun(light: Tensor, random: np.random.Generator) -> tuple[float, float]:
    """Draw (x, y) of the sun as shares of width and height: above the horizon, mostly where the sky is bright."""
    draw, *jitter = random.random(3)
    bright = luminance(parts(light)).double().numpy() ** 4 + 1e-9
    rows, columns = bright.shape
    chance = np.cumsum(bright[:math.ceil(HORIZON * rows)])
    row, column = divmod(int(np.searchsorted(chance, draw * chance[-1])), columns)
    return (column + jitter[0]) / columns, (row + jitter[1]) / rows


def _rays(angle: Tensor, random: np.random.Generator) -> Tensor:
    """Draw factors around 1 by angle in radians: rays of the sun, scattered by scratches in the glass."""
    waves = torch.ones_like(angle)
    for count, phase in zip((5, 9, 14, 23), random.uniform(0, 2 * math.pi, 4), strict=True):
        waves += 0.1 * torch.cos(count * angle + phase)
    return waves
