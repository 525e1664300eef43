"""Focal loss: cross entropy in which a pixel counts less the better it is predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsim.losses.base import Loss, list_pixels
from fedsim.options import option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Focal(Loss):
    """Mean of -(1 - p)^gamma log p over labelled pixels, p the probability of the pixel's own class.

    Lin, Goyal, Girshick, He, Dollár 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002, eq. 4 and 5, with
    the softmax over classes. The class weights are the paper's alpha, and the mean is weighted by them. With smoothing,
    it is the sum of this over all classes, each times its share of the label. With gamma = 0 all of this is cross
    entropy.
    """

    gamma: float = option(2.0, "How much less a pixel counts that is predicted well; 0 for cross entropy.",
                          at_least=0, at_most=100)
    name = "focal"
    paper = "Lin et al. 2017, arXiv:1708.02002"

    def measure(self, logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
        pixels = list_pixels(logits, labels)
        # Not quite 0, where the slope of a power below 1 is infinite.
        missing = (-pixels.log_shares.expm1()).clamp(min=1e-30)
        by_class = -(missing**self.gamma * pixels.log_shares * pixels.targets(smoothing)).sum(1)
        return (by_class * weights).sum() / (pixels.truth.sum(1) * weights).sum().clamp(min=1e-30)
