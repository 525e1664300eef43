"""Cross entropy over labelled pixels, weighted by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsim.classes import VOID
from fedsim.losses.base import Loss

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Mean of -log p(class) over labelled pixels, each weighted by its class.

    With smoothing, a share of a label is spread over all classes (Szegedy et al. 2016, arXiv:1512.00567, §7).
    """

    name = "cross-entropy"

    def measure(self, logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
        from torch.nn.functional import cross_entropy

        if logits.is_cuda:
            # On a GPU the loss of pictures adds weights up in any order, but the loss of a list of pixels does not.
            logits, labels = logits.permute(0, 2, 3, 1).flatten(0, 2), labels.flatten()
        labelled = (labels != VOID).any()  # stays on the device, because reading it would stop a GPU at every step
        loss = cross_entropy(logits, labels.where(labelled, 0), weight=weights, ignore_index=VOID,
                             label_smoothing=smoothing)
        return loss * labelled
