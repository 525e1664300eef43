"""Houses, fences, trees, poles, signs, people, bicycles and cars."""

import math

import numpy as np

from fedsim.data.datasets.streets.camera import Camera, Point, Upright
from fedsim.data.datasets.streets.canvas import BICYCLIST, BUILDING, CAR, FENCE, PEDESTRIAN, POLE, SIGN, TREE, Canvas
from fedsim.data.datasets.streets.paint import Paint, hsv, plain
from fedsim.data.datasets.streets.style import Style
from fedsim.data.datasets.streets.texture import Material

_STOREY = 3.0  # metres
_SKIN = ((0.06, 0.35, 0.9), (0.07, 0.45, 0.7), (0.06, 0.5, 0.42))  # hue, saturation, value
_HALF_WIDTH = 0.9  # metres, of a car
_BELT = 0.95  # metres, where a car's windows begin
_SILL = 0.3  # metres above the road, where a car's body ends


def paint_house(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator,
                x: float, near: float, far: float) -> None:
    """Paint a house: its front along the street at x from `near` to `far`, and its near end wall."""
    side = 1 if x > 0 else -1
    storeys = int(rng.integers(style.kind.storeys[0], style.kind.storeys[1] + 1))
    eaves = _STOREY * storeys + rng.uniform(0.3, 1.2)
    rise = rng.uniform(1.2, 3.0)
    depth = rng.uniform(7, 10)
    wall = style.walls[rng.integers(4)]
    sunny, shady = (1.08, 0.8) if side * style.sun < 0 else (0.8, 1.0)
    front = canvas.surface(BUILDING, wall.shade(sunny), near)
    end = canvas.surface(BUILDING, wall.shade(shady), near)
    roof = canvas.surface(BUILDING, style.roofs[rng.integers(2)].shade(sunny), near)
    ridge = x + side * depth / 2
    canvas.polygon(roof, camera.points((x, eaves, near), (ridge, eaves + rise, near),
                                       (ridge, eaves + rise, far), (x, eaves, far)))
    canvas.polygon(front, camera.points((x, 0, near), (x, eaves, near), (x, eaves, far), (x, 0, far)))
    canvas.polygon(end, camera.points((x, 0, near), (x, eaves, near), (ridge, eaves + rise, near),
                                      (x + side * depth, eaves, near), (x + side * depth, 0, near)))
    lit = style.light.lamps and rng.random() < 0.5
    glass = hsv(0.12, 0.55, 0.62) if lit else hsv(0.6, 0.3, rng.uniform(0.12, 0.3))
    windows = canvas.surface(BUILDING, plain(glass), near, glows=lit)
    for storey in range(storeys):
        bottom = _STOREY * storey + 1.0
        for z in np.arange(near + 1.0, far - 1.4, 2.8).tolist():
            canvas.polygon(windows, camera.points((x, bottom, z), (x, bottom + 1.5, z),
                                                  (x, bottom + 1.5, z + 1.2), (x, bottom, z + 1.2)))
        if near > 6:
            for offset in (1.5, 4.5):
                left, right = x + side * offset, x + side * (offset + 1.2)
                canvas.polygon(windows, camera.points((left, bottom, near), (left, bottom + 1.5, near),
                                                      (right, bottom + 1.5, near), (right, bottom, near)))


def paint_fence(canvas: Canvas, camera: Camera, style: Style, height: float, x: float, near: float,
                far: float) -> None:
    """Paint a panel of a slatted fence along the street."""
    slats = canvas.surface(FENCE, style.fences[int(x > 0)], near)
    canvas.polygon(slats, camera.points((x, 0, near), (x, height, near), (x, height, far), (x, 0, far)))
    post = camera.upright(x, near)
    canvas.polygon(slats, post.box(-0.07, 0, 0.07, height + 0.15))


def paint_hedge(canvas: Canvas, camera: Camera, style: Style, height: float, x: float, near: float,
                far: float) -> None:
    """Paint a piece of a hedge along the street, with the end that faces the camera."""
    leaves = canvas.surface(TREE, style.foliage[0].shade(0.8), near)
    outer = x + (0.8 if x > 0 else -0.8)
    canvas.polygon(leaves, camera.points((outer, height, near), (x, height, near), (x, height, far),
                                         (x, 0, far), (x, 0, near), (outer, 0, near)))


