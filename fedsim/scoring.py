"""What a round is worth: the global model's score or, where cars never communicate, each car's own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fedsim.evaluate import Evaluation, evaluate, evaluate_own
from fedsim.federation import Federation, State
from fedsim.loss import CrossEntropy
from fedsim.metrics import Scores
from fedsim.scenes.scene_set import SceneSet


@dataclass(frozen=True)
class Score:
    """overall: of the global model, or the mean over the cars' own; own: each car's, where cars have one."""

    overall: Evaluation
    own: dict[int, Evaluation]


def score(federation: Federation, state: State, eval_set: SceneSet, criterion: CrossEntropy) -> Score:
    """Score a state on a scene set, split over ranks."""
    if not federation.algorithm.personal:
        federation.model.load(state.shared.theta, state.statistics)
        return Score(evaluate(federation.world, federation.model, eval_set, criterion), {})
    rows = {}
    for car in federation.scenes:
        federation.model.load(state.memory(car), state.own_statistics.get(car, state.statistics))
        rows[car] = _to_row(evaluate_own(federation.model, eval_set, criterion))
    table = federation.world.table(rows, len(federation.cars), 3 + len(eval_set.classes))
    own = {car: _from_row(row) for car, row in enumerate(table)}
    return Score(_from_row(np.array([_mean(column) for column in table.T])), own)


def models(federation: Federation, state: State) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, parameters, statistics) of the models that a state stands for, on every rank."""
    if not federation.algorithm.personal:
        yield "model", state.shared.theta, state.statistics
        return
    for car, (name, _) in enumerate(federation.cars):
        w = state.memory(car).clone()
        statistics = state.own_statistics.get(car, state.statistics).clone()
        for tensor in (w, statistics):
            federation.world.broadcast_(tensor, source=federation.homes[car])
        yield f"car-{car:02d}-{name}", w, statistics


def _to_row(evaluation: Evaluation) -> list[float]:
    scores = evaluation.scores
    return [evaluation.loss, scores.miou, scores.pixel_accuracy,
            *(math.nan if iou is None else iou for iou in scores.class_iou)]


def _from_row(row: np.ndarray) -> Evaluation:
    loss, miou, accuracy, *class_iou = map(float, row)
    return Evaluation(loss, Scores(miou, accuracy, [None if math.isnan(iou) else iou for iou in class_iou]))


def _mean(column: np.ndarray) -> float:
    """The mean of the numbers there are."""
    there = column[~np.isnan(column)]
    return float(there.mean()) if there.size else math.nan


