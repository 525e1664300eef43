"""BatchNorm layers in a federation: what of them is shared, and how cars' running statistics become one.

Statistics are (2, c): means and variances. They are no parameters: no dual, no penalty, no server step is applied to
them. Moments are (2, c) float64: means and mean squares. Moments of groups average to the moments of their union, so
pooling is a weighted mean of moments: variance of the union = mean of variances + variance of means.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsim.aggregation.exact_sum import ExactSum
from fedsim.data.car_scenes import CarScenes
from fedsim.distributed.world import World
from fedsim.models.flat import FlatModel, Norms
from fedsim.seeds import seed_torch, stream

RECALIBRATION_BATCHES = 4  # of a car's scenes, drawn anew every round


@dataclass(frozen=True)
class NormRule:
    """How BatchNorm layers federate. Whatever cars keep, the global model has statistics combined from theirs."""

    recalibrates: bool = False  # statistics are measured with the new theta; else they are the training's running ones
    averages: bool = False  # variances are plainly averaged, without the spread of the means
    own_statistics: bool = False  # cars go on from their own statistics, and are scored with them
    own_affine: bool = False  # cars keep weights and biases too; no car is ever sent another's


NORM_RULES = {
    "recalibrate": NormRule(recalibrates=True),
    "pooled": NormRule(),
    "average": NormRule(averages=True),
    # SiloBN: Andreux, du Terrail, Beguier, Tramel 2020, arXiv:2008.07424
    "local-statistics": NormRule(own_statistics=True),
    # FedBN: Li, Jiang, Zhang, Kamp, Dou 2021, ICLR, arXiv:2102.07623
    "local": NormRule(own_statistics=True, own_affine=True),
}


def to_moments(statistics: Tensor) -> Tensor:
    """(2, c) means and variances -> (2, c) float64 means and mean squares."""
    mean, variance = statistics.double()
    return torch.stack([mean, variance + mean.square()])


def to_statistics(moments: Tensor) -> Tensor:
    """(2, c) float64 means and mean squares -> (2, c) float32 means and variances."""
    return _unpooled(moments).float()


def _unpooled(moments: Tensor) -> Tensor:
    mean, square = moments
    return torch.stack([mean, (square - mean.square()).clamp_(min=0)])


class NormPool:
    """What belongs to the norms of a round's cars, combined: a weighted mean, or a coordinate median.

    The mean is exact. The median, against hostile cars, is taken of means and variances, whatever the cars' weights.
    """

    def __init__(self, rule: NormRule, like: Norms, robust: bool, cars: int) -> None:
        """like: shapes and types; robust: take the median; cars: how many there are in the round."""
        self.like, self.robust, self.cars = like, robust, cars
        self.moments = not (rule.averages or robust)
        width = like.statistics.numel() + like.affine.numel()
        self.sum = ExactSum(torch.zeros(width, dtype=torch.float64, device=like.statistics.device))
        self.rows: dict[int, list[float]] = {}

    def add(self, slot: int, moments: Tensor, affine: Tensor, weight: int) -> bool:
        """Add a car's; slot: its place among the round's cars. False if something is not finite."""
        row = torch.cat([(moments if self.moments else _unpooled(moments)).flatten(), affine.double()])
        if self.robust:
            self.rows[slot] = row.tolist()
            return bool(row.isfinite().all())
        return self.sum.add(row, weight)

    def total(self, world: World) -> Norms:
        """The combined norms, on every rank. Every rank calls it."""
        if self.robust:
            table = world.table(self.rows, self.cars, self.sum.like.numel())
            row = torch.from_numpy(np.median(table, axis=0)).to(self.like.statistics.device)
        else:
            total, weight = self.sum.total(world)
            row = total / weight
        split = self.like.statistics.numel()
        combined = row[:split].view_as(self.like.statistics)
        statistics = to_statistics(combined) if self.moments else combined.float()
        return Norms(row[split:].to(self.like.affine.dtype), statistics)


@torch.no_grad()
def recalibrated_moments(model: FlatModel, scenes: CarScenes, *, batch_size: int, seed: int,
                         round_number: int, car: int) -> Tensor:
    """(2, c) float64 moments of the model's activations on a few batches of the car's own scenes.

    Running averages lag behind the parameters and belong to the car's local vector; these belong to the
    parameters that the model holds now. A batch's variances are PyTorch's, with n / (n - 1).
    """
    draw = stream(seed, "recalibrate", round_number, car)
    seed_torch(seed, "recalibrate", round_number, car)
    count = min(len(scenes), RECALIBRATION_BATCHES * batch_size)
    positions = draw.permutation(len(scenes))[:count]
    total = torch.zeros_like(model.statistics, dtype=torch.float64)
    model.module.train()
    with _statistics_of_the_batch(model):
        for first in range(0, count, batch_size):
            batch = positions[first : first + batch_size]
            model.module(scenes.batch(batch)[0])
            total += to_moments(model.statistics) * len(batch)
    return total / count


@contextmanager
def _statistics_of_the_batch(model: FlatModel) -> Iterator[None]:
    """With momentum 1, running statistics are those of the latest batch."""
    usual = [norm.momentum for norm in model.norms]
    try:
        for norm in model.norms:
            norm.momentum = 1.0
        yield
    finally:
        for norm, momentum in zip(model.norms, usual, strict=True):
            norm.momentum = momentum
