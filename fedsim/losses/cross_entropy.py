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
            return add_in_fixed_order(logits, labels, weights, smoothing)
        labelled = (labels != VOID).any()
        loss = cross_entropy(logits, labels.where(labelled, 0), weight=weights, ignore_index=VOID,
                             label_smoothing=smoothing)
        return loss * labelled


def add_in_fixed_order(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Return the same loss by operations that a GPU does in parallel, in an order that is always the same.

    A GPU adds up the loss of pictures in any order, and that of a list of pixels with a small part of itself. So here
    it computes the losses of a list one by one and adds them up afterwards. It is never waited for.
    """
    from torch.nn.functional import cross_entropy

    logits, labels = logits.permute(0, 2, 3, 1).flatten(0, 2), labels.flatten()
    labelled = labels != VOID
    counts = weights[labels.where(labelled, 0)].where(labelled, 0.0).sum()
    each = cross_entropy(logits, labels, weight=weights, ignore_index=VOID, label_smoothing=smoothing,
                         reduction="none")
    return each.sum() / counts.where(labelled.any(), 1.0)
