"""The score of a state: the global model's, each car's own, and trivial baselines."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedsim.aggregation.exact_sum import ExactSum
from fedsim.aggregation.totals import totals
from fedsim.data.scene_set import SceneSet
from fedsim.evaluation import baselines
from fedsim.evaluation.evaluate import Evaluation, evaluate, evaluate_own
from fedsim.evaluation.metrics import Scores, scores
from fedsim.evaluation.own_scores import OwnScores
from fedsim.evaluation.views import PLAIN, View
from fedsim.federation.federation import Federation
from fedsim.federation.measuring import measure_average, measure_statistics
from fedsim.federation.state import State
from fedsim.losses.criterion import Criterion
from fedsim.models.flat import Norms


@dataclass(frozen=True)
class Score:
    """The score of a state. A car has its own score if it has a personal model, or norms of its own."""

    overall: Evaluation  # of the global model, or the mean over personal models
    own: dict[int, Evaluation]  # car -> its own score; empty if cars have none
    own_test: OwnScores | None = None  # on the scenes that are held out from each car; None if there are no such scenes
    mean_of_cars: Evaluation | None = None  # of the mean of the cars' vectors; None if the algorithm scores theta alone
    averaged: Evaluation | None = None  # of the average over rounds; None if there is no such model


def score(federation: Federation, state: State, eval_set: SceneSet, criterion: Criterion,
          view: View = PLAIN) -> Score:
    """Score a state on a scene set. Every rank calls it and scores its share. view: of the pictures."""
    own: dict[int, Evaluation] = {}
    if federation.has_own_models:
        rows = {}
        for car in federation.fleet.scenes:
            load_own_model(federation, state, car)
            rows[car] = _to_row(evaluate_own(federation.model, eval_set, criterion, view))
        drives = eval_set.drive_names if len(eval_set.drive_names) > 1 else ()
        table = federation.world.table(rows, len(federation.fleet.cars), 3 + len(eval_set.classes) + len(drives))
        own = {car: _from_row(row, drives) for car, row in enumerate(table)}
    if federation.method.algorithm.personal:
        return Score(_from_row(np.array([_mean(column) for column in table.T]), drives), own)

    def score_model(model: tuple[Tensor, Norms] | None) -> Evaluation | None:
        if model is None:
            return None
        federation.model.load(*model)
        return evaluate(federation.world, federation.model, eval_set, criterion, view)

    overall = score_model((state.shared.theta, state.norms))
    assert overall is not None
    return Score(overall, own, mean_of_cars=score_model(_measure_mean_of_cars(federation, state)),
                 averaged=score_model(measure_average(federation, state)))


def _measure_mean_of_cars(federation: Federation, state: State) -> tuple[Tensor, Norms] | None:
    """Return the mean of the cars' vectors with statistics of its own; None as `mean_of_cars`."""
    mean = mean_of_cars(federation, state)
    if mean is None:
        return None
    return mean, measure_statistics(federation, replace(state, shared=state.shared._replace(theta=mean))).norms


def mean_of_cars(federation: Federation, state: State) -> Tensor | None:
    """Return Σ p_i w_i / Σ p_i (d,) over the cars that have taken part, with the w_i of their latest round.

    It is the same on every rank and on any number of ranks. None if the algorithm scores theta alone, or if no car has
    taken part.
    """
    algorithm, total = federation.method.algorithm, ExactSum(state.shared.theta, len(federation.fleet.cars))
    if algorithm.local_vector(algorithm.init_memory(state.shared.theta)) is None:
        return None
    for car in state.memories:
        w = algorithm.local_vector(federation.memory(state, car))
        assert w is not None
        total.add(w, federation.fleet.weights[car])
    (mean, weight), = totals([total], federation.world)
    return (mean / weight).to(state.shared.theta.dtype) if weight else None


def models(federation: Federation, state: State) -> Iterator[tuple[str, Tensor, Norms]]:
    """Yield (name, theta, norms) of every model of a state, the global one first, on every rank.

    state: with the statistics that belong to its parameters.
    """
    if not federation.method.algorithm.personal:
        yield "model", state.shared.theta, state.norms
    if (averaged := measure_average(federation, state)) is not None:
        yield "averaged", *averaged
    if not federation.has_own_models:
        return
    for car, (name, _) in enumerate(federation.fleet.cars):
        here = car in federation.fleet.scenes
        theta, norms = _own_model(federation, state, car) if here else (state.shared.theta, state.norms)
        w, norms = theta.clone(), Norms(*(tensor.clone() for tensor in norms))  # other ranks overwrite theirs
        for tensor in (w, *norms):
            federation.world.broadcast_(tensor, source=federation.fleet.homes[car])
        yield f"car-{car:02d}-{name}", w, norms


def load_own_model(federation: Federation, state: State, car: int) -> None:
    """Give the network the weights and statistics of a car that this rank plays."""
    federation.model.load(*_own_model(federation, state, car))


def _own_model(federation: Federation, state: State, car: int) -> tuple[Tensor, Norms]:
    """Return theta and norms of the model of a car that this rank plays."""
    theta = federation.memory(state, car) if federation.method.algorithm.personal else state.shared.theta
    return theta, state.own_norms.get(car, state.norms)


def trivial_baselines(federation: Federation, train_set: SceneSet, eval_set: SceneSet) -> dict[str, float]:
    """Return the mIoU of guessing a pixel's class from its colour, and from its colour and position.

    Every car counts its own scenes, and every rank its share of the scored ones. The counts add up, so all ranks have
    the same result.
    """
    trained, scored = (baselines.make_counts(len(train_set.classes)) for _ in range(2))
    for scenes in federation.fleet.scenes.values():
        for index in scenes.indices:
            baselines.add_scene(trained, train_set.images[index], train_set.labels[index])
    for index in range(federation.world.rank, len(eval_set), federation.world.size):
        baselines.add_scene(scored, eval_set.images[index], eval_set.labels[index])
    for counts in (trained, scored):
        federation.world.sum_(torch.from_numpy(counts))  # which shares the array's memory
    result = {}
    for name, by_place in (("colour only", False), ("colour and position", True)):
        tally = baselines.confusion(baselines.most_frequent(trained, by_place), scored)
        result[name] = scores(torch.from_numpy(tally)).miou
    return result


def _to_row(evaluation: Evaluation) -> list[float]:
    own = evaluation.scores
    return [evaluation.loss, own.miou, own.pixel_accuracy,
            *(math.nan if iou is None else iou for iou in (*own.class_iou, *own.drive_miou.values()))]


def _from_row(row: np.ndarray, drives: Sequence[str]) -> Evaluation:
    """Return the evaluation that a row stands for. drives: those that are told apart, whose mIoUs end the row."""
    loss, miou, accuracy, *ious = map(float, row)
    there = [None if math.isnan(iou) else iou for iou in ious]
    classes = len(there) - len(drives)
    return Evaluation(loss, Scores(miou, accuracy, there[:classes], dict(zip(drives, there[classes:], strict=True))))


def _mean(column: np.ndarray) -> float:
    """Return the mean without NaNs, or NaN if all are NaN."""
    there = column[~np.isnan(column)]
    return float(there.mean()) if there.size else math.nan
