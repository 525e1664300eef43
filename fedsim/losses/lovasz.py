"""Lovász-softmax loss: the mean IoU of a batch, extended to probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsim.losses.base import Loss, list_pixels, mean_of_present

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LovaszSoftmax(Loss):
    """Mean over the classes that a batch has of the Lovász extension of 1 - IoU.

    Berman, Rannen Triki, Blaschko 2018, "The Lovász-Softmax Loss", arXiv:1705.08790, eq. 12 and Algorithm 1, over all
    labelled pixels of the batch together. The mean is weighted by class. For predictions without doubt it is 1 - mIoU.
    An IoU is of sets of pixels, so labels that are spread over classes have no meaning for it.
    """

    name = "lovasz"
    paper = "Berman et al. 2018, arXiv:1705.08790"

    @property
    def takes_smoothing(self) -> bool:
        return False

    def measure(self, logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
        from torch import stack

        log_shares, truth, labelled = list_pixels(logits, labels)
        by_class = [_extend(shares, own, labelled) for shares, own in zip(log_shares.exp().unbind(1), truth.unbind(1),
                                                                           strict=True)]
        return mean_of_present(stack(by_class), truth, weights)


def _extend(shares: Tensor, own: Tensor, labelled: Tensor) -> Tensor:
    """Return the Lovász extension of 1 - IoU of a class that is present.

    shares: (N,) predicted probabilities of the class; own: (N,) bool, its labelled pixels; labelled: (N,) bool.
    """
    errors = (own.to(shares.dtype) - shares).abs().where(labelled, -1.0)  # void pixels come last
    errors, order = errors.sort(descending=True)
    own = own[order]
    # What 1 - IoU gains when this pixel is wrong after all before it. The difference of two IoUs would lose its digits.
    intersection = (own.sum() - own.cumsum(0)).to(errors.dtype)
    union = (own.sum() + (~own).cumsum(0)).to(errors.dtype)
    gains = (1 / union).where(own, intersection / (union * (union - 1).clamp(min=1)))
    return (errors.clamp(min=0) * gains).sum()
