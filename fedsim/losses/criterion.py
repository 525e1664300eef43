"""The criterion of a run: a sum of losses, with class weights and label smoothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from fedsim.classes import VOID
from fedsim.losses.base import Loss, Measure
from fedsim.losses.cross_entropy import CrossEntropy


@dataclass(frozen=True)
class Criterion:
    """A sum of losses. By default it is cross entropy, which models are scored by whatever they train with.

    weights: (C,) float32 of the classes; smoothing: share of a label that is spread over all classes; losses: each with
    how much it counts.
    """

    weights: Tensor
    smoothing: float = 0.0
    losses: Sequence[tuple[float, Loss]] = ((1.0, CrossEntropy()),)

    @cached_property
    def measures(self) -> list[tuple[float, Measure]]:
        """The losses as functions of logits and labels, each with how much it counts. Own code may raise anything."""
        return [(factor, loss.prepare(self.weights, self.smoothing)) for factor, loss in self.losses]

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch, a scalar; 0 if all pixels are void.

        logits: (B, C, H, W); labels: (B, H, W) int64, class index or VOID.
        """
        (factor, measure), *others = self.measures
        total = factor * measure(logits, labels)
        for factor, measure in others:
            total = total + factor * measure(logits, labels)
        return total

    def weigh(self, labels: Tensor) -> Tensor:
        """Return the weight of a batch's loss in a mean over batches, a float64 on the device.

        It is the summed weight of the batch's labelled pixels. The mean of cross entropies with these weights is that
        of one batch with all the pixels.
        """
        labelled = labels != VOID
        return (self.weights.double()[labels.where(labelled, 0)] * labelled).sum()
