"""The interface of a training loss, and what losses of pixels share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from fedsim.classes import VOID
from fedsim.options import check

if TYPE_CHECKING:  # the command line names losses and their options, and torch takes seconds to import
    from torch import Tensor

Measure = Callable[["Tensor", "Tensor"], "Tensor"]  # logits (B, C, H, W), labels (B, H, W) int64 -> scalar


class Loss:
    """A loss of a batch of labelled pixels. The options of a subclass are dataclass fields with defaults."""

    name: ClassVar[str] = ""  # its name in --loss
    paper: ClassVar[str] = ""  # its source

    def __post_init__(self) -> None:
        check(self)

    @property
    def takes_weights(self) -> bool:
        """True if class weights have a meaning for it."""
        return True

    @property
    def takes_smoothing(self) -> bool:
        """True if labels that are spread over all classes have a meaning for it."""
        return True

    def prepare(self, weights: Tensor, smoothing: float) -> Measure:
        """Return the function that measures batches.

        weights: (C,) of the classes, in the type of the logits; smoothing: share of a label that is spread over all
        classes, ignored if `takes_smoothing` is False.
        """
        return partial(self.measure, weights=weights, smoothing=smoothing)

    def measure(self, logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
        """Return the loss of a batch, a scalar; 0 if all pixels are void.

        logits: (B, C, H, W); labels: (B, H, W) int64, class index or VOID. weights, smoothing: see `prepare`.
        """
        raise NotImplementedError


class Pixels(NamedTuple):
    """The pixels of a batch as a list. Nothing here waits for a GPU, as leaving void pixels out would."""

    log_shares: Tensor  # (C, N) log of the predicted probabilities
    truth: Tensor  # (C, N) True at a labelled pixel's own class; False throughout for a void pixel
    labelled: Tensor  # (N,) bool

    def targets(self, smoothing: float) -> Tensor:
        """Return the labels as probabilities (C, N), of which `smoothing` is spread over all classes; 0 for void."""
        spread = smoothing / self.truth.shape[0]
        return (self.truth.to(self.log_shares.dtype) * (1 - smoothing) + spread) * self.labelled


def list_pixels(logits: Tensor, labels: Tensor) -> Pixels:
    """Return the pixels of logits (B, C, H, W) and labels (B, H, W) as a list.

    A row of a class is as wide as a batch has pixels: torch computes a softmax over few columns six times more slowly.
    """
    from torch import arange

    classes, flat = logits.shape[1], labels.reshape(-1)
    log_shares = logits.permute(1, 0, 2, 3).reshape(classes, -1).log_softmax(0)
    return Pixels(log_shares, flat == arange(classes, device=flat.device)[:, None], flat != VOID)


def mean_of_present(by_class: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of losses (C,) over the classes that a batch has; 0 if it has no labelled pixel.

    truth: (C, N) as in `Pixels`; weights: (C,). A class that is absent may have any finite number.
    """
    present = weights * truth.any(1)
    return (by_class * present).sum() / present.sum().clamp(min=1e-30)
