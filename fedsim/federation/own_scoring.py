"""The scores of a state on the scenes that are held out from each car."""

import math
from collections.abc import Sequence

import numpy as np

from fedsim.data.scene_set import SceneSet
from fedsim.evaluation.evaluate import Evaluation, evaluate, evaluate_own
from fedsim.evaluation.own_scores import OwnScores
from fedsim.evaluation.views import PLAIN, View
from fedsim.federation.federation import Federation
from fedsim.federation.scoring import load_own_model
from fedsim.federation.state import State
from fedsim.losses.criterion import Criterion


def score_own_test(federation: Federation, state: State, scenes: SceneSet, cars: Sequence[str], criterion: Criterion,
                   view: View = PLAIN) -> OwnScores:
    """Score the model of each car on the held-out scenes of every car. Every rank calls it.

    Cars that share the global model are scored together, each rank its share of the scenes. A rank scores those models
    of its own cars that differ from it.

    scenes: each under the name of its car in the place of its drive; cars: the names of all cars that scenes were dealt
    to, those of a federation or, for centralised training, those whose scenes it has.
    """
    if not federation.has_own_models:
        federation.model.load(state.shared.theta, state.norms)
        found = evaluate(federation.world, federation.model, scenes, criterion, view)
        return OwnScores.of_one(cars, _by_car(found, scenes, cars))
    rows = {}
    for car in federation.fleet.scenes:
        load_own_model(federation, state, car)
        rows[car] = _by_car(evaluate_own(federation.model, scenes, criterion, view), scenes, cars).tolist()
    return OwnScores(cars, federation.world.table(rows, len(cars), len(cars)))


def _by_car(evaluation: Evaluation, scenes: SceneSet, cars: Sequence[str]) -> np.ndarray:
    """Return the mIoU on each car's scenes, (S,); NaN for a car without scenes, or without labelled pixels."""
    present = scenes.drive_names
    mious = evaluation.scores.drive_miou if len(present) > 1 else {present[0]: evaluation.scores.miou}
    found = [mious.get(car) for car in cars]
    return np.array([math.nan if miou is None else miou for miou in found])