def paint_tree(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator,
               x: float, z: float, height: float) -> None:
    """Paint a tree: a trunk and a crown of overlapping blobs, the upper ones in more light."""
    tree = camera.upright(x, z)
    bark = canvas.surface(TREE, style.bark, z)
    canvas.polygon(bark, tree.points((-0.03 * height, 0), (-0.02 * height, 0.6 * height),
                                     (0.02 * height, 0.6 * height), (0.03 * height, 0)))
    leaves = style.foliage[rng.integers(3)]
    shades = [canvas.surface(TREE, leaves.shade(factor), z) for factor in (0.75, 1.0)]
    radius = 0.21 * height
    for blob in range(6):
        angle = rng.uniform(0, 2 * math.pi)
        up = 0.62 * height + radius * (0.7 * math.sin(angle) + 0.12 * blob - 0.2)
        size = radius * rng.uniform(0.7, 1.0) * tree.scale
        canvas.disc(shades[blob // 3], tree.point(radius * 0.9 * math.cos(angle), up), size, 0.9 * size)


def paint_pole(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator,
               x: float, z: float) -> None:
    """Paint a lamp post with an arm over the road, or a mast."""
    pole = camera.upright(x, z)
    height = rng.uniform(4.5, 8.0)
    metal = canvas.surface(POLE, plain(style.poles[rng.integers(3)]), z)
    canvas.polygon(metal, pole.box(-0.15, 0, 0.15, height))
    canvas.polygon(metal, pole.box(-0.22, 0, 0.22, 1.1))
    if rng.random() < 0.6:
        reach = -1.6 if x > 0 else 1.6
        canvas.polygon(metal, pole.points((0, height), (reach, height + 0.3),
                                          (reach, height + 0.1), (0, height - 0.4)))
        lamp = canvas.surface(POLE, plain(hsv(0.12, 0.3, 1.0)), z, glows=style.light.lamps)
        canvas.polygon(lamp, pole.box(reach - 0.3, height, reach + 0.3, height + 0.2))


def paint_sign(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator,
               x: float, z: float) -> None:
    """Paint a sign: a post with a disc, a triangle or a board in two colours."""
    post = camera.upright(x, z)
    metal = canvas.surface(POLE, plain(style.poles[0]), z)
    rim, field = rng.permutation(len(style.signs))[:2]
    sizes = ((1.0, int(rim)), (0.62, int(field)))
    radius = rng.uniform(0.55, 0.85)
    middle = rng.uniform(2.3, 2.9)
    canvas.polygon(metal, post.box(-0.08, 0, 0.08, middle))
    shape = rng.integers(3)
    for share, colour in sizes:
        face = canvas.surface(SIGN, plain(style.signs[colour]), z)
        size = share * radius
        if shape == 0:
            canvas.disc(face, post.point(0, middle), size * post.scale, size * post.scale)
        elif shape == 1:
            canvas.polygon(face, post.points((-size, middle - 0.7 * size), (0, middle + size),
                                             (size, middle - 0.7 * size)))
        else:
            canvas.polygon(face, post.box(-1.3 * size, middle - 0.7 * size, 1.3 * size, middle + 0.7 * size))


def paint_pedestrian(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator,
                     x: float, z: float) -> None:
    """Paint a pedestrian in level stripes."""
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
    """Paint a cyclist in slanting stripes, on a bicycle that is seen at an angle."""
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
    """Paint a face, with hair or a helmet above it; right and up in metres."""
    face = canvas.surface(label, plain(hsv(*_SKIN[rng.integers(3)])), z)
    hair = canvas.surface(label, plain(hsv(rng.random(), 0.6, 0.25 if label == PEDESTRIAN else 0.9)), z)
    radius = 0.15 * person.scale
    canvas.disc(hair, person.point(right, up + 0.04), radius, 1.1 * radius)
    canvas.disc(face, person.point(right, up - 0.03), 0.85 * radius, 0.95 * radius)


def paint_car(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator,
              x: float, z: float, oncoming: bool) -> None:
    """Paint a car along the street, seen from behind or from the front, its near end at z."""
    coat = style.coats[rng.integers(len(style.coats))]
    length, top = rng.uniform(3.8, 4.8), rng.choice([1.45, 1.55, 1.9])
    body = canvas.surface(CAR, coat, z)
    flank = canvas.surface(CAR, coat.shade(0.75), z)
    glass = canvas.surface(CAR, plain(hsv(0.58, 0.25, 0.22)), z)
    tyre = canvas.surface(CAR, plain((22, 22, 24)), z)
    right = camera.lateral - camera.curvature * z * z / 2 > x  # the flank that is seen
    edge = x + _HALF_WIDTH if right else x - _HALF_WIDTH

    def along(*profile: tuple[float, float]) -> list[Point]:
        """Turn points of the flank, (metres from the near end, metres above the road), into pixels."""
        return camera.points(*((edge, up, z + back) for back, up in profile))

    def across(left_up_back: tuple[tuple[float, float, float], ...]) -> list[Point]:
        """Turn points of the left side, (metres from the middle, up, back), and their mirror images into pixels."""
        mirrored = [(-side, up, back) for side, up, back in reversed(left_up_back)]
        return camera.points(*((x + side, up, z + back) for side, up, back in (*left_up_back, *mirrored)))

    canvas.polygon(tyre, across(((-_HALF_WIDTH, 0.0, 0.4), (-_HALF_WIDTH, 0.45, 0.4))))
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
    canvas.polygon(body, across(((-0.72, top, length - 1.8), (-0.72, top, 0.5), (-_HALF_WIDTH, _BELT, 0.0))))
    canvas.polygon(glass, across(((-0.66, top - 0.09, 0.42), (-0.78, _BELT + 0.05, 0.05))))
    canvas.polygon(body, across(((-_HALF_WIDTH, _BELT, 0.0), (-_HALF_WIDTH, _SILL, 0.0))))
    _paint_lights(canvas, camera, style, x, z, oncoming)


def _paint_lights(canvas: Canvas, camera: Camera, style: Style, x: float, z: float, oncoming: bool) -> None:
    """Paint head or tail lights, and the number plate."""
    colour = hsv(0.15, 0.15, 1.0) if oncoming else hsv(0.0, 0.85, 0.85)
    light = canvas.surface(CAR, plain(colour), z, glows=style.light.lamps)
    plate = canvas.surface(CAR, plain(hsv(0.14, 0.4, 0.9)), z)
    near = camera.upright(x, z)
    for left in (-0.84, 0.52):
        canvas.polygon(light, near.box(left, 0.66, left + 0.32, 0.84))
    canvas.polygon(plate, near.box(-0.26, 0.42, 0.26, 0.56))
