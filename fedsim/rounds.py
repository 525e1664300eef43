"""The federation's loop: sample, train locally, combine, step, send. Nothing else.

`simulate` yields every round's result; what to evaluate, print or save is its caller's business.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsim.aggregation.exact_sum import ExactSum
from fedsim.algorithms.base import Local
from fedsim.batchnorm import recalibrated_moments, to_moments, to_statistics
from fedsim.errors import RankError, RunError
from fedsim.federation import CarReport, Federation, Residuals, RoundResult, State
from fedsim.local import train_locally
from fedsim.participation import chosen_cars
from fedsim.world import World


def initial_state(federation: Federation) -> State:
    """Round 0: the untrained model, the coordinator's on every rank."""
    theta = federation.model.parameters.clone()
    statistics = federation.model.statistics.clone()
    federation.world.broadcast_(theta)
    federation.world.broadcast_(statistics)
    algorithm = federation.algorithm
    memory = algorithm.init_memory(theta)
    mean_dual = None if algorithm.dual(memory) is None else torch.zeros_like(theta, dtype=torch.float64)
    return State(0, algorithm.init_shared(theta), statistics, memory, {}, {}, mean_dual)


def simulate(federation: Federation, state: State) -> Iterator[RoundResult]:
    """Play the rounds after `state`, to the last."""
    while state.round < federation.rounds:
        result = run_round(federation, state)
        state = result.state
        yield result


def run_round(federation: Federation, state: State) -> RoundResult:
    """One round. Every rank calls it, with a car of its own or without.

    Raises RunError on every rank if a car's loss, contribution or statistics are not finite; nothing of it
    is averaged.
    """
    world, algorithm, number = federation.world, federation.algorithm, state.round + 1
    chosen = chosen_cars(federation.seed, number, len(federation.cars), federation.participation)
    lr = federation.learning_rate(number)
    shared = algorithm.begin_round(state.shared, federation.step_length(chosen, lr))
    started = time.perf_counter()

    world.doing = f"training in round {number}"
    sums = Sums(ExactSum(shared.theta), None if state.mean_dual is None else ExactSum(shared.theta),
                ExactSum(to_moments(state.statistics)))
    played = {car: _play(federation, state, shared, car, lr, sums) for car in chosen if car in federation.scenes}
    trained = time.perf_counter()

    world.doing = f"combining round {number}"
    reports, step_losses = _collect(federation, number, chosen, played)
    total, weight = sums.contribution.total(world)
    new = algorithm.update(shared, total / weight, weight / federation.total_weight) if world.is_coordinator else shared
    after = State(
        round=number,
        shared=_sent_to_all(world, new, state.shared.theta.dtype),
        statistics=state.statistics,
        initial_memory=state.initial_memory,
        memories=state.memories | {car: own.memory for car, own in played.items()},
        own_statistics=state.own_statistics | {car: own.statistics for car, own in played.items()},
        mean_dual=_mean_dual(federation, state, sums),
        pictures=state.pictures + federation.training.epochs * sum(federation.cars[car].images for car in chosen),
        sequential_steps=state.sequential_steps + max(int(report.steps) for report in reports.values()),
    )
    if not algorithm.personal:
        after = replace(after, statistics=_pooled_statistics(federation, after, chosen, sums), own_statistics={})
    combined = time.perf_counter()
    return RoundResult(after, lr, reports, step_losses, _residuals(federation, shared, after, reports),
                       *_bytes(federation, len(chosen)),
                       seconds={"local": trained - started, "combine": combined - trained})


class Sums(NamedTuple):
    """What a rank adds up over the cars it plays in a round, weighted."""

    contribution: ExactSum  # (d,)
    dual_change: ExactSum | None  # (d,) for the record; None without duals
    moments: ExactSum  # (2, c)


class Played(NamedTuple):
    """What is left of a car's round on its own rank."""

    memory: Any
    statistics: Tensor  # (2, c) that go with its local vector
    report: CarReport
    losses: Tensor  # (steps,)


def _play(federation: Federation, state: State, shared: Any, car: int, lr: float, sums: Sums) -> Played:
    """One car's part: train from what it was sent, contribute, remember. A sum refuses what is not finite."""
    model, algorithm, training = federation.model, federation.algorithm, federation.training
    memory, weight, scenes = state.memory(car), federation.weights[car], federation.scenes[car]
    model.statistics.copy_(state.own_statistics.get(car, state.statistics))
    try:
        w, losses = train_locally(
            model, scenes, training, start=algorithm.start(shared, memory),
            correction=partial(algorithm.correction, shared=shared, memory=memory),
            lr=lr, round_number=state.round + 1, car=car)
    except torch.OutOfMemoryError as error:
        raise RankError(f"round {state.round + 1}: car {car} on rank {federation.world.rank} ran out of memory on "
                        f"{model.device}; try a smaller --batch-size, --image-size or --width") from error
    contribution, new_memory = algorithm.contribute(Local(w, len(losses), len(scenes)), shared, memory)
    dual, dual_before, loss = algorithm.dual(new_memory), algorithm.dual(memory), float(losses.mean())
    finite = sums.contribution.add(contribution, weight) and math.isfinite(loss)
    if sums.dual_change is not None and dual is not None and dual_before is not None:
        sums.dual_change.add(dual - dual_before, weight)
    if algorithm.personal and federation.recalibrate:
        model.statistics.copy_(to_statistics(_recalibrated(federation, state.round + 1, car)))
    if algorithm.personal or not federation.recalibrate:
        finite = sums.moments.add(to_moments(model.statistics), weight) and finite
    report = CarReport(len(losses), loss, _norm(w - shared.theta), 0.0 if dual is None else _norm(dual), finite)
    return Played(new_memory, model.statistics.clone(), report, losses)


