"""What stands on the plots along the street: houses, fences and hedges."""

import numpy as np

from fedsim.data.datasets.streets.camera import Camera
from fedsim.data.datasets.streets.canvas import BUILDING, FENCE, TREE, Canvas
from fedsim.data.datasets.streets.paint import hsv, plain
from fedsim.data.datasets.streets.style import Style

_STOREY = 3.0  # metres


def paint_house(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator,
                x: float, near: float, far: float) -> None:
    """A house whose front stands along the street at x from `near` to `far`, seen with its near end wall."""
    side = 1 if x > 0 else -1
    storeys = int(rng.integers(style.kind.storeys[0], style.kind.storeys[1] + 1))
    eaves = _STOREY * storeys + rng.uniform(0.3, 1.2)
    rise = rng.uniform(1.2, 3.0)
    depth = rng.uniform(7, 10)
    wall = style.walls[rng.integers(4)]
    sunny, shady = (1.08, 0.8) if side * style.sun < 0 else (0.8, 1.0)
    front = canvas.surface(BUILDING, wall.shaded(sunny), near)
    end = canvas.surface(BUILDING, wall.shaded(shady), near)
    roof = canvas.surface(BUILDING, style.roofs[rng.integers(2)].shaded(sunny), near)
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
    """A panel of a slatted fence along the street."""
    slats = canvas.surface(FENCE, style.fences[int(x > 0)], near)
    canvas.polygon(slats, camera.points((x, 0, near), (x, height, near), (x, height, far), (x, 0, far)))
    post = camera.upright(x, near)
    canvas.polygon(slats, post.box(-0.07, 0, 0.07, height + 0.15))


def paint_hedge(canvas: Canvas, camera: Camera, style: Style, height: float, x: float, near: float,
                far: float) -> None:
    """A piece of a hedge along the street, with the end that faces the camera."""
    leaves = canvas.surface(TREE, style.foliage[0].shaded(0.8), near)
    outer = x + (0.8 if x > 0 else -0.8)
    canvas.polygon(leaves, camera.points((outer, height, near), (x, height, near), (x, height, far),
                                         (x, 0, far), (x, 0, near), (outer, 0, near)))
