"""Local training of one car: its batches and gradient steps on its own scenes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedsim.data.augment import Unchanged
from fedsim.data.car_scenes import CarScenes
from fedsim.evaluation.metrics import Tally, keep_classes
from fedsim.federation.local_work import LocalWork, Turn, count_batches
from fedsim.federation.optimizers import SGD, Adam, Momentum
from fedsim.federation.precision import FLOAT32, Precision, Scaling
from fedsim.losses.criterion import Criterion
from fedsim.models.flat import FlatModel
from fedsim.models.outputs import Outputs, upsample
from fedsim.seeds import seed_torch
from fedsim.system.transfer import fetch

Correction = Callable[[Tensor], Tensor | None]  # w (d,) -> what is added to the gradient (d,)

MEASURED_BATCHES = 4  # of every car that measures the statistics of BatchNorm


@dataclass(frozen=True)
class LocalTraining:
    """The settings of local training, the same for all cars and algorithms."""

    work: LocalWork  # of a car in a round
    batch_size: int  # scenes that the network computes at once
    optimizer: SGD | Adam
    criterion: Criterion
    augmentation: Callable[[int, int, int], Unchanged]  # of (seed, round, car)
    seed: int
    across_rounds: str = "none"  # what momentum a car starts a round with, see fedsim.federation.momentum
    classes: int | None = None  # number of classes whose predictions are tallied; None for labels without classes
    measured_batches: int = MEASURED_BATCHES  # for the statistics of BatchNorm
    aux_weight: float = 0.0  # of the loss of each of a network's auxiliary logits
    clip_gradient: float | None = None  # the longest gradient of a step; None sets no bound
    accumulate: int = 1  # batches of a step
    precision: Precision = FLOAT32  # of the network

    @property
    def step_scenes(self) -> int:
        """The number of scenes of a step. The last step of an epoch may have fewer."""
        return self.batch_size * self.accumulate

    def turn(self, images: int, round_number: int, car: int) -> Turn:
        """Return the round of a car with `images` scenes, for `work`."""
        return Turn(self.seed, round_number, car, images, self.step_scenes)

    def steps(self, images: int, round_number: int, car: int) -> int:
        """Return the number of gradient steps that a car with `images` scenes takes in a round."""
        return self.work.steps(self.turn(images, round_number, car))

    def pictures(self, images: int, round_number: int, car: int) -> int:
        """Return the number of pictures that a car with `images` scenes trains on in a round, counted each time."""
        return self.work.pictures(self.turn(images, round_number, car))

    def add_gradient(self, model: FlatModel, images: Tensor, labels: Tensor, tally: Tally | None,
                     scaling: Scaling) -> Tensor:
        """Add the gradient of a step's loss to the model's, batch by batch. Return the loss, and count predictions.

        images: (B, 3, H, W) and labels: (B, H, W) of all scenes of the step. The batches are as few and as equal as can
        be. Each counts by the weight of its labelled pixels, so that their mean cross entropy is that of all scenes.
        """
        number = count_batches(len(images), self.batch_size)
        if number <= 1:
            loss, logits = self.loss(self.precision.compute(model.network, images), labels)
            scaling.raise_(loss).backward()
            _count(tally, labels, logits)
            return loss.detach()
        batches = [*zip(images.tensor_split(number), labels.tensor_split(number), strict=True)]
        weights = torch.stack([self.criterion.weigh(own) for _, own in batches])
        shares = (weights / weights.sum().clamp(min=1e-30)).to(images.dtype)
        total = torch.zeros_like(shares[0])
        for (pictures, own), share in zip(batches, shares, strict=True):
            loss, logits = self.loss(self.precision.compute(model.network, pictures), own)
            loss = loss * share
            scaling.raise_(loss).backward()
            _count(tally, own, logits)
            total += loss.detach()
        return total

    def loss(self, returned: Tensor | Outputs, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of what a network returns in training, and its logits (B, C, H, W).

        Auxiliary logits are upsampled to the size of the labels, and each adds its own loss.
        """
        logits, auxiliary = returned if isinstance(returned, Outputs) else (returned, ())
        loss = self.criterion(logits, labels)
        for one in auxiliary:
            loss = loss + self.aux_weight * self.criterion(upsample(one, labels.shape[1:]), labels)
        return loss, logits


class Trained(NamedTuple):
    """The local vector after training, and the numbers of its steps."""

    w: Tensor  # (d,) a copy, because the next car uses the model
    momentum: Momentum | None  # after the last step, of all (d + e,) parameters; None if it is not carried on
    losses: Tensor  # (steps,) on the CPU, of the model's type
    gradient_norms: Tensor  # (steps,) on the CPU; gradient of the loss, before the correction, of shared parameters
    confusion: Tensor | None  # (C, C) int64 on the CPU, rows = truth, of the predictions made at each step


def train_locally(model: FlatModel, scenes: CarScenes, training: LocalTraining, *, start: Tensor,
                  correction: Correction, lr: float, round_number: int, car: int,
                  momentum: Momentum | None = None) -> Trained:
    """Train from `start` (d,) on the car's scenes and return the local vector.

    Parameters that the car keeps for itself are trained too, without the correction. Every draw depends on (round, car)
    alone: the order of scenes, the augmentation, and the model's own draws such as dropout.

    momentum: what the optimiser goes on with, of all (d + e,) parameters; None to start anew.
    """
    model.load(start)
    if not model.module.training:  # train() walks through all layers, which would slow tiny cars down
        model.module.train()
    seed_torch(training.seed, "model", round_number, car)
    augment = training.augmentation(training.seed, round_number, car)
    steps = training.optimizer.start(momentum, model.decays)  # type: ignore[arg-type]  # the optimiser's own kind
    scaling = training.precision.scaling(model.device)
    losses: list[Tensor] = []
    gradient_norms: list[Tensor] = []
    tally = Tally(training.classes, model.device) if training.classes else None
    for positions in training.work.positions(training.turn(len(scenes), round_number, car)):
        images, labels = scenes.batch(positions, augment)
        model.gradient.zero_()
        losses.append(training.add_gradient(model, images, labels, tally, scaling))
        scaling.lower_(model.gradient)
        gradient_norms.append(torch.linalg.vector_norm(model.theta_gradient))
        if training.clip_gradient is not None:
            _shorten(model.gradient, training.clip_gradient)
        extra = correction(model.theta)
        if extra is not None:
            model.theta_gradient.add_(extra)
        steps.take(model.parameters, model.gradient, lr)
    loss_each, norm_each, *counts = fetch(
        torch.stack(losses), torch.stack(gradient_norms), *([tally.counts] if tally else []))
    return Trained(model.theta.clone(), steps.momentum() if momentum else None, loss_each, norm_each,
                   keep_classes(counts[0][0]) if counts else None)


def _count(tally: Tally | None, labels: Tensor, logits: Tensor) -> None:
    if tally:
        tally.add(labels, logits.detach().max(1).indices)  # argmax takes longer


def _shorten(gradient: Tensor, most: float) -> None:
    """Shorten a gradient (d + e,) in place to the norm `most`, if it is longer. The device is not waited for."""
    length = torch.linalg.vector_norm(gradient)
    gradient.mul_((most / length).clamp(max=1.0))
