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
        by_class = [_extend(shares, own, labelled) for shares, own in zip(log_shares.exp(), truth, strict=True)]
        return mean_of_present(stack(by_class), truth, weights)


def _extend(shares: Tensor, own: Tensor, labelled: Tensor) -> Tensor:
    """Return the Lovász extension of 1 - IoU of a class that is present.

    shares: (N,) predicted probabilities of the class; own: (N,) bool, its labelled pixels; labelled: (N,) bool.
    """
    errors = (own.to(shares.dtype) - shares).abs()
    return (errors * _weigh(errors.detach(), own, labelled)).sum()


def _weigh(errors: Tensor, own: Tensor, labelled: Tensor) -> Tensor:
    """Return what 1 - IoU gains (N,) when a pixel is wrong after all those with larger errors; 0 for a void pixel."""
    from torch import arange, empty_like, int32

    order = _order(errors, labelled)
    own = own[order]
    hits = own.cumsum(0, dtype=int32)
    misses = arange(1, own.numel() + 1, dtype=int32, device=own.device) - hits
    # The difference of two IoUs would lose its digits.
    intersection = (hits[-1] - hits).to(errors.dtype)
    union = (hits[-1] + misses).to(errors.dtype)
    gains = (1 / union).where(own, intersection / (union * (union - 1).clamp(min=1)))
    return empty_like(gains).scatter_(0, order, gains) * labelled


def _order(errors: Tensor, labelled: Tensor) -> Tensor:
    """Return the pixels (N,), largest error first, void pixels last.

    The bits of floats from 0 to 1 are integers in the same order. torch sorts integers upwards in a tenth of the time.
    """
    from torch import int32, int64, ones_like

    integers = {4: int32, 8: int64}[errors.element_size()]
    most = ones_like(errors[:1]).view(integers)
    return (most - errors.clamp(max=1).view(integers)).where(labelled, most + 1).argsort(stable=True)
