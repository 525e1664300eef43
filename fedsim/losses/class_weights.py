"""Class weights of a loss, from the frequencies of the classes."""

from collections.abc import Callable

import numpy as np

CLASS_WEIGHTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": np.ones_like,
    "median-frequency": lambda balance: balance,
    "sqrt-median-frequency": np.sqrt,
}


def class_counts(histograms: np.ndarray) -> np.ndarray:
    """Count labelled pixels (2, C) int64: those of each class, and those of all scenes that contain the class.

    histograms: (N, C) labelled pixels by scene and class.
    """
    return np.stack([histograms.sum(0), histograms.sum(1) @ (histograms > 0)])


def class_weights(kind: str, counts: np.ndarray) -> np.ndarray:
    """Compute class weights (C,) float32 from counts (2, C) summed over cars.

    Median-frequency balancing (Eigen & Fergus 2015, arXiv:1411.4734, §6.3.2; SegNet, arXiv:1511.00561, §3.1): the
    frequency of a class is its share of the labelled pixels in the scenes that contain it, and its weight is the median
    frequency over its own. A class that no car has keeps weight 1, since no car trains on it.
    """
    pixels, among = counts.astype(np.float64)
    present = pixels > 0
    frequency = np.divide(pixels, among, out=np.ones_like(pixels), where=present)
    balance = np.where(present, np.median(frequency[present]) / frequency, 1.0)
    return CLASS_WEIGHTS[kind](balance).astype(np.float32)
