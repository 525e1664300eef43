"""One car's local training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedsim.optimizers import SGD, Adam
from fedsim.scenes.car_scenes import CarScenes
from fedsim.seeds import seed_torch, stream
from fedsim.vector import FlatModel

Correction = Callable[[Tensor], Tensor | None]  # w (d,) -> what is added to the gradient (d,)
Criterion = Callable[[Tensor, Tensor], Tensor]  # logits (B, C, H, W), labels (B, H, W) -> mean loss


@dataclass(frozen=True)
class LocalTraining:
    """How every car trains, whatever the algorithm."""

    epochs: int
    batch_size: int
    optimizer: SGD | Adam
    criterion: Criterion
    flips: bool
    seed: int

    def steps(self, images: int) -> int:
        """Gradient steps a round of a car with so many scenes; the last batch of an epoch may be smaller."""
        return self.epochs * -(-images // self.batch_size)


class Trained(NamedTuple):
    """The local vector and the loss of every step."""

    w: Tensor  # (d,) a copy: the model goes on to the next car
    losses: Tensor  # (steps,) float32 on CPU


def train_locally(model: FlatModel, scenes: CarScenes, training: LocalTraining, *, start: Tensor,
                  correction: Correction, lr: float, round_number: int, car: int) -> Trained:
    """Train from `start` on the car's scenes and return where it ends.

    Every draw (order, flips, the model's own, such as dropout) belongs to (round, car) alone.
    """
    model.load(start)
    model.module.train()
    seed_torch(training.seed, "model", round_number, car)
    order = stream(training.seed, "shuffle", round_number, car)
    mirror = stream(training.seed, "flip", round_number, car) if training.flips else None
    step = training.optimizer.start()
    losses: list[Tensor] = []
    for _ in range(training.epochs):
        positions = order.permutation(len(scenes))
        for first in range(0, len(scenes), training.batch_size):
            batch = positions[first : first + training.batch_size]
            flips = mirror.random(len(batch)) < 0.5 if mirror else None
            images, labels = scenes.batch(batch, flips)
            model.gradient.zero_()
            loss = training.criterion(model.module(images), labels)
            loss.backward()
            extra = correction(model.parameters)
            if extra is not None:
                model.gradient.add_(extra)
            step(model.parameters, model.gradient, lr)
            losses.append(loss.detach())
    return Trained(model.parameters.clone(), torch.stack(losses).cpu())
