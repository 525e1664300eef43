"""The federation's loop: sample, train locally, combine, step, send. Nothing else.

`simulate` yields every round's result; what to evaluate, print or save is its caller's business.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedsim.aggregation.exact_sum import ExactSum
from fedsim.distributed.world import World
from fedsim.errors import RunError
from fedsim.federation.batchnorm import NormPool
from fedsim.federation.car import Played, RankRound, recalibrate
from fedsim.federation.contributions import from_parts, to_parts
from fedsim.federation.divergence import MOST_ROLLBACKS, REMEDY, watch
from fedsim.federation.federation import CarReport, Federation, Residuals, RoundResult, State
from fedsim.federation.participation import answering_cars, chosen_cars
from fedsim.federation.traffic import traffic
from fedsim.models.flat import norm


def initial_state(federation: Federation) -> State:
    """Round 0: the untrained model, the coordinator's on every rank."""
    theta, norms = federation.model.theta.clone(), federation.model.copy_norms()
    for tensor in (theta, *norms):
        federation.world.broadcast_(tensor)
    algorithm = federation.algorithm
    memory = algorithm.init_memory(theta)
    mean_dual = None if algorithm.dual(memory) is None else torch.zeros_like(theta, dtype=torch.float64)
    return State(0, algorithm.init_shared(theta), federation.server.init_state(theta), norms, norms, memory, {}, {},
                 mean_dual)


def simulate(federation: Federation, state: State) -> Iterator[RoundResult]:
    """Play the rounds after `state`, to the last.

    Raises RunError after one that diverges, if told to stop there, or if rolling back has not helped.
    """
    while state.round < federation.rounds:
        result = _guarded(federation, state, run_round(federation, state))
        state = result.state
        yield result
        if result.trouble and federation.on_divergence == "stop":
            raise RunError(f"round {state.round}: stopped, for {result.trouble}; {REMEDY}")
        if state.lr_factor < 0.5**MOST_ROLLBACKS:
            raise RunError(f"round {state.round}: stopped, for it diverges again after {MOST_ROLLBACKS} rounds were "
                           f"undone; {REMEDY}")


def run_round(federation: Federation, state: State) -> RoundResult:
    """One round. Every rank calls it, with a car of its own or without.

    Raises RunError on every rank if a car's loss, contribution or statistics are not finite; nothing of it
    is averaged.
    """
    world, algorithm, number = federation.world, federation.algorithm, state.round + 1
    chosen = chosen_cars(federation.seed, number, len(federation.cars), federation.participation)
    answered = answering_cars(federation.seed, number, chosen, federation.car_failures)
    # Too few to be combined are of no use, and keep nothing of a round that came to nothing.
    answering = answered if len(answered) >= federation.aggregator.minimum else []
    lr = federation.learning_rate(number) * state.lr_factor
    shared = algorithm.begin_round(state.shared, federation.step_length(lr))
    started = time.perf_counter()

    world.doing = f"training in round {number}"
    here = _begin(federation, state, shared, lr, answering)
    for slot, car in enumerate(answering):
        if car in federation.scenes:
            here.play(car, slot)
    trained = time.perf_counter()

    world.doing = f"combining round {number}"
    reports, step_losses, train_class_iou, local_seconds = _collect(federation, number, answering, here.played)
    after = _counted(federation, state, chosen)
    if answering:
        after = _pooled_norms(federation, _stepped(federation, after, here), answering, here)
    step = world.broadcast_number(norm(after.shared.theta - shared.theta))
    combined = time.perf_counter()
    return RoundResult(after, lr, reports, [car for car in chosen if car not in answered], step_losses,
                       train_class_iou, local_seconds, step, _residuals(federation, shared, after, reports, step),
                       *traffic(federation, chosen, answered),
                       seconds={"local": trained - started, "combine": combined - trained})


def _begin(federation: Federation, state: State, shared: Any, lr: float, answering: list[int]) -> RankRound:
    """The round on this rank, nothing added up yet."""
    like = to_parts(federation.contribution_like)
    owners = [federation.homes[car] for car in answering]
    return RankRound(
        federation, state, shared, lr,
        contributions=federation.aggregator.gather(like, owners, federation.world, federation.folder),
        dual_change=None if state.mean_dual is None else ExactSum(shared.theta),
        norms=NormPool(federation.norms, state.norms, federation.aggregator.robust, len(answering)))


def _counted(federation: Federation, state: State, chosen: list[int]) -> State:
    """The state with the work of a round added, which a car that never answers has done too."""
    number, training = state.round + 1, federation.training
    work = [(training.epochs_in(number, car), federation.cars[car].images) for car in chosen]
    return replace(
        state, round=number,
        pictures=state.pictures + sum(epochs * images for epochs, images in work),
        sequential_steps=state.sequential_steps + max(epochs * training.batches(images) for epochs, images in work))


def _stepped(federation: Federation, state: State, here: RankRound) -> State:
    """The state after the server step, and with what the round's cars keep."""
    world, algorithm, shared, server = federation.world, federation.algorithm, here.shared, state.server
    parts, weight = here.contributions.combine()
    if world.is_coordinator:
        mean = from_parts(parts, federation.contribution_like)
        proposed = algorithm.update(shared, mean, weight / federation.total_weight)
        theta, server = federation.server.step(shared.theta, proposed.theta, server)
        shared = proposed._replace(theta=theta)
    return replace(
        state, server=server,
        shared=_sent_to_all(world, shared, algorithm.server_only, state.shared.theta.dtype),
        memories=state.memories | {car: own.memory for car, own in here.played.items()},
        own_norms=state.own_norms | {car: own.norms for car, own in here.played.items() if own.norms is not None},
        mean_dual=_mean_dual(federation, state, here))


