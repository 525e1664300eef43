"""Baselines without a network: the most frequent class of a colour and place.

Bayes' rule on histograms: predict argmax_c n(c, colour[, place]). The counts of several cars add up to the counts of
all cars, so the baseline federates exactly.
"""

import numpy as np

from fedsim.classes import VOID
from fedsim.data.pixels import nearest

LEVELS = 8  # levels of red, of green and of blue
ROWS, COLUMNS = 12, 16  # cells that a picture is divided into
SCENES_AT_ONCE = 16  # limits memory, which is 8 bytes for each labelled pixel


def count(images: np.ndarray, labels: np.ndarray, classes: int, grid: bool) -> np.ndarray:
    """Count labelled pixels by colour and class, and also by place if `grid` is set.

    images: (N, 3, H, W) uint8; labels: (N, h, w) uint8, class index or VOID. A label's pixel has the colour of the
    picture's pixel under its centre. Returns int64 (LEVELS³, classes),
    or (ROWS, COLUMNS, LEVELS³, classes) with places.
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
    """Predict the most frequent class of every pixel's colour, at its place if the counts have places.

    counts: from `count`; images: (N, 3, H, W) uint8; size: (width, height) of the prediction in pixels. Returns
    (N, height, width) uint8. For a colour never seen at a place, the colour's counts at all places are used; for a
    colour never seen at all, the most frequent class of all pixels.
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
    """Return the most frequent classes (...) uint8 of counts (..., classes), or `otherwise` if all counts are 0."""
    return np.where(counts.any(-1), counts.argmax(-1), otherwise).astype(np.uint8)


def _bins(images: np.ndarray, shape: tuple[int, ...], grid: bool) -> np.ndarray:
    """Return the histogram bin of every pixel (N, h, w) int32, at the size `shape` (h, w)."""
    red, green, blue = (images.astype(np.int32) * LEVELS >> 8).transpose(1, 0, 2, 3)
    colour = (red * LEVELS + green) * LEVELS + blue
    height, width = shape
    colour = colour[:, nearest(images.shape[2], height)[:, None], nearest(images.shape[3], width)]
    if not grid:
        return colour
    place = (np.arange(height) * ROWS // height)[:, None] * COLUMNS + np.arange(width) * COLUMNS // width
    return colour + place.astype(np.int32) * LEVELS**3
