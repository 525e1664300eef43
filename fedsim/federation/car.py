"""A car's part in a round, on its own rank: train, contribute, remember."""

import math
import time
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsim.aggregation.exact_sum import ExactSum
from fedsim.algorithms.base import Local
from fedsim.errors import RankError
from fedsim.evaluation.metrics import scores
from fedsim.federation.batchnorm import NormPool, recalibrated_moments, to_moments, to_statistics
from fedsim.federation.bundles import to_tensors
from fedsim.federation.contributions import clip
from fedsim.federation.federation import Federation
from fedsim.federation.local_training import Trained, train_locally
from fedsim.federation.participation import Cohort
from fedsim.federation.state import CarReport, State
from fedsim.models.flat import Norms, norm


class CarOutcome(NamedTuple):
    """The results of a car's round that stay on its own rank. Its contribution is in the sums by then."""

    memory: Any  # its handle
    norms: Norms | None  # those of its own model; None if cars keep no norms of their own
    report: CarReport


class CarsOfRank:
    """The cars that this rank plays in one round, and the sums that their contributions go into."""

    def __init__(self, federation: Federation, state: State, shared: Any, lr: float, cohort: Cohort) -> None:
        """Open the round. Raises OSError if the aggregator cannot make the files that it needs.

        state: before the round; shared: the shared state that the cars receive; cohort: the round's cars, on all ranks.
        """
        combined = cohort.combined
        method, fleet = federation.method, federation.fleet
        self.federation, self.state, self.shared, self.lr, self.combined = federation, state, shared, lr, combined
        self.number = state.round + 1
        self.outcomes: dict[int, CarOutcome] = {}
        self.contributions = method.aggregator.gather(
            to_tensors(federation.contribution_like), [fleet.homes[car] for car in combined],
            len(cohort.chosen), federation.world, federation.memories.folder)
        self.dual_change = None if state.mean_dual is None else ExactSum(shared.theta)  # (d,) for the record
        self.norms = NormPool(method.norms, state.norms, method.aggregator.robust, len(combined))

    def play(self, car: int, slot: int) -> None:
        """Train a car, add its contribution to the sums, and keep its outcome.

        slot: the car's index among those combined. A contribution that is not finite is left out and reported.
        """
        federation, algorithm, model = self.federation, self.federation.method.algorithm, self.federation.model
        federation.world.doing = f"training car {car} ({federation.fleet.cars[car].name}) in round {self.number}"
        stored, weight = federation.memory(self.state, car), federation.fleet.weights[car]
        shared, memory = algorithm.receive(self.shared, stored, self._step_length(car))
        self._load_norms(car)
        started = time.perf_counter()
        local, trained = self._train(car, shared, memory)
        seconds = time.perf_counter() - started
        loss, drift = float(trained.losses.mean()), norm(local.w - self.shared.theta)
        contribution, new_memory = algorithm.contribute(local, shared, memory)
        tensors = to_tensors(self._received(contribution, car))
        finite = self.contributions.add(slot, tensors, weight) and math.isfinite(loss)
        dual, dual_before = algorithm.dual(new_memory), algorithm.dual(stored)
        if self.dual_change is not None and dual is not None and dual_before is not None:
            self.dual_change.add(dual - dual_before, weight)
        finite = self._add_norms(car, slot, weight) and finite
        # The losses become a list, because small tensors between large vectors leave gaps that no vector fits into.
        report = CarReport(
            steps=local.steps, loss=loss, drift=drift, dual_norm=0.0 if dual is None else norm(dual), finite=finite,
            gradient_norm=float(trained.gradient_norms.mean()), weight_norm=norm(local.w), seconds=seconds,
            class_iou=_class_iou(trained.confusion), step_losses=trained.losses.tolist())
        handle = federation.memories.save(car, new_memory, self.state.memories.get(car))
        norms = model.copy_norms() if federation.has_own_models else None
        self.outcomes[car] = CarOutcome(handle, norms, report)

    def _load_norms(self, car: int) -> None:
        """Give the model the norms that the car starts from: its own, if cars keep their own, or the global ones."""
        if self.federation.model.norms:
            own = self.federation.method.norms.own_statistics
            first = self.state.initial_norms if own else self.state.norms
            self.federation.model.load_norms(self.state.own_norms.get(car, first))

    def _step_length(self, car: int) -> float | None:
        """Return how far a car's local steps go along a unit gradient in this round."""
        training, damping = self.federation.training, self.federation.method.algorithm.damping
        steps = training.steps(self.federation.fleet.cars[car].images, self.number, car)
        return training.optimizer.step_length(self.lr, steps, damping)

    def _train(self, car: int, shared: Any, memory: Any) -> tuple[Local, Trained]:
        """Train a car from what it has received. Raises RankError if the device runs out of memory."""
        federation, algorithm, scenes = self.federation, self.federation.method.algorithm, self.federation.fleet.scenes
        try:
            trained = train_locally(
                federation.model, scenes[car], federation.training, start=algorithm.start(shared, memory),
                correction=partial(algorithm.correction, shared=shared, memory=memory),
                lr=self.lr, round_number=self.number, car=car)
        except torch.OutOfMemoryError as error:
            raise RankError(f"round {self.number}: car {car} on rank {federation.world.rank} ran out of memory on "
                            f"{federation.model.device}; try a smaller --batch-size or --width") from error
        for constant in federation.model.constants:
            if not constant.is_unchanged():
                raise RankError(f"round {self.number}: while car {car} trained on rank {federation.world.rank}, the "
                                f"network changed its {constant.name}, which is neither a trainable parameter nor a "
                                "running statistic, so it would reach the next car; keep it as it is")
        return Local(trained.w, len(trained.losses), len(scenes[car]), self._step_length(car)), trained

    def _received(self, contribution: Any, car: int) -> Any:
        """Return what arrives of a contribution: a hostile car sends another one, and a long one is clipped."""
        method, theta = self.federation.method, self.shared.theta
        sends_model = method.algorithm.sends_model
        if method.attack:
            contribution = method.attack.disguise(contribution, theta, sends_model, round_number=self.number, car=car)
        if method.clip_norm is not None:
            unit = method.algorithm.unit(contribution)
            contribution = clip(contribution, theta, sends_model, method.clip_norm, unit)
        return contribution

    def _add_norms(self, car: int, slot: int, weight: int) -> bool:
        """Add the norms that training has left to the pool. Return False if they are not finite.

        If statistics will be measured with the new theta, there is nothing to add now. A car with a personal model has
        no new theta to wait for: its statistics are measured here.
        """
        federation, model = self.federation, self.federation.model
        if not model.norms:
            return True
        if federation.method.norms.recalibrates:
            if not federation.method.algorithm.personal:
                return True
            model.statistics.copy_(to_statistics(recalibrate(federation, self.number, car)))
        return self.norms.add(slot, to_moments(model.statistics), model.affine, weight)


def recalibrate(federation: Federation, number: int, car: int) -> Tensor:
    """Measure the moments (2, c) of BatchNorm's activations on a car's scenes, with the model's present parameters."""
    return recalibrated_moments(federation.model, federation.fleet.scenes[car], round_number=number, car=car,
                                batch_size=federation.training.batch_size, seed=federation.schedule.seed)


def _class_iou(confusion: Tensor | None) -> list[float]:
    """Return the IoUs of a confusion matrix (C, C), NaN for a class without one; an empty list without a matrix."""
    if confusion is None:
        return []
    if not confusion.any():
        return [math.nan] * len(confusion)
    return [math.nan if iou is None else iou for iou in scores(confusion).class_iou]
