"""Dice loss: how little predicted and true regions overlap, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsim.losses.base import Loss, list_pixels, mean_of_present

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Dice(Loss):
    """Mean of 1 - 2 Σ p g / (Σ p² + Σ g²) over the classes that a batch has.

    Milletari, Navab, Ahmadi 2016, "V-Net", arXiv:1606.04797, §3, for several classes. p is the predicted probability of
    the class at a pixel, g its share of the label, and the sums are over all labelled pixels of the batch. The mean is
    weighted by class. It is least where p = g, also for labels that are spread over classes.
    """

    name = "dice"
    paper = "Milletari et al. 2016, arXiv:1606.04797"

    def measure(self, logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
        pixels = list_pixels(logits, labels)
        predicted = pixels.log_shares.exp() * pixels.labelled
        targets = pixels.targets(smoothing)
        overlap, size = (predicted * targets).sum(1), (predicted.square() + targets.square()).sum(1)
        return mean_of_present(1 - 2 * overlap / size.clamp(min=1e-30), pixels.truth, weights)