def _collect(
    federation: Federation, number: int, answering: list[int], played: dict[int, Played],
) -> tuple[dict[int, CarReport], dict[int, list[float]], dict[int, list[float]], dict[int, float]]:
    """Every rank learns of all cars of the round reports, losses, class IoUs and seconds, or why the run must stop."""
    if not answering:
        return {}, {}, {}, {}
    slot, training = {car: place for place, car in enumerate(answering)}, federation.training
    steps = {car: training.steps(federation.cars[car].images, number, car) for car in answering}
    rows = {slot[car]: [*own.report, own.seconds, *own.class_iou, *own.losses] for car, own in played.items()}
    told = len(CarReport._fields)
    before_losses = told + 1 + (training.classes or 0)
    table = federation.world.table(rows, len(slot), before_losses + max(steps.values())).tolist()
    by_car = dict(zip(answering, table, strict=True))
    reports = {car: CarReport(*row[:told]) for car, row in by_car.items()}
    _stop_unless_finite(federation, number, "the loss, the contribution or a statistic",
                        {car: bool(report.finite) for car, report in reports.items()})
    return (reports, {car: row[before_losses : before_losses + steps[car]] for car, row in by_car.items()},
            {car: row[told + 1 : before_losses] for car, row in by_car.items()},
            {car: row[told] for car, row in by_car.items()})


def _stop_unless_finite(federation: Federation, number: int, what: str, finite: dict[int, bool]) -> None:
    """Stop the run on every rank if something of a car's is not finite. finite: the same on every rank."""
    broken = [car for car, fine in finite.items() if not fine]
    if broken:
        car = broken[0]
        raise RunError(f"round {number}: {what} of car {car} ({federation.cars[car].name}) on rank "
                       f"{federation.homes[car]} is not finite; nothing of it was averaged; try a smaller --lr")


def _mean_dual(federation: Federation, state: State, here: RankRound) -> Tensor | None:
    """(d,) Σ p_i y_i over all cars, from what the round's cars have changed."""
    if state.mean_dual is None or here.dual_change is None:
        return None
    return state.mean_dual + here.dual_change.total(federation.world)[0] / federation.total_weight


def _pooled_norms(federation: Federation, state: State, answering: list[int], here: RankRound) -> State:
    """The state with the BatchNorm statistics of the round's cars together."""
    if federation.algorithm.personal or not federation.model.norms:
        return state
    if federation.norms.recalibrates:
        federation.model.load(state.shared.theta)
        rows = {slot: [here.norms.add(slot, recalibrate(federation, state.round, car), state.norms.affine,
                                      federation.weights[car])]
                for slot, car in enumerate(answering) if car in federation.scenes}
        finite = federation.world.table(rows, len(answering), 1)[:, 0]
        _stop_unless_finite(federation, state.round, "a statistic under the new theta",
                            {car: bool(fine) for car, fine in zip(answering, finite, strict=True)})
    return replace(state, norms=here.norms.total(federation.world))


def _sent_to_all(world: World, shared: Any, server_only: tuple[str, ...], dtype: torch.dtype) -> Any:
    """The coordinator's shared state on every rank, rounded to the model's own type: what a car would receive."""
    fields = {}
    for name, value in shared._asdict().items():
        if name not in server_only:
            tensor = isinstance(value, Tensor)
            wire = value.to(dtype, copy=True) if tensor else torch.tensor([value], dtype=torch.float64)
            world.broadcast_(wire)
            fields[name] = wire if tensor else type(value)(float(wire))
    return shared._replace(**fields)


def _residuals(federation: Federation, shared: Any, after: State, reports: dict[int, CarReport],
               step: float) -> Residuals | None:
    penalty = federation.algorithm.penalty(shared)
    if penalty is None or after.mean_dual is None:
        return None
    drifts = [report.drift**2 for report in reports.values()]
    return Residuals(penalty, primal=math.sqrt(sum(drifts) / len(drifts)) if drifts else None, dual=penalty * step,
                     mean_dual=federation.world.broadcast_number(norm(after.mean_dual)))


def _guarded(federation: Federation, before: State, result: RoundResult) -> RoundResult:
    """The result with the guard's word on it; told to roll back, the guard undoes the round and halves the rate."""
    mean_dual = result.residuals.mean_dual if result.residuals else None
    seen, trouble = watch(before.watch, result.step, mean_dual)
    if trouble and federation.on_divergence == "rollback":
        after = result.state
        # What was seen is kept, the undone round's norms too: only what grows beyond them is trouble again.
        undone = replace(before, round=after.round, pictures=after.pictures, sequential_steps=after.sequential_steps,
                         watch=seen, lr_factor=before.lr_factor / 2)
        return replace(result, state=undone, trouble=f"{trouble}: the round was undone and the learning rate halved")
    told = None if before.watch.warned else trouble
    after = replace(result.state, watch=seen._replace(warned=before.watch.warned or trouble is not None))
    return replace(result, state=after, trouble=told)
