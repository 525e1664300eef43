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
from fedsim.federation.batchnorm import NormPool, to_moments
from fedsim.federation.bundles import join, parts_of, put_together, to_tensors
from fedsim.federation.contributions import clip
from fedsim.federation.federation import Federation
from fedsim.federation.local_training import Trained, train_locally
from fedsim.federation.momentum import choose_momentum, keep_shared_part
from fedsim.federation.optimizers import Momentum, read_unit_velocity
from fedsim.federation.participation import Cohort
from fedsim.federation.state import CarReport, State
from fedsim.models.flat import Norms
from fedsim.system.transfer import fetch


class CarOutcome(NamedTuple):
    """The results of a car's round that stay on its own rank. Its contribution is in the sums by then."""

    memory: Any  # the handle of what it keeps
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
            to_tensors(federation.sent_like), [fleet.homes[car] for car in combined],
            len(cohort.chosen), federation.world, federation.memories.folder)
        # (d,) for the record
        self.dual_change = None if state.mean_dual is None else ExactSum(shared.theta, len(combined))
        self.norms = NormPool(method.norms, state.norms, method.aggregator.robust, len(combined))

    def play(self, car: int, slot: int) -> None:
        """Train a car, add its contribution to the sums, and keep its outcome.

        slot: the car's index among those combined. A contribution that is not finite is left out and reported.
        """
        federation, algorithm, model = self.federation, self.federation.method.algorithm, self.federation.model
        federation.world.doing = f"training car {car} ({federation.fleet.cars[car].name}) in round {self.number}"
        stored, own_momentum = federation.recall(self.state, car)
        weight, momentum = federation.fleet.weights[car], choose_momentum(federation, self.state, own_momentum)
        length = self._step_length(car, momentum)
        shared, memory = algorithm.receive(self.shared, stored, length)
        self._load_norms(car)
        started = time.perf_counter()
        trained = self._train(car, shared, memory, momentum)
        seconds = time.perf_counter() - started
        local = Local(trained.w, len(trained.losses), federation.fleet.cars[car].images, length)
        loss = float(trained.losses.mean())
        contribution, new_memory = algorithm.contribute(local, shared, memory)
        dual, dual_before = algorithm.dual(new_memory), algorithm.dual(stored)
        measured = local.w - self.shared.theta, local.w, local.w[:0] if dual is None else dual
        drift, weight_norm, dual_norm, norms_row = fetch(
            *map(torch.linalg.vector_norm, measured), self._norms_to_send())
        tensors = to_tensors(self._received(contribution, trained.momentum, car))
        finite = self.contributions.add(slot, tensors, weight) and math.isfinite(loss)
        if self.dual_change is not None and dual is not None and dual_before is not None:
            self.dual_change.add(dual - dual_before, weight)
        if norms_row.numel():
            finite = self.norms.add(slot, norms_row, weight) and finite
        # The losses become a list, because small tensors between large vectors leave gaps that no vector fits into.
        report = CarReport(
            steps=local.steps, loss=loss, drift=float(drift), dual_norm=float(dual_norm), finite=finite,
            gradient_norm=float(trained.gradient_norms.mean()), weight_norm=float(weight_norm), seconds=seconds,
            class_iou=_class_iou(trained.confusion), step_losses=trained.losses.tolist())
        kept = new_memory if own_momentum is None else join(new_memory, trained.momentum)
        handle = federation.memories.save(car, kept, self.state.memories.get(car))
        norms = model.copy_norms() if federation.has_own_models else None
        self.outcomes[car] = CarOutcome(handle, norms, report)

    def _load_norms(self, car: int) -> None:
        """Give the model the norms that the car starts from: its own, if cars keep their own, or the global ones."""
        if self.federation.model.norms:
            own = self.federation.method.norms.own_statistics
            first = self.state.initial_norms if own else self.state.norms
            self.federation.model.load_norms(self.state.own_norms.get(car, first))

    def _step_length(self, car: int, momentum: Momentum | None) -> float | None:
        """Return how far a car's local steps go along a unit gradient in this round."""
        training, damping = self.federation.training, self.federation.method.algorithm.damping
        steps = training.steps(self.federation.fleet.cars[car].images, self.number, car)
        return training.optimizer.step_length(self.lr, steps, damping, read_unit_velocity(momentum))

    def _train(self, car: int, shared: Any, memory: Any, momentum: Momentum | None) -> Trained:
        """Train a car from what it has received and keeps. Raises RankError if that changes a constant of the model."""
        federation, algorithm, scenes = self.federation, self.federation.method.algorithm, self.federation.fleet.scenes
        trained = train_locally(
            federation.model, scenes[car], federation.training, start=algorithm.start(shared, memory),
            correction=partial(algorithm.correction, shared=shared, memory=memory),
            lr=self.lr, round_number=self.number, car=car, momentum=momentum)
        for constant in federation.model.constants:
            if not constant.is_unchanged():
                raise RankError(f"round {self.number}: while car {car} trained on rank {federation.world.rank}, the "
                                f"network changed its {constant.name}, which is neither a trainable parameter nor a "
                                "running statistic, so it would reach the next car; keep it as it is")
        return trained

    def _received(self, contribution: Any, momentum: Momentum | None, car: int) -> Any:
        """Return what arrives of all that a car sends: a hostile car sends something else, and a long move is clipped.

        momentum: after its last step; it is sent with the contribution if it is averaged.
        """
        federation, method, theta = self.federation, self.federation.method, self.shared.theta
        sends_model, sent, parts = method.algorithm.sends_model, contribution, len(parts_of(contribution))
        if federation.training.across_rounds == "average" and momentum is not None:
            sent = join(contribution, keep_shared_part(federation, momentum))
        if method.attack:
            sent = method.attack.disguise(sent, theta, sends_model, round_number=self.number, car=car)
        if method.clip_norm is not None:
            unit = method.algorithm.unit(put_together(contribution, parts_of(sent)[:parts]))
            sent = clip(sent, theta, sends_model, method.clip_norm, unit)
        return sent

    def _norms_to_send(self) -> Tensor:
        """Return the norms that training has left, as a row of the pool.

        If statistics are measured with the new theta, there is nothing to send, and the row is empty.
        """
        model = self.federation.model
        if not model.norms or self.federation.method.norms.recalibrates:
            return model.theta[:0]
        return self.norms.to_row(to_moments(model.statistics), model.affine)


def _class_iou(confusion: Tensor | None) -> list[float]:
    """Return the IoUs of a confusion matrix (C, C), NaN for a class without one; an empty list without a matrix."""
    if confusion is None:
        return []
    if not confusion.any():
        return [math.nan] * len(confusion)
    return [math.nan if iou is None else iou for iou in scores(confusion).class_iou]
