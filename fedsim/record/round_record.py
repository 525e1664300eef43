"""A round as a line of metrics.jsonl; docs/records.md describes the keys."""

import math
from collections.abc import Sequence
from typing import Any

from fedsim.evaluate import Evaluation
from fedsim.federation import Federation, RoundResult, State
from fedsim.scoring import Score


def round_record(algo: str, federation: Federation, state: State, result: RoundResult | None, score: Score | None,
                 class_names: Sequence[str], seconds: dict[str, float]) -> dict[str, Any]:
    """The record of a state. result: of the round that led to it, None for round 0; score: None if not scored."""
    record: dict[str, Any] = {
        "round": state.round, "algo": algo,
        "global": None if score is None else _scores(score.overall, class_names),
        "cars": [] if result is None else [_car(federation, car, result, score) for car in result.reports],
    }
    if result is not None:
        record["lr"] = result.lr
        if result.residuals is not None:
            record |= {"primal_residual": result.residuals.primal, "dual_residual": result.residuals.dual,
                       "mean_dual_norm": result.residuals.mean_dual, "rho": result.residuals.penalty}
    if result is not None and federation.car_failures:
        record["failed"] = result.failed
    if score is not None and federation.algorithm.personal:
        worst = min(score.own, key=lambda car: score.own[car].scores.miou)
        record["worst"] = {"car": worst, "name": federation.cars[worst].name, "miou": score.own[worst].scores.miou}
    return record | {
        "pictures": state.pictures, "sequential_steps": state.sequential_steps,
        "bytes_up": result.bytes_up if result else 0, "bytes_down": result.bytes_down if result else 0,
        "seconds": seconds, "theta_sha256": state.digest(),
    }


def _scores(evaluation: Evaluation, names: Sequence[str]) -> dict[str, Any]:
    scores = evaluation.scores
    return {"loss": evaluation.loss, "miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy,
            "class_iou": {name: None if iou is None or math.isnan(iou) else iou
                          for name, iou in zip(names, scores.class_iou, strict=True)}}


def _car(federation: Federation, car: int, result: RoundResult, score: Score | None) -> dict[str, Any]:
    report, (name, images) = result.reports[car], federation.cars[car]
    entry = {"car": car, "name": name, "images": images, "steps": int(report.steps), "loss": report.loss,
             "drift": report.drift}
    if result.residuals is not None:
        entry["dual_norm"] = report.dual_norm
    if score is not None and car in score.own:
        entry |= {"miou": score.own[car].scores.miou, "own_loss": score.own[car].loss}
    return entry
