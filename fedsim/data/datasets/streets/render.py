"""The picture and the label of a frame, made from its id image."""

import numpy as np

from fedsim.data.datasets.streets.camera import HEIGHT, SCENE_SIZE, WIDTH, Camera
from fedsim.data.datasets.streets.canvas import Canvas
from fedsim.data.datasets.streets.drives import Light
from fedsim.data.datasets.streets.texture import MARGIN, SHAPE

# Position of each pixel of the id image in a flattened texture, (HEIGHT, WIDTH).
_OFFSET = (np.arange(HEIGHT)[:, None] * SHAPE[1] + np.arange(WIDTH)).astype(np.int32)


def label(canvas: Canvas) -> np.ndarray:
    """Return the label, (h, w) uint8: the class at the centre of each pixel of the scene."""
    classes = np.array([surface.label for surface in canvas.surfaces()], np.uint8)
    return classes[canvas.ids()[1::2, 1::2]]


def picture(canvas: Canvas, camera: Camera, light: Light, textures: np.ndarray,
            rng: np.random.Generator) -> np.ndarray:
    """Return the picture, (h, w, 3) uint8 RGB.

    A pixel of the id image has the colour dark + t · (light - dark) of its surface, with t from the texture. The light
    dims and tints it, and fog is mixed in by its depth. The mean of four such pixels is one pixel of the scene.
    """
    surfaces, ids = canvas.surfaces(), canvas.ids()
    shift = rng.integers(0, MARGIN, (len(surfaces), 2))  # so that surfaces of one material differ in their pattern
    materials = np.array([surface.paint.material for surface in surfaces])
    start = (materials * SHAPE[0] + shift[:, 0]) * SHAPE[1] + shift[:, 1]
    mix = textures.reshape(-1)[start.astype(np.int32)[ids] + _OFFSET].astype(np.float32) / 255

    colours = np.array([surface.paint[1:] for surface in surfaces], np.float32)  # (ids, dark or light, RGB)
    lit = np.array([not surface.glows for surface in surfaces])
    colours[lit] *= np.array(light.tint, np.float32) * np.float32(light.gain)
    clear = _clearness(canvas, camera, light)
    haze = np.array(light.haze, np.float32)
    dark, step = colours[:, 0] - haze, colours[:, 1] - colours[:, 0]
    rgb = (dark[ids] + step[ids] * mix[..., None]) * clear[..., None]

    rgb = _mean_of_four(rgb) + haze
    rgb += light.noise * rng.standard_normal(rgb.shape, np.float32)
    return rgb.clip(0, 255).astype(np.uint8)


def _mean_of_four(rgb: np.ndarray) -> np.ndarray:
    """Average blocks of 2×2 pixels: (HEIGHT, WIDTH, 3) -> (h, w, 3).

    Two plain sums are several times as fast as one mean over two axes.
    """
    width, height = SCENE_SIZE
    rows = rgb.reshape(height, 2, WIDTH, 3)
    columns = (rows[:, 0] + rows[:, 1]).reshape(height, width, 2, 3)
    return (columns[:, :, 0] + columns[:, :, 1]) / 4


def _clearness(canvas: Canvas, camera: Camera, light: Light) -> np.ndarray:
    """Return the share of light that comes from the surface and not from the haze before it, (HEIGHT, WIDTH)."""
    depths = [surface.depth for surface in canvas.surfaces()]
    by_id = np.exp(-np.array([depth or 0.0 for depth in depths], np.float32) / light.visibility)
    by_row = np.exp(-camera.ground_depth().astype(np.float32) / light.visibility)
    is_ground = np.array([depth is None for depth in depths])
    return np.where(is_ground[canvas.ids()], by_row[:, None], by_id[canvas.ids()])
