"""One car's local training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedsim.data.augment import Unchanged
from fedsim.data.car_scenes import CarScenes
from fedsim.evaluation.metrics import Tally
from fedsim.federation.optimizers import SGD, Adam
from fedsim.models.flat import FlatModel
from fedsim.seeds import seed_torch, stream

Correction = Callable[[Tensor], Tensor | None]  # w (d,) -> what is added to the gradient (d,)
Criterion = Callable[[Tensor, Tensor], Tensor]  # logits (B, C, H, W), labels (B, H, W) -> mean loss


@dataclass(frozen=True)
class LocalTraining:
    """How every car trains, whatever the algorithm."""

    epochs: tuple[int, int]  # least and most in a round; every car and round draws its own number
    batch_size: int
    optimizer: SGD | Adam
    criterion: Criterion
    augmentation: type[Unchanged]
    seed: int
    classes: int | None = None  # of the labels' pixels, of which predictions are tallied; None: no pixels of classes

    def epochs_in(self, round_number: int, car: int) -> int:
        """How many epochs the car trains in the round, drawn uniformly."""
        least, most = self.epochs
        if least == most:
            return least
        return int(stream(self.seed, "local epochs", round_number, car).integers(least, most + 1))

    def steps(self, images: int, round_number: int, car: int) -> int:
        """Gradient steps of a car with so many scenes."""
        return self.epochs_in(round_number, car) * self.batches(images)

    def batches(self, images: int) -> int:
        """Of an epoch; the last may be smaller."""
        return -(-images // self.batch_size)


class Trained(NamedTuple):
    """The local vector, and what its way there was like."""

    w: Tensor  # (d,) a copy: the model goes on to the next car
    losses: Tensor  # (steps,) on CPU, of the model's type
    gradient_norms: Tensor  # (steps,) on CPU: of the loss alone, before the correction, along what is shared
    confusion: Tensor | None  # (C, C) int64 on CPU, rows = truth: predictions of all steps, as they were made


def train_locally(model: FlatModel, scenes: CarScenes, training: LocalTraining, *, start: Tensor,
                  correction: Correction, lr: float, round_number: int, car: int) -> Trained:
    """Train from `start` (d,) on the car's scenes and return where it ends.

    Parameters that the car keeps for itself train along, without correction.

    Every draw (order, augmentation, the model's own, such as dropout) belongs to (round, car) alone.
    """
    model.load(start)
    if not model.module.training:  # a walk through all layers, which tiny cars would feel
        model.module.train()
    seed_torch(training.seed, "model", round_number, car)
    order = stream(training.seed, "shuffle", round_number, car)
    augment = training.augmentation(training.seed, round_number, car)
    step = training.optimizer.start()
    losses: list[Tensor] = []
    gradient_norms: list[Tensor] = []
    tally = Tally(training.classes, model.device) if training.classes else None
    for _ in range(training.epochs_in(round_number, car)):
        positions = order.permutation(len(scenes))
        for first in range(0, len(scenes), training.batch_size):
            images, labels = scenes.batch(positions[first : first + training.batch_size], augment)
            model.gradient.zero_()
            outputs = model.module(images)
            loss = training.criterion(outputs, labels)
            loss.backward()
            gradient_norms.append(torch.linalg.vector_norm(model.theta_gradient))
            if tally:
                tally.add(labels, outputs.detach().max(1).indices)  # argmax takes longer
            extra = correction(model.theta)
            if extra is not None:
                model.theta_gradient.add_(extra)
            step(model.parameters, model.gradient, lr)
            losses.append(loss.detach())
    return Trained(model.theta.clone(), torch.stack(losses).cpu(), torch.stack(gradient_norms).cpu(),
                   tally.confusion() if tally else None)
