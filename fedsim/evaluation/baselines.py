"""What can be had without a network: the most frequent class of a colour, perhaps at a place in the picture.

Bayes' rule on histograms: predict argmax_c n(c, colour[, place]). Counts of several cars add up to the counts
of all, so the baseline federates exactly.
"""

import numpy as np

from fedsim.classes import VOID
from fedsim.data.pixels import nearest

LEVELS = 8  # of each of red, green and blue
ROWS, COLUMNS = 12, 16  # cells that a picture is divided into
SCENES_AT_ONCE = 16  # bounds memory: 8 bytes a labelled pixel


def count(images: np.ndarray, labels: np.ndarray, classes: int, grid: bool) -> np.ndarray:
    """Count labelled pixels by colour and class, and by place where `grid` is set.

    images: (N, 3, H, W) uint8; labels: (N, h, w) uint8, class index or VOID. A label's pixel has the colour
    of the picture's pixel under its centre. Returns int64 (LEVELS³, classes), or with places
    (ROWS, COLUMNS, LEVELS³, classes).
    """
    shape = (ROWS, COLUMNS, LEVELS**3, classes) if grid else (LEVELS**3, classes)
    counts = np.zeros(np.prod(shape), np.int64)
    for start in range(0, len(labels), SCENES_AT_ONCE):
        truth = labels[start:start + SCENES_AT_ONCE]
        bins = _bins(images[start:start + SCENES_AT_ONCE], truth.shape[1:], grid)
        seen = truth != VOID
        counts += np.bincount(bins[seen] * classes + truth[seen], minlength=counts.size)
    return counts.reshape(shape)


def predict(counts: np.ndarray, images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The most frequent class of every pixel's colour, and place where the counts know it.

    counts: as `count` returns them; images: (N, 3, H, W) uint8; size: (width, height) of the prediction in
    pixels. Returns (N, height, width) uint8. A colour unseen at a place falls back to the colour anywhere, a
    colour unseen anywhere to the most frequent class of all.
    """
    grid = counts.ndim == 4
    by_colour = counts.sum((0, 1)) if grid else counts
    table = _most_frequent(by_colour, np.argmax(by_colour.sum(0)))
    if grid:
        table = _most_frequent(counts, table)
    predictions = np.empty((len(images), size[1], size[0]), np.uint8)
    for start in range(0, len(images), SCENES_AT_ONCE):
        part = slice(start, start + SCENES_AT_ONCE)
        predictions[part] = table.ravel()[_bins(images[part], (size[1], size[0]), grid)]
    return predictions


def _most_frequent(counts: np.ndarray, otherwise: np.ndarray | np.intp) -> np.ndarray:
    """(..., classes) counts -> (...) uint8 classes, `otherwise` where nothing was counted."""
    return np.where(counts.any(-1), counts.argmax(-1), otherwise).astype(np.uint8)


def _bins(images: np.ndarray, shape: tuple[int, ...], grid: bool) -> np.ndarray:
    """The histogram bin of every pixel at the size `shape` (h, w): (N, h, w) int32."""
    red, green, blue = (images.astype(np.int32) * LEVELS >> 8).transpose(1, 0, 2, 3)
    colour = (red * LEVELS + green) * LEVELS + blue
    height, width = shape
    colour = colour[:, nearest(images.shape[2], height)[:, None], nearest(images.shape[3], width)]
    if not grid:
        return colour
    place = (np.arange(height) * ROWS // height)[:, None] * COLUMNS + np.arange(width) * COLUMNS // width
    return colour + place.astype(np.int32) * LEVELS**3
