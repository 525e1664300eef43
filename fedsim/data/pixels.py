"""Pictures and labels at another size."""

import numpy as np


def nearest(source: int, target: int) -> np.ndarray:
    """Which of `source` pixels lies under the centre of each of `target` pixels: (target,) int64."""
    return (2 * np.arange(target) + 1) * source // (2 * target)


def shrink_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels (B, h, w) at another size (width, height), each pixel the one under its centre: (B, H, W).

    Touches no other pixel, so a memory-mapped array stays on disk.
    """
    rows, columns = nearest(labels.shape[1], size[1]), nearest(labels.shape[2], size[0])
    return labels[:, rows[:, None], columns]


def resize_picture(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture (h, w, 3) uint8 at another size (width, height): (H, W, 3) uint8."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    from PIL import Image  # here, because most starts find their scenes in the cache

    # Shrinking, the mean over the area of a pixel: what a coarser camera would have seen.
    shrinks = size[0] <= width and size[1] <= height
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize(size, method))
