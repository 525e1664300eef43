"""BatchNorm's running statistics: no parameters, so no dual, no penalty, no server step; pooled exactly.

Statistics are (2, c): means and variances. Moments are (2, c) float64: means and mean squares. Moments of
groups average to the moments of their union, so pooling is a weighted mean of moments:
variance of the union = mean of variances + variance of means.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fedsim.scenes.car_scenes import CarScenes
from fedsim.seeds import seed_torch, stream
from fedsim.vector import FlatModel

RECALIBRATION_BATCHES = 4  # of a car's scenes, drawn anew every round


def to_moments(statistics: Tensor) -> Tensor:
    """(2, c) means and variances -> (2, c) float64 means and mean squares."""
    mean, variance = statistics.double()
    return torch.stack([mean, variance + mean.square()])


def to_statistics(moments: Tensor) -> Tensor:
    """(2, c) float64 means and mean squares -> (2, c) float32 means and variances."""
    mean, square = moments
    return torch.stack([mean, (square - mean.square()).clamp_(min=0)]).float()


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
