"""Turn a round into its record, a line of metrics.jsonl (see docs/records.md)."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from fedsim.evaluation.evaluate import Evaluation
from fedsim.evaluation.own_scores import OwnScores
from fedsim.federation.federation import Federation
from fedsim.federation.measuring import measures
from fedsim.federation.rounds import sample
from fedsim.federation.scoring import Score
from fedsim.federation.state import RoundResult, State
from fedsim.federation.traffic import count_measuring
from fedsim.models.flat import norm


class CarDetail(NamedTuple):
    """The numbers of a car that go to TensorBoard alone: those of a thousand cars would make metrics.jsonl large."""

    step_losses: list[float]  # of every local step
    seconds: float  # wall time of local training
    train_class_iou: dict[str, float | None]  # by class, of its predictions while it trained
    class_iou: dict[str, float | None]  # by class, of its own model on the evaluated split; empty if it has none


def round_record(algo: str, federation: Federation, state: State, result: RoundResult | None, score: Score | None,
                 class_names: Sequence[str], seconds: dict[str, float]) -> dict[str, Any]:
    """Return the record of a state.

    result: of the round that led to the state; None for round 0. score: None if the state was not scored.
    """
    record: dict[str, Any] = {
        "round": state.round, "algo": algo,
        "global": None,
        "cars": [] if result is None else [_car(federation, car, result) for car in result.reports],
        "theta_norm": norm(state.shared.theta),
    }
    if result is not None:
        record |= {"lr": result.lr, "step_norm": result.step}
        if result.reports:
            pictures = sum(_pictures(federation, car, result) for car in result.reports)
            record["pictures_per_second"] = pictures / (result.seconds["local"] + result.seconds["combine"])
        if result.residuals is not None:
            record |= {"primal_residual": result.residuals.primal, "dual_residual": result.residuals.dual,
                       "mean_dual_norm": result.residuals.mean_dual, "rho": result.residuals.penalty}
    if result is not None and federation.schedule.car_failures:
        record["failed"] = result.failed
    rule = federation.method.aggregator
    if result is not None and rule.robust:
        weights = [federation.fleet.weights[car] for car in result.reports]
        record["withstands"] = rule.withstands(weights, result.chosen) if weights else None
    record |= {
        "pictures": state.pictures, "sequential_steps": state.sequential_steps,
        "bytes_up": result.bytes_up if result else 0, "bytes_down": result.bytes_down if result else 0,
        "seconds": seconds, "theta_sha256": state.digest(with_statistics=not measures(federation)),
    }
    return record if score is None else add_score(record, federation, state, score, class_names)


def add_score(record: dict[str, Any], federation: Federation, state: State, score: Score,
              class_names: Sequence[str]) -> dict[str, Any]:
    """Return a record with the score of its state, of the cars' own models too.

    state: with the statistics that belong to it. If they were measured for the score, the cars have exchanged them.
    """
    up, down = count_measuring(federation, sample(federation, state.round)) if state.round else (0, 0)
    own = {car: {"miou": scored.scores.miou, "own_loss": scored.loss} for car, scored in score.own.items()}
    scored = record | {"global": _scores(score.overall, class_names),
                       "cars": [entry | own.get(entry["car"], {}) for entry in record["cars"]],
                       "bytes_up": record["bytes_up"] + up, "bytes_down": record["bytes_down"] + down}
    if measures(federation) and not federation.method.algorithm.personal:
        scored["statistics_sha256"] = state.digest_of_statistics()
    for name in ("mean_of_cars", "averaged"):
        if (beside := getattr(score, name)) is not None:
            scored[name] = _scores(beside, class_names)
    if score.own_test is not None:
        scored["own_test"] = _own_test(score.own_test)
    if federation.method.algorithm.personal:
        worst = min(score.own, key=lambda car: score.own[car].scores.miou)
        name = federation.fleet.cars[worst].name
        scored["worst"] = {"car": worst, "name": name, "miou": score.own[worst].scores.miou}
    return scored


def car_details(result: RoundResult, score: Score | None, class_names: Sequence[str]) -> dict[int, CarDetail]:
    """Return the details of the cars that answered in a round, by car. score: None if the state was not scored."""
    own = {} if score is None else score.own
    return {car: CarDetail(report.step_losses, report.seconds, _by_class(report.class_iou, class_names),
                           _by_class(own[car].scores.class_iou, class_names) if car in own else {})
            for car, report in result.reports.items()}


def _scores(evaluation: Evaluation, names: Sequence[str]) -> dict[str, Any]:
    scores = evaluation.scores
    return {"loss": evaluation.loss, "miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy,
            "class_iou": _by_class(scores.class_iou, names),
            **({"drive_miou": dict(scores.drive_miou)} if scores.drive_miou else {})}


def _own_test(scores: OwnScores) -> dict[str, Any]:
    """Return the scores on the scenes that are held out from each car; null for a car without such scenes."""
    mious = [None if math.isnan(miou) else miou for miou in scores.own.tolist()]
    return {"mean": scores.mean, "worst": scores.worst_miou, "worst_car": scores.cars[scores.worst],
            "deviation": scores.deviation, "jain": scores.jain, "others": scores.others,
            "cars": dict(zip(scores.cars, mious, strict=True))}


def _by_class(class_iou: Sequence[float | None], names: Sequence[str]) -> dict[str, float | None]:
    return {name: None if iou is None or math.isnan(iou) else iou
            for name, iou in zip(names, class_iou, strict=True)}


def _car(federation: Federation, car: int, result: RoundResult) -> dict[str, Any]:
    report, (name, images) = result.reports[car], federation.fleet.cars[car]
    seen = [iou for iou in report.class_iou if not math.isnan(iou)]
    entry = {"car": car, "name": name, "images": images, "steps": int(report.steps), "loss": report.loss,
             "drift": report.drift, "gradient_norm": report.gradient_norm, "weight_norm": report.weight_norm,
             "train_miou": fmean(seen) if seen else None,
             "pictures_per_second": _pictures(federation, car, result) / report.seconds}
    if result.residuals is not None:
        entry["dual_norm"] = report.dual_norm
    return entry


def _pictures(federation: Federation, car: int, result: RoundResult) -> int:
    """Return how many pictures the car has trained on in the round, counted each time."""
    return federation.training.pictures(federation.fleet.cars[car].images, result.state.round, car)
