"""BatchNorm in a federation: rules for sharing it, and pooled statistics.

Statistics are (2, c): means and variances. They are not parameters: no dual variable, penalty or server step applies to
them. Moments are (2, c) float64: means and mean squares. The mean of the moments of groups is the moments of their
union, so pooling is a weighted mean of moments: variance of the union = mean of variances + variance of means.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedsim.aggregation.exact_sum import ExactSum
from fedsim.aggregation.totals import totals
from fedsim.data.car_scenes import CarScenes
from fedsim.distributed.world import World
from fedsim.models.flat import FlatModel, Norms
from fedsim.seeds import seed_torch, stream
from fedsim.system.transfer import upload


@dataclass(frozen=True)
class NormRule:
    """The rule by which BatchNorm layers federate. The global model always has statistics combined from the cars'."""

    recalibrates: bool = False  # statistics are measured with the new theta; else training's running ones are used
    averages: bool = False  # variances are averaged without adding the spread of the means
    own_statistics: bool = False  # cars continue from their own statistics, and are scored with them
    own_affine: bool = False  # cars also keep their own weights and biases, which no other car receives


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
    """Convert (2, c) means and variances to (2, c) float64 means and mean squares."""
    mean, variance = statistics.double()
    return torch.stack([mean, variance + mean.square()])


def to_statistics(moments: Tensor) -> Tensor:
    """Convert (2, c) float64 means and mean squares to (2, c) float32 means and variances."""
    return _to_variances(moments).float()


def _to_variances(moments: Tensor) -> Tensor:
    """Convert (2, c) float64 moments to (2, c) float64 means and variances."""
    mean, square = moments
    return torch.stack([mean, (square - mean.square()).clamp_(min=0)])


class NormPool:
    """The norms of a round's cars, combined into one: a weighted mean, or a coordinatewise median.

    The mean is exact. The median withstands hostile cars. It is taken of means and variances, and ignores weights.
    """

    def __init__(self, rule: NormRule, like: Norms, robust: bool, cars: int) -> None:
        """Make an empty pool. like: norms of the same shapes and types; robust: use the median; cars: their number."""
        self.like, self.robust, self.cars = like, robust, cars
        self.moments = not (rule.averages or robust)
        width = like.statistics.numel() + like.affine.numel()
        self.sum = ExactSum(torch.zeros(width, dtype=torch.float64))
        self.rows: dict[int, list[float]] = {}

    def to_row(self, moments: Tensor, affine: Tensor) -> Tensor:
        """Return a car's norms (2 c + e,) float64 as `add` takes them, on their own device."""
        return torch.cat([(moments if self.moments else _to_variances(moments)).flatten(), affine.double()])

    def add(self, slot: int, row: Tensor, weight: int) -> bool:
        """Add a car's norms, which `to_row` has made and which are on the CPU. Return whether they are finite.

        slot: its index among the round's cars.
        """
        if self.robust:
            self.rows[slot] = row.tolist()
            return bool(row.isfinite().all())
        return self.sum.add(row, weight)

    def total(self, world: World) -> Norms:
        """Return the combined norms on every rank. Every rank calls it."""
        if self.robust:
            table = world.table(self.rows, self.cars, self.sum.like.numel())
            row = torch.from_numpy(np.median(table, axis=0))
        else:
            (total, weight), = totals([self.sum], world)
            row = total / weight
        row = upload(row, self.like.statistics.device)
        split = self.like.statistics.numel()
        combined = row[:split].view_as(self.like.statistics)
        statistics = to_statistics(combined) if self.moments else combined.float()
        return Norms(row[split:].to(self.like.affine.dtype), statistics)


@torch.no_grad()
def recalibrated_moments(model: FlatModel, scenes: CarScenes, *, batches: int, batch_size: int, seed: int,
                         round_number: int, car: int) -> Tensor:
    """Measure the moments (2, c) float64 of BatchNorm's inputs on a few batches of a car's own scenes.

    Running averages lag behind the parameters and belong to the car's local vector. These moments belong to the
    parameters that the model holds now. A batch's variances are PyTorch's, with n / (n - 1).
    """
    draw = stream(seed, "recalibrate", round_number, car)
    seed_torch(seed, "recalibrate", round_number, car)
    count = min(len(scenes), batches * batch_size)
    positions = draw.permutation(len(scenes))[:count]
    total = torch.zeros_like(model.statistics, dtype=torch.float64)
    model.module.train()
    with use_batch_statistics(model):
        for first in range(0, count, batch_size):
            batch = positions[first : first + batch_size]
            model.module(scenes.batch(batch)[0])
            total += to_moments(model.statistics) * len(batch)
    return total / count


@contextmanager
def use_batch_statistics(model: FlatModel) -> Iterator[None]:
    """Set BatchNorm's momentum to 1 for a while, so that running statistics are those of the latest batch."""
    usual = [norm.momentum for norm in model.norms]
    try:
        for norm in model.norms:
            norm.momentum = 1.0
        yield
    finally:
        for norm, momentum in zip(model.norms, usual, strict=True):
            norm.momentum = momentum
