"""Trees, poles and signs."""

import math

import numpy as np

from fedsim.data.datasets.streets.camera import Camera
from fedsim.data.datasets.streets.canvas import POLE, SIGN, TREE, Canvas
from fedsim.data.datasets.streets.paint import hsv, plain
from fedsim.data.datasets.streets.style import Style


def paint_tree(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator,
               x: float, z: float, height: float) -> None:
    """A trunk and a crown of overlapping blobs, the upper ones in more light."""
    tree = camera.upright(x, z)
    bark = canvas.surface(TREE, style.bark, z)
    canvas.polygon(bark, tree.points((-0.03 * height, 0), (-0.02 * height, 0.6 * height),
                                     (0.02 * height, 0.6 * height), (0.03 * height, 0)))
    leaves = style.foliage[rng.integers(3)]
    shades = [canvas.surface(TREE, leaves.shaded(factor), z) for factor in (0.75, 1.0)]
    radius = 0.21 * height
    for blob in range(6):
        angle = rng.uniform(0, 2 * math.pi)
        up = 0.62 * height + radius * (0.7 * math.sin(angle) + 0.12 * blob - 0.2)
        size = radius * rng.uniform(0.7, 1.0) * tree.scale
        canvas.disc(shades[blob // 3], tree.point(radius * 0.9 * math.cos(angle), up), size, 0.9 * size)


def paint_pole(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator,
               x: float, z: float) -> None:
    """A lamp post with an arm over the road, or a mast."""
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
    """A post with a disc, a triangle or a board: a rim of one colour around a field of another."""
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
