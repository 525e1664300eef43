"""A car's scenes on one sheet: pictures over their labels. Without matplotlib: there may be a thousand cars."""

import numpy as np
from PIL import Image

from fedsim.data.scene_set import SceneSet
from fedsim.report.scenes import tiles

COLUMNS, ROWS = 6, 3  # of scenes, each a picture over its label
TILE_GAP, SCENE_GAP = 1, 6  # pixels


def contact_sheet(scenes: SceneSet, indices: np.ndarray) -> Image.Image:
    """Up to 18 of the scenes `indices`, evenly spread, in their order: rows of pictures, each over a row of labels."""
    shown = indices[np.unique(np.linspace(0, len(indices) - 1, COLUMNS * ROWS).astype(np.int64))]
    images, labels = scenes.images[shown].transpose(0, 2, 3, 1), scenes.labels[shown]
    pictures, truth, _ = tiles(images, labels, labels, scenes.classes)
    height, width = pictures.shape[1:3]
    columns, rows = min(COLUMNS, len(shown)), -(-len(shown) // COLUMNS)
    step = 2 * height + TILE_GAP + SCENE_GAP
    canvas = np.full((rows * step - SCENE_GAP, columns * (width + SCENE_GAP) - SCENE_GAP, 3), 255, np.uint8)
    for place, (picture, label) in enumerate(zip(pictures, truth, strict=True)):
        top, left = place // columns * step, place % columns * (width + SCENE_GAP)
        canvas[top:top + height, left:left + width] = picture
        canvas[top + height + TILE_GAP:top + 2 * height + TILE_GAP, left:left + width] = label
    return Image.fromarray(canvas)
