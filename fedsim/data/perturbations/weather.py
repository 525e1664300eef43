"""Perturbations by weather between the camera and the street: fog, rain, snow.

A picture has no depth, so a simple street takes its place: ground below, house fronts on both sides, and sky.
"""

import numpy as np
import torch
from torch import Tensor

from fedsim.data.perturbations.picture import gaussian_blur, luminance, parts, smooth_noise, to_light, to_picture

HORIZON = 0.45  # as a share of the height
BELOW, ASIDE, ABOVE = 1.4, 10.0, 25.0  # metres from the camera to the ground, to the fronts, to open sky
FARTHEST = 200.0  # metres


def fog(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Fill the air with drifting fog, by Koschmieder's law: light fades with distance into scattered daylight."""
    visibility = (700, 320, 140, 65, 32)[severity - 1]  # metres at which 1/e of the light is left
    light = to_light(picture)
    return to_picture(_veil(light, visibility, _daylight(light), random))


def rain(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Let it rain: streaks of near drops, a grey veil of far ones, and water on the windscreen."""
    amount = (0.05, 0.13, 0.28, 0.52, 0.85)[severity - 1]
    light = to_light(picture)
    height, width = picture.shape[-2:]
    air = 0.75 * _daylight(light)
    light = torch.lerp(light, luminance(light), 0.5 * amount).mul_(1 - 0.3 * amount)
    light = _veil(light, 65 / amount, air, random)
    light = gaussian_blur(light, 0.006 * amount * width)
    slant = random.normal(0, 0.15)
    for most, length, breadth, opacity in ((1400, 0.035, 0.0014, 0.5), (350, 0.09, 0.003, 0.4)):
        drops = _strokes(random, (height, width), most, amount, length, breadth, slant) * opacity
        light = torch.lerp(light, 1.25 * air, drops)
    return to_picture(light)


def snow(picture: Tensor, severity: int, random: np.random.Generator) -> Tensor:
    """Let it snow: flakes at three distances, the nearest out of focus, and a bright haze of farther ones."""
    amount = (0.04, 0.12, 0.27, 0.55, 1.0)[severity - 1]
    height, width = picture.shape[-2:]
    light = to_light(picture)
    air = _daylight(light)
    pale = torch.maximum(light, luminance(light) + 0.25 * air)  # a little snow lies on everything
    light = _veil(torch.lerp(light, pale, 0.5 * amount), 45 / amount, 0.9 * air, random)
    slant = random.normal(0, 0.5)
    for most, length, breadth, opacity in ((2500, 0.004, 0.003, 0.9), (500, 0.01, 0.007, 0.85), (60, 0.03, 0.022, 0.6)):
        flakes = _strokes(random, (height, width), most, amount, length, breadth, slant) * opacity
        light = torch.lerp(light, 1.1 * air, flakes)
    return to_picture(light)


def _daylight(light: Tensor) -> Tensor:
    """Return the scattered light of a scene, (3, 1, 1): its brightest part, mostly the sky, made greyer."""
    candidates = parts(light).flatten(1)
    sky = candidates[:, luminance(candidates).argmax()]
    return torch.lerp(sky, luminance(sky), 0.75)[:, None, None]


def _distance(height: int, width: int) -> Tensor:
    """Return distances in metres, (H, W), for a pinhole camera in the middle of a street.

    Its focal length is the picture's width.
    """
    below = (torch.arange(height) + 0.5 - HORIZON * height)[:, None] / width
    aside = ((torch.arange(width) + 0.5) / width - 0.5).abs()
    nearness = (below / BELOW).clamp(min=0) ** 4 + (below / ABOVE).clamp(max=0) ** 4 + (aside / ASIDE) ** 4
    return (nearness + FARTHEST ** -4) ** -0.25


def _veil(light: Tensor, visibility: float, air: Tensor, random: np.random.Generator) -> Tensor:
    """Veil a scene's light with unevenly thick air that has the light `air`, (3, 1, 1).

    visibility: metres at which 1/e of the light is left.
    """
    height, width = light.shape[-2:]
    thickness = 0.6 + 0.8 * smooth_noise(random, (4, 6), (height, width))
    left = torch.exp(_distance(height, width) * thickness / -visibility)
    return torch.lerp(air, light, left)


def _strokes(random: np.random.Generator, size: tuple[int, int], most: int, share: float, length: float,
             breadth: float, slant: float) -> Tensor:
    """Draw a share of `most` falling drops, and return the part of each pixel that they cover, (H, W) in 0..1.

    length, breadth: shares of the width; slant: of the fall, sideways by downwards. A stroke consists of many points,
    and a point is spread over the four pixels around it, so a stroke may be finer than a pixel.
    """
    height, width = size
    top, left = random.uniform(-length, 1, most), random.uniform(-0.2, 1.2, most)
    scale, opacity = random.uniform(0.5, 1.5, most), random.uniform(0.4, 1, most)
    count = round(share * most)
    points = max(2, round(1.5 * length * width))
    along = (np.arange(points) + 0.5) / points * length * width * scale[:count, None]
    y = (top[:count, None] * height + along - 0.5).ravel()
    x = (left[:count, None] * width + along * slant - 0.5).ravel()
    weight = np.repeat(scale[:count] * opacity[:count] * (length * width / points) * (breadth * width), points)
    inside = (y >= -1) & (y < height) & (x >= -1) & (x < width)
    y, x, weight = y[inside] + 1, x[inside] + 1, weight[inside]  # on a canvas with a frame of one pixel
    row, column, broad = y.astype(np.int64), x.astype(np.int64), width + 2
    down, right, corner = y - row, x - column, row * broad + column
    places = np.concatenate([corner, corner + 1, corner + broad, corner + broad + 1])
    shares = np.concatenate([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
    cover = np.bincount(places, shares * np.tile(weight, 4), (height + 2) * broad).astype(np.float32)
    inner = torch.from_numpy(cover).view(height + 2, broad)[1:-1, 1:-1]
    return gaussian_blur(inner, breadth * width / 2).clamp_(0, 1)
