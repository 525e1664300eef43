"""Pedestrians and cyclists."""

import numpy as np

from fedsim.data.datasets.streets.camera import Camera, Upright
from fedsim.data.datasets.streets.canvas import BICYCLIST, PEDESTRIAN, Canvas
from fedsim.data.datasets.streets.paint import Paint, hsv, plain
from fedsim.data.datasets.streets.style import Style
from fedsim.data.datasets.streets.texture import Material

_SKIN = ((0.06, 0.35, 0.9), (0.07, 0.45, 0.7), (0.06, 0.5, 0.42))  # hue, saturation, value


def paint_pedestrian(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator,
                     x: float, z: float) -> None:
    """A walker in level stripes."""
    person = camera.upright(x, z)
    size = rng.uniform(0.88, 1.1)  # 1 = 1.75 m
    stride = rng.uniform(0.05, 0.3)
    top = canvas.surface(PEDESTRIAN, Paint(Material.STRIPES, *style.clothes[rng.integers(6)]), z)
    legs = canvas.surface(PEDESTRIAN, plain(style.clothes[rng.integers(6)][0]), z)
    for foot in (-stride, stride):
        canvas.polygon(legs, person.points((-0.19 * size, 0.85 * size), (0.19 * size, 0.85 * size),
                                           (foot + 0.11, 0), (foot - 0.11, 0)))
    canvas.polygon(top, person.points((-0.22 * size, 0.75 * size), (-0.32 * size, 1.15 * size),
                                      (-0.25 * size, 1.47 * size), (0.25 * size, 1.47 * size),
                                      (0.32 * size, 1.15 * size), (0.22 * size, 0.75 * size)))
    _paint_head(canvas, person, rng, PEDESTRIAN, 0.0, 1.6 * size, z)


def paint_cyclist(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator,
                  x: float, z: float) -> None:
    """A rider in slanting stripes on a bicycle that is seen at an angle."""
    bicycle = camera.upright(x, z)
    reach = rng.choice([-1, 1]) * rng.uniform(0.35, 0.62)  # metres from the middle to the front wheel
    metal = canvas.surface(BICYCLIST, plain(style.clothes[rng.integers(6)][1]), z)
    tyre = canvas.surface(BICYCLIST, plain(hsv(0.6, 0.1, 0.16)), z)
    legs = canvas.surface(BICYCLIST, plain(style.clothes[rng.integers(6)][0]), z)
    top = canvas.surface(BICYCLIST, Paint(Material.SASH, *style.clothes[rng.integers(6)]), z)
    radius, rim = 0.36 * bicycle.scale, 0.1 * bicycle.scale
    for hub in (-reach, reach):
        canvas.ring(tyre, bicycle.point(hub, 0.36), radius * min(1.0, 1.7 * abs(reach)), radius, rim)
    canvas.line(metal, bicycle.points((-reach, 0.36), (-0.1 * reach, 0.4), (-0.35 * reach, 0.95),
                                      (0.7 * reach, 0.9), (reach, 0.36)), 0.07 * bicycle.scale)
    canvas.line(metal, bicycle.points((0.7 * reach, 0.9), (0.62 * reach, 1.1)), 0.07 * bicycle.scale)
    for pedal in (0.2, 0.45):
        canvas.line(legs, bicycle.points((-0.3 * reach, 0.98), (0.35 * reach, 0.75), (-0.1 * reach, pedal)),
                    0.15 * bicycle.scale)
    canvas.polygon(top, bicycle.points((-0.3 * reach - 0.2, 0.92), (0.1 * reach - 0.26, 1.5),
                                       (0.1 * reach + 0.26, 1.5), (-0.3 * reach + 0.2, 0.92)))
    canvas.line(top, bicycle.points((0.1 * reach, 1.42), (0.65 * reach, 1.1)), 0.13 * bicycle.scale)
    _paint_head(canvas, bicycle, rng, BICYCLIST, 0.2 * reach, 1.66, z)


def _paint_head(canvas: Canvas, person: Upright, rng: np.random.Generator, label: int, right: float,
                up: float, z: float) -> None:
    """A face, and hair or helmet above it; right and up in metres."""
    face = canvas.surface(label, plain(hsv(*_SKIN[rng.integers(3)])), z)
    hair = canvas.surface(label, plain(hsv(rng.random(), 0.6, 0.25 if label == PEDESTRIAN else 0.9)), z)
    radius = 0.15 * person.scale
    canvas.disc(hair, person.point(right, up + 0.04), radius, 1.1 * radius)
    canvas.disc(face, person.point(right, up - 0.03), 0.85 * radius, 0.95 * radius)
