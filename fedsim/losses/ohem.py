"""OHEM: cross entropy of the hard pixels alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsim.classes import VOID
from fedsim.losses.base import list_pixels
from fedsim.losses.cross_entropy import CrossEntropy
from fedsim.options import option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class OHEM(CrossEntropy):
    """Cross entropy of the pixels whose own class is predicted with a probability below a threshold.

    Online hard example mining (Shrivastava, Gupta, Girshick 2016, arXiv:1604.03540), for pixels as in Wu, Shen, van den
    Hengel 2016, "Bridging Category-level and Instance-level Semantic Image Segmentation", arXiv:1605.06885. If less
    than the share `keep` of a batch's labelled pixels is below the threshold, it is the hardest ones up to that share,
    as in BiSeNet (Yu et al. 2018, arXiv:1808.00897). Every other pixel is void.
    """

    threshold: float = option(0.7, "Probability of its own class from which on a pixel is left out.",
                              above=0, at_most=1)
    keep: float = option(0.0625, "Least share of a batch's labelled pixels that is kept.", above=0, at_most=1)
    name = "ohem"
    paper = "Shrivastava et al. 2016, arXiv:1604.03540"

    def measure(self, logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
        hard = self.choose(logits.detach(), labels)
        return super().measure(logits, labels.where(hard, VOID), weights, smoothing)

    def choose(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return which pixels are hard, (B, H, W) bool. No void pixel is."""
        log_shares, truth, labelled = list_pixels(logits, labels)
        shares = (log_shares.exp() * truth).sum(0).where(labelled, 2.0)  # void pixels come last
        least = (labelled.sum() * self.keep).ceil().long().clamp(min=1)
        bound = shares.sort().values.take(least - 1)  # `take` leaves the place on the device
        return ((shares < self.threshold) | (shares <= bound)).logical_and(labelled).view(labels.shape)
