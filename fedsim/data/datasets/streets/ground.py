"""The background of a frame: sky, horizon, and the strips of the ground."""

import numpy as np

from fedsim.data.datasets.streets.camera import FAR, HEIGHT, NEAR, WIDTH, Camera
from fedsim.data.datasets.streets.canvas import BUILDING, PAVEMENT, ROAD, SKY, TREE, Canvas
from fedsim.data.datasets.streets.paint import Paint, hsv, plain
from fedsim.data.datasets.streets.style import Style
from fedsim.data.datasets.streets.texture import Material

_STATIONS = tuple(np.geomspace(NEAR, FAR, 14).tolist())  # metres; strips are straight between these


def paint_backdrop(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator) -> None:
    """Paint sky above, open ground below, and far houses or woods on the horizon."""
    sky = canvas.surface(SKY, Paint(Material.CLOUD, *style.light.sky), 0.0, glows=True)
    canvas.polygon(sky, [(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)])
    scale = camera.focal / FAR
    column = -20.0
    while column < WIDTH:
        width = rng.uniform(15, 60)
        top = camera.horizon - scale * rng.uniform(*style.kind.skyline)
        if rng.random() < style.kind.house_share:
            wall = canvas.surface(BUILDING, style.walls[rng.integers(4)], FAR)
            canvas.polygon(wall, [(column, HEIGHT), (column, top),
                                  (column + width, top), (column + width, HEIGHT)])
        else:
            wood = canvas.surface(TREE, style.foliage[rng.integers(3)], FAR)
            canvas.disc(wood, (column + width / 2, camera.horizon), 0.8 * width, camera.horizon - top)
        column += width
    grass = canvas.surface(TREE, style.grass, None)
    canvas.polygon(grass, [(0, camera.horizon), (WIDTH, camera.horizon), (WIDTH, HEIGHT), (0, HEIGHT)])


def paint_street(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator) -> None:
    """Paint pavements, a side road, the road, kerbs, markings and shadows."""
    half, outer = style.road_half, style.road_half + style.pavement
    pavement = canvas.surface(PAVEMENT, style.paving, None)
    road = canvas.surface(ROAD, style.asphalt, None)
    kerb = canvas.surface(PAVEMENT, plain(style.kerb), None)
    paint_strip(canvas, camera, pavement, -outer, outer)
    if rng.random() < 0.4:  # a side road
        side, start = rng.choice([-1, 1]), rng.uniform(10, 40)
        corner = (0.0, start), (side * 60.0, start), (side * 60.0, start + 7), (0.0, start + 7)
        canvas.polygon(road, camera.points(*((x, 0.0, z) for x, z in corner)))
    paint_strip(canvas, camera, kerb, -half - 0.18, half + 0.18)
    paint_strip(canvas, camera, road, -half, half)
    _paint_markings(canvas, camera, style, rng)
    for _ in range(rng.integers(0, 3)):  # shadows, or wet patches
        _paint_shadow(canvas, camera, style, rng)


def paint_strip(canvas: Canvas, camera: Camera, surface: int, left: float, right: float) -> None:
    """Paint the ground between two distances from the middle of the road, in metres, all along the street."""
    outline = [camera.point(left, 0.0, z) for z in _STATIONS]
    outline += [camera.point(right, 0.0, z) for z in reversed(_STATIONS)]
    canvas.polygon(surface, outline)


def _paint_markings(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator) -> None:
    """Paint dashes along the middle, and sometimes a crossing."""
    white = canvas.surface(ROAD, plain(hsv(0.13, 0.04, 0.86)), None)
    start = rng.uniform(-2, 4)
    for dash in range(10):
        near = max(NEAR, start + 6 * dash)
        _paint_patch(canvas, camera, white, (-0.08, 0.08), (near, near + 2.6))
    if rng.random() < 0.2:
        near = rng.uniform(6, 25)
        for x in np.arange(-style.road_half + 0.3, style.road_half - 0.5, 1.0).tolist():
            _paint_patch(canvas, camera, white, (x, x + 0.5), (near, near + 3))


def _paint_shadow(canvas: Canvas, camera: Camera, style: Style, rng: np.random.Generator) -> None:
    """Paint a darker patch inside the road."""
    shadow = canvas.surface(ROAD, style.asphalt.shade(0.6), None)
    left = rng.uniform(-style.road_half, style.road_half - 1)
    near = rng.uniform(4, 25)
    _paint_patch(canvas, camera, shadow, (left, min(style.road_half, left + rng.uniform(1, 4))),
                 (near, near + rng.uniform(1, 4)))


def _paint_patch(canvas: Canvas, camera: Camera, surface: int, across: tuple[float, float],
                 along: tuple[float, float]) -> None:
    """Paint a rectangle on the ground: metres across from the middle of the road, and along it."""
    (left, right), (near, far) = across, along
    corners = (left, near), (left, far), (right, far), (right, near)
    canvas.polygon(surface, camera.points(*((x, 0.0, z) for x, z in corners)))
