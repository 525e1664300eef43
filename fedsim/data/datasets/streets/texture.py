"""Textures: values in 0..255 that mix the two colours of a paint.

A small network recognises the classes of streets by their texture. Periods are 8 to 16 pixels of the id image, 4 to 8
of the scene, so they can still be seen at half the scene's size. They do not shrink with distance.
"""

from enum import IntEnum, auto

import numpy as np
from PIL import Image

from fedsim.data.datasets.streets.camera import HEIGHT, WIDTH

MARGIN = 64  # pixels that a texture is larger than the id image, so that each surface can shift its own
SHAPE = (HEIGHT + MARGIN, WIDTH + MARGIN)


class Material(IntEnum):
    """The index of a texture in a drive's stack of textures."""

    PLAIN = 0
    CLOUD = auto()
    ASPHALT = auto()
    PAVING = auto()
    GRASS = auto()
    FOLIAGE = auto()
    BARK = auto()
    BRICK = auto()
    TILES = auto()
    SLATS = auto()
    STRIPES = auto()  # of pedestrians: level
    SASH = auto()  # of cyclists: slanting
    ENAMEL = auto()  # of cars: a broad gleam


def textures(rng: np.random.Generator) -> np.ndarray:
    """Draw the textures of a drive by Material, (materials, *SHAPE) uint8. Periods and slants vary by drive."""
    rows, columns = np.indices(SHAPE, np.float32)
    courses, tiles = rng.uniform(9, 12, 2)
    slats, paving, stripes, sash = rng.uniform(11, 15, 4)
    by_material = {
        Material.PLAIN: np.full(SHAPE, 0.5, np.float32),
        Material.CLOUD: _noise(rng, 50, 110),
        Material.ASPHALT: 0.7 * _noise(rng, 2, 2) + 0.3 * _noise(rng, 40, 120),
        Material.PAVING: _checks(rows, columns, paving * rng.uniform(0.6, 0.8), paving),
        Material.GRASS: _noise(rng, 3, 9),
        Material.FOLIAGE: _steepen(0.6 * _noise(rng, 8, 8) + 0.4 * _noise(rng, 16, 16)),
        Material.BARK: _noise(rng, 16, 3),
        Material.BRICK: _bricks(rows, columns, courses),
        Material.TILES: _bricks(rows, columns, tiles),
        Material.SLATS: _bars(columns, slats, 0.65),
        Material.STRIPES: _bars(rows, stripes, 0.5),
        Material.SASH: _bars(rows + columns * rng.choice([-1, 1]), sash * 1.4, 0.5),
        Material.ENAMEL: 0.5 + 0.5 * np.sin(rows / 9 + columns / 40),
    }
    return np.stack([(255 * by_material[material].clip(0, 1)).astype(np.uint8) for material in Material])


def _noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw smooth noise in 0..1, SHAPE float32, with grains of height × width pixels."""
    grains = rng.random((SHAPE[0] // height + 2, SHAPE[1] // width + 2), np.float32)
    return np.asarray(Image.fromarray(grains).resize(SHAPE[::-1], Image.Resampling.BICUBIC))


def _steepen(values: np.ndarray) -> np.ndarray:
    """Raise the contrast around the middle."""
    return 0.5 + 2.2 * (values - 0.5)


def _bars(along: np.ndarray, period: float, share: float) -> np.ndarray:
    """Return bars: 1 in `share` of each period, in pixels along a direction, else 0."""
    return (along % period < share * period).astype(np.float32)


def _checks(rows: np.ndarray, columns: np.ndarray, height: float, width: float) -> np.ndarray:
    """Return checks of height × width pixels, alternately 0 and 1."""
    return (rows // height + columns // width) % 2


def _bricks(rows: np.ndarray, columns: np.ndarray, course: float) -> np.ndarray:
    """Return bricks in courses of `course` pixels. Joints are 0 between courses, and dark between bricks."""
    shifted = columns + (rows // course) % 2 * 1.5 * course
    return _bars(rows, course, 0.6) * (0.4 + 0.6 * _bars(shifted, 3 * course, 0.85))
