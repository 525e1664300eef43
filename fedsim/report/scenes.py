"""Scenes over their truth over a prediction, as one picture.

Without matplotlib: it is made during training, while other ranks wait.
"""

import numpy as np
from PIL import Image

from fedsim.classes import ClassTable

TILE_WIDTH = 320  # pixels, at most: wide enough to judge a street, small enough for an event file
GAP = 4  # white pixels between tiles


def panel(images: np.ndarray, labels: np.ndarray, predictions: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Compose three rows, scenes, truth and predictions, a column a scene.

    images: (K, h, w, 3) uint8 RGB; labels, predictions: (K, h, w) uint8 class index or VOID. The three may
    have different heights and widths: a tile has the labels' size, scaled down to 320 pixels width at most.
    Returns (H, W, 3) uint8 RGB, H = 3 tiles + 2 gaps, W = K tiles + K-1 gaps.
    """
    rows = tiles(images, labels, predictions, classes)
    count, height, width = rows.shape[1:4]
    canvas = np.full((3 * (height + GAP) - GAP, count * (width + GAP) - GAP, 3), 255, np.uint8)
    for row in range(3):
        for column in range(count):
            top, left = row * (height + GAP), column * (width + GAP)
            canvas[top : top + height, left : left + width] = rows[row, column]
    return canvas


def tiles(images: np.ndarray, labels: np.ndarray, predictions: np.ndarray, classes: ClassTable) -> np.ndarray:
    """The tiles of a panel, (3, K, height, width, 3) uint8 RGB: scenes, truth and predictions of one size."""
    height, width = labels.shape[1:]
    if width > TILE_WIDTH:
        height, width = max(1, round(height * TILE_WIDTH / width)), TILE_WIDTH
    rows = (
        (images, Image.Resampling.BILINEAR),
        # Nearest: a colour between two classes' colours is no class.
        (classes.paint(labels), Image.Resampling.NEAREST),
        (classes.paint(predictions), Image.Resampling.NEAREST),
    )
    return np.stack([
        np.stack([np.asarray(Image.fromarray(picture).resize((width, height), how)) for picture in row])
        for row, how in rows
    ])
