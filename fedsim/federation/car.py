"""One car's part in a round, on its own rank: train from what it was sent, contribute, remember."""

import math
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsim.aggregation import Gathering
from fedsim.aggregation.exact_sum import ExactSum
from fedsim.algorithms.base import Local
from fedsim.errors import RankError
from fedsim.evaluation.metrics import scores
from fedsim.federation.batchnorm import NormPool, recalibrated_moments, to_moments, to_statistics
from fedsim.federation.contributions import clip, to_parts
from fedsim.federation.federation import CarReport, Federation, State
from fedsim.federation.local_training import Trained, train_locally
from fedsim.models.flat import Norms, norm


class Played(NamedTuple):
    """What is left of a car's round on its own rank."""

    memory: Any  # handle
    norms: Norms | None  # that go with its local vector; None where cars don't keep their own
    report: CarReport
    seconds: float  # wall time of local training
    class_iou: list[float]  # of what it predicted while it trained; NaN where a class has none
    losses: list[float]  # of every step; no tensors: between large vectors they would leave gaps that fit none


@dataclass(frozen=True)
class RankRound:
    """A round on one rank: what its cars contribute goes into sums, what is left of them into `played`."""

    federation: Federation
    state: State  # before the round
    shared: Any  # what the cars were sent
    lr: float
    contributions: Gathering
    dual_change: ExactSum | None  # (d,) for the record; None without duals
    norms: NormPool
    played: dict[int, Played] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return self.state.round + 1

    def play(self, car: int, slot: int) -> None:
        """slot: the car's place among those that answer. What is not finite is refused, and reported."""
        federation, algorithm, model = self.federation, self.federation.algorithm, self.federation.model
        federation.world.doing = f"training car {car} ({federation.cars[car].name}) in round {self.number}"
        memory, weight = federation.memory(self.state, car), federation.weights[car]
        if model.norms:
            first = self.state.initial_norms if federation.norms.own_statistics else self.state.norms
            model.load_norms(self.state.own_norms.get(car, first))
        started = time.perf_counter()
        local, trained = self._train(car, memory)
        seconds = time.perf_counter() - started
        loss, drift = float(trained.losses.mean()), norm(local.w - self.shared.theta)
        contribution, new_memory = algorithm.contribute(local, self.shared, memory)
        finite = self.contributions.add(slot, to_parts(self._sent(contribution, car)), weight) and math.isfinite(loss)
        dual, dual_before = algorithm.dual(new_memory), algorithm.dual(memory)
        if self.dual_change is not None and dual is not None and dual_before is not None:
            self.dual_change.add(dual - dual_before, weight)
        finite = self._pool_norms(car, slot, weight) and finite
        report = CarReport(local.steps, loss, drift, 0.0 if dual is None else norm(dual), finite,
                           gradient_norm=float(trained.gradient_norms.mean()), weight_norm=norm(local.w))
        handle = federation.states.save(car, new_memory, self.state.memories.get(car))
        norms = model.copy_norms() if federation.has_own_models else None
        self.played[car] = Played(handle, norms, report, seconds, _class_iou(trained.confusion),
                                  trained.losses.tolist())

    def _train(self, car: int, memory: Any) -> tuple[Local, Trained]:
        federation, algorithm, scenes = self.federation, self.federation.algorithm, self.federation.scenes[car]
        try:
            trained = train_locally(
                federation.model, scenes, federation.training, start=algorithm.start(self.shared, memory),
                correction=partial(algorithm.correction, shared=self.shared, memory=memory),
                lr=self.lr, round_number=self.number, car=car)
        except torch.OutOfMemoryError as error:
            raise RankError(f"round {self.number}: car {car} on rank {federation.world.rank} ran out of memory on "
                            f"{federation.model.device}; try a smaller --batch-size or --width") from error
        steps = len(trained.losses)
        length = federation.training.optimizer.step_length(self.lr, steps, algorithm.damping)
        return Local(trained.w, steps, len(scenes), length), trained

    def _sent(self, contribution: Any, car: int) -> Any:
        """What arrives of a contribution: a hostile car sends another, a long one is clipped."""
        federation, about = self.federation, (self.shared.theta, self.federation.algorithm.sends_model)
        if federation.attack:
            contribution = federation.attack.disguise(contribution, *about, round_number=self.number, car=car)
        if federation.clip_norm is not None:
            unit = federation.algorithm.unit(contribution)
            contribution = clip(contribution, *about, federation.clip_norm, unit)
        return contribution

    def _pool_norms(self, car: int, slot: int, weight: int) -> bool:
        """Add the norms that training has left, unless those of the new theta will be measured."""
        federation, model = self.federation, self.federation.model
        if not model.norms:
            return True
        if federation.norms.recalibrates:
            if not federation.algorithm.personal:
                return True
            moments = recalibrate(federation, self.number, car)
            model.statistics.copy_(to_statistics(moments))
        return self.norms.add(slot, to_moments(model.statistics), model.affine, weight)


def _class_iou(confusion: Tensor | None) -> list[float]:
    """IoUs of a confusion matrix (C, C), NaN where a class has none; empty without one."""
    if confusion is None:
        return []
    if not confusion.any():
        return [math.nan] * len(confusion)
    return [math.nan if iou is None else iou for iou in scores(confusion).class_iou]


def recalibrate(federation: Federation, number: int, car: int) -> Tensor:
    """(2, c) moments of the car's scenes under the parameters that the model holds."""
    return recalibrated_moments(federation.model, federation.scenes[car], round_number=number, car=car,
                                batch_size=federation.training.batch_size, seed=federation.seed)
