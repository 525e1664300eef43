"""Cars: boxes with a cabin, seen from behind or from the front."""

import numpy as np

from fedsim.data.datasets.streets.camera import Camera, Point
from fedsim.data.datasets.streets.canvas import CAR, Canvas
from fedsim.data.datasets.streets.paint import hsv, plain
from fedsim.data.datasets.streets.style import Style

_HALF = 0.9  # metres, half a car's width
_BELT = 0.95  # metres, where the windows begin
_SILL = 0.3  # metres, where the body ends above the road


def paint_car(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator,
              x: float, z: float, oncoming: bool) -> None:
    """A car along the street whose near end is at z."""
    coat = style.coats[rng.integers(len(style.coats))]
    length, top = rng.uniform(3.8, 4.8), rng.choice([1.45, 1.55, 1.9])
    body = canvas.surface(CAR, coat, z)
    flank = canvas.surface(CAR, coat.shaded(0.75), z)
    glass = canvas.surface(CAR, plain(hsv(0.58, 0.25, 0.22)), z)
    tyre = canvas.surface(CAR, plain((22, 22, 24)), z)
    right = camera.lateral - camera.curvature * z * z / 2 > x  # which flank is seen
    edge = x + _HALF if right else x - _HALF

    def along(*profile: tuple[float, float]) -> list[Point]:
        """The car's flank: (metres from its near end, metres above the road) -> pixels."""
        return camera.points(*((edge, up, z + back) for back, up in profile))

    def across(left_up_back: tuple[tuple[float, float, float], ...]) -> list[Point]:
        """Both sides of its near end: (metres from its middle, up, back), mirrored -> pixels."""
        mirrored = [(-side, up, back) for side, up, back in reversed(left_up_back)]
        return camera.points(*((x + side, up, z + back) for side, up, back in (*left_up_back, *mirrored)))

    canvas.polygon(tyre, across(((-_HALF, 0.0, 0.4), (-_HALF, 0.45, 0.4))))
    for axle in (0.7, length - 0.8):
        canvas.polygon(tyre, along((axle - 0.3, 0.1), (axle - 0.2, 0.5), (axle + 0.2, 0.5), (axle + 0.3, 0.1),
                                   (axle + 0.15, 0.0), (axle - 0.15, 0.0)))
    canvas.polygon(flank, along((0, _SILL + 0.1), (0, _BELT), (0.5, top), (length - 1.8, top),
                                (length - 1.1, _BELT), (length, _BELT - 0.1), (length, _SILL + 0.1)))
    canvas.polygon(glass, along((0.3, _BELT), (0.62, top - 0.1), (length - 1.9, top - 0.1),
                                (length - 1.35, _BELT)))
    for axle in (0.7, length - 0.8):  # the upper half of the wheels, seen in the arches
        canvas.polygon(tyre, along((axle - 0.3, _SILL), (axle - 0.2, 0.6), (axle + 0.2, 0.6),
                                   (axle + 0.3, _SILL)))
    canvas.polygon(body, across(((-0.72, top, length - 1.8), (-0.72, top, 0.5), (-_HALF, _BELT, 0.0))))
    canvas.polygon(glass, across(((-0.66, top - 0.09, 0.42), (-0.78, _BELT + 0.05, 0.05))))
    canvas.polygon(body, across(((-_HALF, _BELT, 0.0), (-_HALF, _SILL, 0.0))))
    _paint_lights(canvas, camera, style, x, z, oncoming)


def _paint_lights(canvas: Canvas, camera: Camera, style: Style, x: float, z: float, oncoming: bool) -> None:
    """Head or tail lights, and the number plate."""
    colour = hsv(0.15, 0.15, 1.0) if oncoming else hsv(0.0, 0.85, 0.85)
    light = canvas.surface(CAR, plain(colour), z, glows=style.light.lamps)
    plate = canvas.surface(CAR, plain(hsv(0.14, 0.4, 0.9)), z)
    near = camera.upright(x, z)
    for left in (-0.84, 0.52):
        canvas.polygon(light, near.box(left, 0.66, left + 0.32, 0.84))
    canvas.polygon(plate, near.box(-0.26, 0.42, 0.26, 0.56))
