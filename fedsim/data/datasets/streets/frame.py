"""A frame: where everything stands, painted from far to near."""

from collections.abc import Callable
from functools import partial

import numpy as np

from fedsim.data.datasets.streets.camera import FAR, NEAR, WIDTH, Camera
from fedsim.data.datasets.streets.canvas import Canvas
from fedsim.data.datasets.streets.ground import paint_backdrop, paint_street
from fedsim.data.datasets.streets.objects import (
    paint_car,
    paint_cyclist,
    paint_fence,
    paint_hedge,
    paint_house,
    paint_pedestrian,
    paint_pole,
    paint_sign,
    paint_tree,
)
from fedsim.data.datasets.streets.style import Style

_PANEL = 3.0  # metres of fence or hedge that are painted at once
_LAST_FENCE = 60.0  # metres; farther ones would be a pixel high

Standing = tuple[float, Callable[[], None]]  # the distance to sort an object by, and the function that paints it


def camera_of(style: Style, rng: np.random.Generator) -> Camera:
    """Draw the position and the view of the camera in one frame. The car drives on the left, as in CamVid."""
    return Camera(
        height=style.camera_height,
        focal=style.focal,
        horizon=style.horizon + rng.normal(0, 3),
        lateral=-style.road_half / 2 + rng.normal(0, 0.4),
        heading=WIDTH * rng.normal(0, 0.025),
        curvature=rng.normal(0, 0.0012),
    )


def paint_frame(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator) -> None:
    """Paint everything, from far to near, so that near things hide far ones."""
    paint_backdrop(canvas, camera, style, rng)
    paint_street(canvas, camera, style, rng)
    standing = [*_plots(canvas, camera, style, rng), *_along_the_kerb(canvas, camera, style, rng),
                *_traffic(canvas, camera, style, rng)]
    for _, paint in sorted(standing, key=lambda item: -item[0]):
        paint()


def _plots(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator) -> list[Standing]:
    """Place houses with fences or hedges, plot after plot on both sides, and trees behind them."""
    standing: list[Standing] = []
    kind, boundary = style.kind, style.edge
    for side in (-1, 1):
        near = -rng.uniform(0, kind.lot[1])
        while near < FAR - 30:
            far = near + rng.uniform(*kind.lot) * (1.0 if near < 40 else 2.0)  # far off, blocks count as one
            if far > NEAR + 2 and rng.random() < kind.house_share:
                gap = 2.5 if rng.random() < kind.detached else 0.0
                x = side * (boundary + style.setback + 0.3)
                house = partial(paint_house, canvas, camera, style, rng, x, max(NEAR, near), far - gap)
                standing.append((far, house))
            draw, height = rng.random(2)
            if draw < kind.fence_share:
                panel = partial(paint_fence, canvas, camera, style, 0.9 + 0.8 * height)
                standing += _panels(panel, side * boundary, near, far)
            elif draw < kind.fence_share + (1 - kind.fence_share) * kind.hedge_share:
                panel = partial(paint_hedge, canvas, camera, style, 1.0 + 0.9 * height)
                standing += _panels(panel, side * boundary, near, far)
            near = far
    for _ in range(rng.integers(kind.trees[0], kind.trees[1] + 1)):
        x = rng.choice([-1, 1]) * (boundary + 0.6 + rng.uniform(0.5, 6.0))
        z = rng.uniform(10, 70)
        tree = partial(paint_tree, canvas, camera, style, rng, x, z, rng.uniform(4.5, 9))
        standing.append((z + _PANEL, tree))  # behind the fence before it
    return standing


def _panels(paint: Callable[[float, float, float], None], x: float, near: float,
            far: float) -> list[Standing]:
    """Cut a fence or hedge along a plot into panels, which are sorted together with the objects among them."""
    starts = np.arange(near, min(far, _LAST_FENCE), _PANEL).tolist()
    return [(start + _PANEL, partial(paint, x, max(NEAR, start), min(far, start + _PANEL)))
            for start in starts if min(far, start + _PANEL) > NEAR]


def _along_the_kerb(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator) -> list[Standing]:
    """Place poles, signs, small trees and pedestrians on the pavements."""
    standing: list[Standing] = []
    kind = style.kind

    def scatter(counts: tuple[int, int], paint: Callable[..., None], inner: float, outer: float,
                near: float, far: float, *details: float) -> None:
        """Place some objects of a kind, at inner..outer of the pavement's width from the kerb."""
        for _ in range(rng.integers(counts[0], counts[1] + 1)):
            x = rng.choice([-1, 1]) * (style.road_half + rng.uniform(inner, outer) * style.pavement)
            z = near * (far / near) ** rng.random()  # the same number near and far in the picture
            standing.append((z, partial(paint, canvas, camera, style, rng, x, z, *details)))

    scatter(kind.poles, paint_pole, 0.1, 0.3, 5, 45)
    scatter(kind.signs, paint_sign, 0.2, 0.6, 5.5, 15)
    scatter(kind.street_trees, paint_tree, 0.8, 1.0, 9, 50, rng.uniform(3.5, 5))
    scatter(kind.pedestrians, paint_pedestrian, 0.1, 0.9, 4, 14)
    return standing


def _traffic(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator) -> list[Standing]:
    """Place parked and moving cars, each in a stretch of its own, and cyclists."""
    standing: list[Standing] = []
    kind, half = style.kind, style.road_half
    for side in (-1, 1):
        if rng.random() > kind.parked_share:
            continue
        z = rng.uniform(6, 18)
        for _ in range(rng.integers(kind.parked[0], kind.parked[1] + 1)):
            car = partial(paint_car, canvas, camera, style, rng, side * (half - 0.9), z, side > 0)
            standing.append((z, car))
            z += rng.uniform(5.5, 14)
    z = rng.uniform(8, 20)
    for _ in range(rng.integers(kind.moving[0], kind.moving[1] + 1)):
        side = rng.choice([-1, 1])
        car = partial(paint_car, canvas, camera, style, rng, side * 0.4 * half, z, side > 0)
        standing.append((z, car))
        z += rng.uniform(8, 20)
    for _ in range(rng.integers(kind.cyclists[0], kind.cyclists[1] + 1)):
        x, z = rng.uniform(-1, 0.9) * half, 4 * (12 / 4) ** rng.random()
        standing.append((z, partial(paint_cyclist, canvas, camera, style, rng, x, z)))
    return standing
