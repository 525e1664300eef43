"""Baselines without a network: the most frequent class of a colour, or of a colour at a place.

Bayes' rule on histograms: predict argmax_c n(c, colour[, place]). The counts of several cars add up to the counts of
all cars, so the baseline federates exactly. A prediction depends on colour and place alone. So a baseline is scored
from counts too, without predicting a pixel.
"""

import numpy as np

from fedsim.classes import VOID
from fedsim.data.pixels import nearest

LEVELS = 8  # levels of red, of green and of blue
ROWS, COLUMNS = 12, 16  # cells that a picture is divided into
PIXELS_AT_ONCE = 2**20  # bounds memory, some 40 bytes for each of them, however large a picture is


def make_counts(classes: int) -> np.ndarray:
    """Return counts of no pixel: (ROWS, COLUMNS, LEVELS³, classes) int64 zeros."""
    return np.zeros((ROWS, COLUMNS, LEVELS**3, classes), np.int64)


def add_scene(counts: np.ndarray, image: np.ndarray, label: np.ndarray) -> None:
    """Count a scene's labelled pixels by place, colour and class, and add them to `counts`, in place.

    counts: (ROWS, COLUMNS, LEVELS³, C) int64; image: (3, H, W) uint8; label: (h, w) uint8, class index or VOID.
    A label's pixel has the colour of the picture's pixel under its centre.
    """
    height, width = label.shape
    at_once = max(1, PIXELS_AT_ONCE // max(width, image.shape[2]))
    flat = counts.reshape(-1)
    for top in range(0, height, at_once):
        rows = np.arange(top, min(top + at_once, height))
        truth = label[rows[0]:rows[-1] + 1]
        seen = truth != VOID
        # int64, because with many classes there are more bins than a smaller integer counts safely.
        bins = _bins(image, rows, label.shape)[seen].astype(np.int64)
        np.add.at(flat, bins * counts.shape[-1] + truth[seen], 1)


def most_frequent(counts: np.ndarray, by_place: bool) -> np.ndarray:
    """Return the class that is predicted for every colour at every place: (ROWS, COLUMNS, LEVELS³) uint8.

    counts: (ROWS, COLUMNS, LEVELS³, C) of training pixels. With `by_place`, it is the most frequent class of the colour
    at the place. Without, and for a colour never seen at a place, it is that of the colour at all places. For a colour
    never seen at all, it is the most frequent class of all pixels.
    """
    by_colour = counts.sum((0, 1))
    table = _argmax(by_colour, np.argmax(by_colour.sum(0)))
    return _argmax(counts, table) if by_place else np.broadcast_to(table, counts.shape[:-1])


def confusion(predicted: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the confusion matrix (C, C) int64 of predictions, rows = truth, columns = prediction.

    predicted: from `most_frequent`; counts: (ROWS, COLUMNS, LEVELS³, C) of the scored pixels.
    """
    classes = counts.shape[-1]
    by_prediction = [counts[predicted == guess].sum(0) for guess in range(classes)]
    return np.stack(by_prediction, axis=1)


def _argmax(counts: np.ndarray, otherwise: np.ndarray | np.intp) -> np.ndarray:
    """Return the most frequent classes (...) uint8 of counts (..., classes), or `otherwise` if all counts are 0."""
    return np.where(counts.any(-1), counts.argmax(-1), otherwise).astype(np.uint8)


def _bins(image: np.ndarray, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return place and colour of the pixels in some rows, as one number: (len(rows), w) int32.

    image: (3, H, W) uint8; shape: (h, w), of which `rows` are some.
    """
    height, width = shape
    across = nearest(image.shape[2], width)
    pixels = image[:, nearest(image.shape[1], height)[rows]].astype(np.int32) * LEVELS >> 8
    red, green, blue = pixels
    colour = ((red * LEVELS + green) * LEVELS + blue)[:, across]
    place = (rows * ROWS // height)[:, None] * COLUMNS + np.arange(width) * COLUMNS // width
    return colour + place.astype(np.int32) * LEVELS**3