def _collect(federation: Federation, number: int, chosen: list[int],
             played: dict[int, Played]) -> tuple[dict[int, CarReport], dict[int, list[float]]]:
    """Every rank learns the reports and losses of all cars of the round, or why the run must stop."""
    world, slot = federation.world, {car: place for place, car in enumerate(chosen)}
    table = world.table({slot[car]: own.report for car, own in played.items()}, len(chosen), len(CarReport._fields))
    reports = {car: CarReport(*map(float, table[slot[car]])) for car in chosen}
    steps = {car: int(reports[car].steps) for car in chosen}
    table = world.table({slot[car]: own.losses.tolist() for car, own in played.items()},
                        len(chosen), max(steps.values()))
    _stop_unless_finite(federation, number, "the loss, the contribution or a statistic",
                        {car: bool(report.finite) for car, report in reports.items()})
    return reports, {car: table[slot[car], : steps[car]].tolist() for car in chosen}


def _stop_unless_finite(federation: Federation, number: int, what: str, finite: dict[int, bool]) -> None:
    """Stop the run on every rank if something of a car's is not finite. finite: the same on every rank."""
    broken = [car for car, fine in finite.items() if not fine]
    if broken:
        car = broken[0]
        raise RunError(f"round {number}: {what} of car {car} ({federation.cars[car].name}) on rank "
                       f"{federation.homes[car]} is not finite; nothing of it was averaged; try a smaller --lr")


def _mean_dual(federation: Federation, state: State, sums: Sums) -> Tensor | None:
    """(d,) Σ p_i y_i over all cars, from what the round's cars have changed."""
    if state.mean_dual is None or sums.dual_change is None:
        return None
    return state.mean_dual + sums.dual_change.total(federation.world)[0] / federation.total_weight


def _pooled_statistics(federation: Federation, state: State, chosen: list[int], sums: Sums) -> Tensor:
    """(2, c) BatchNorm statistics of the round's cars together, exact for the union of what each has measured."""
    if not state.statistics.numel():
        return state.statistics
    if federation.recalibrate:
        federation.model.load(state.shared.theta)
        rows = {slot: [sums.moments.add(_recalibrated(federation, state.round, car), federation.weights[car])]
                for slot, car in enumerate(chosen) if car in federation.scenes}
        finite = federation.world.table(rows, len(chosen), 1)[:, 0]
        _stop_unless_finite(federation, state.round, "a statistic under the new theta",
                            {car: bool(fine) for car, fine in zip(chosen, finite, strict=True)})
    total, weight = sums.moments.total(federation.world)
    return to_statistics(total / weight)


def _recalibrated(federation: Federation, number: int, car: int) -> Tensor:
    """(2, c) moments of the car's scenes under the parameters that the model holds."""
    return recalibrated_moments(federation.model, federation.scenes[car], round_number=number, car=car,
                                batch_size=federation.training.batch_size, seed=federation.seed)


def _sent_to_all(world: World, shared: Any, dtype: torch.dtype) -> Any:
    """The coordinator's shared state on every rank, rounded to the model's own type: what a car would receive."""
    fields = {}
    for name, value in shared._asdict().items():
        wire = value.to(dtype, copy=True) if isinstance(value, Tensor) else torch.tensor([value], dtype=torch.float64)
        world.broadcast_(wire)
        fields[name] = wire if isinstance(value, Tensor) else float(wire)
    return shared._replace(**fields)


def _residuals(federation: Federation, shared: Any, after: State,
               reports: dict[int, CarReport]) -> Residuals | None:
    penalty = federation.algorithm.penalty(shared)
    if penalty is None or after.mean_dual is None:
        return None
    drifts = [report.drift**2 for report in reports.values()]
    return Residuals(penalty, primal=math.sqrt(sum(drifts) / len(drifts)),
                     dual=penalty * _norm(after.shared.theta - shared.theta), mean_dual=_norm(after.mean_dual))


def _bytes(federation: Federation, cars: int) -> tuple[int, int]:
    """Bytes up and down that the round's cars would exchange with a coordinator, four to a number.

    Up: the contribution and the statistics. Down: theta and the statistics; recalibration sends the new
    theta to the round's cars a second time.
    """
    if federation.algorithm.personal or federation.algorithm.pooled:
        return 0, 0
    size, statistics = federation.model.parameters.numel(), federation.model.statistics.numel()
    again = size if federation.recalibrate and statistics else 0
    return 4 * cars * (size + statistics), 4 * cars * (size + statistics + again)


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector))
