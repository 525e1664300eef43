"""The training loss: cross entropy over labelled pixels, weighted by class."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from fedsim.classes import VOID

CLASS_WEIGHTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": np.ones_like,
    "median-frequency": lambda balance: balance,
    "sqrt-median-frequency": np.sqrt,
}


@dataclass(frozen=True)
class CrossEntropy:
    """Mean of -log p(class) over labelled pixels, each weighted by its class. weights: (C,) float32.

    smoothing: the share of a label that is spread over all classes (Szegedy et al. 2016, arXiv:1512.00567, §7).
    """

    weights: Tensor
    smoothing: float = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar; 0 if all pixels are void.

        logits: (B, C, H, W); labels: (B, H, W) int64, class index or VOID.
        """
        if logits.is_cuda:
            # On a GPU the loss of pictures adds weights up in any order, but the loss of a list of pixels does not.
            logits, labels = logits.permute(0, 2, 3, 1).flatten(0, 2), labels.flatten()
        labelled = (labels != VOID).any()  # stays on the device, because reading it would stop a GPU at every step
        loss = F.cross_entropy(logits, labels.where(labelled, 0), weight=self.weights, ignore_index=VOID,
                               label_smoothing=self.smoothing)
        return loss * labelled

    def weigh(self, labels: Tensor) -> float:
        """Return the weight of a batch's loss in a mean over batches: the summed weights of its labelled pixels."""
        return float(self.weights.double()[labels[labels != VOID]].sum())


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
