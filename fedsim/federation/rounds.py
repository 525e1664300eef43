"""The rounds of a federation: sample, train, combine, step, pool.

`simulate` yields the result of every round. Its caller decides what to evaluate, print or save.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedsim.aggregation.totals import totals
from fedsim.distributed.world import World
from fedsim.errors import RunError
from fedsim.federation.bundles import from_tensors, split
from fedsim.federation.car import CarsOfRank
from fedsim.federation.divergence import MOST_ROLLBACKS, REMEDY, watch
from fedsim.federation.federation import Federation, make_kept
from fedsim.federation.momentum import begin_momentum, carry_step
from fedsim.federation.optimizers import Momentum
from fedsim.federation.participation import Cohort, answering_cars, chosen_cars
from fedsim.federation.state import CarReport, Residuals, RoundResult, State
from fedsim.federation.traffic import count_traffic
from fedsim.models.flat import norm

NUMBERS = (bool, int, float)  # in this order, because True is a whole number too
ROUNDED = 1e-5  # a sum of float32 vectors that is smaller than this share of them is what rounding has left of 0


def initial_state(federation: Federation) -> State:
    """Return the state of round 0: the coordinator's untrained model, on every rank."""
    theta, norms = federation.model.theta.clone(), federation.model.copy_norms()
    for tensor in (theta, *norms):
        federation.world.broadcast_(tensor)
    algorithm = federation.method.algorithm
    has_duals = algorithm.dual(algorithm.init_memory(theta)) is not None
    mean_dual = torch.zeros_like(theta, dtype=torch.float64) if has_duals else None
    return State(
        round=0, shared=algorithm.init_shared(theta), server=federation.method.server.init_state(theta),
        norms=norms, initial_norms=norms,
        initial_memory=make_kept(algorithm, federation.training, theta, federation.model.parameters),
        memories={}, own_norms={}, momentum=begin_momentum(federation), mean_dual=mean_dual,
        average=None if federation.schedule.average is None else torch.cat([theta, norms.affine]).double())


def simulate(federation: Federation, state: State) -> Iterator[RoundResult]:
    """Play the rounds after `state`, up to the last one.

    Raises RunError after a round that diverges if the schedule says to stop then, and if it diverges again after
    several rounds were rolled back. It is raised at once if the run has stopped with this state before.
    """
    stop_if_diverging(federation, state, "it diverged, and --on-divergence is stop")
    while state.round < federation.schedule.rounds:
        result = watch_divergence(federation, state, run_round(federation, state))
        state = carry_average(federation, result.state)
        yield replace(result, state=state)
        stop_if_diverging(federation, state, result.trouble)


def stop_if_diverging(federation: Federation, state: State, trouble: str | None) -> None:
    """Raise RunError if a run is to stop with this state. trouble: the reason, in words, if it diverges."""
    if federation.schedule.on_divergence == "stop" and state.watch.warned:
        raise RunError(f"round {state.round}: stopped, because {trouble}; {REMEDY}")
    if state.lr_factor < 0.5**MOST_ROLLBACKS:
        raise RunError(f"round {state.round}: stopped, because it diverges again after {MOST_ROLLBACKS} rounds were "
                       f"undone; {REMEDY}")


def run_round(federation: Federation, state: State) -> RoundResult:
    """Play one round. Every rank calls it, even if it plays no car of the round.

    docs/how-a-round-works.md explains the numbered steps. Raises RunError on every rank if a car's loss, contribution
    or statistics are not finite.
    """
    number, algorithm = state.round + 1, federation.method.algorithm
    cohort = sample(federation, number)  # 1
    lr = federation.schedule.learning_rate(number) * state.lr_factor
    shared = algorithm.begin_round(state.shared, federation.step_length(lr, state))
    started = time.perf_counter()
    cars = train_cars(federation, state, shared, lr, cohort)  # 2
    trained = time.perf_counter()
    reports = exchange_reports(federation, cars)  # 3
    after = count_work(federation, state, cohort.chosen)
    if cohort.combined:
        mean, momentum, share = combine(federation, cars)
        after = server_step(federation, after, shared, mean, share)  # 4
        after = carry_momentum(federation, state, shared, after, momentum, reports, lr)
        after = keep_memories(federation, after, cars)
        after = pool_statistics(federation, after, cars)  # 5
    step = federation.world.broadcast_number(norm(after.shared.theta - shared.theta))
    combined = time.perf_counter()
    before = sample(federation, number - 1).chosen if state.round else cohort.chosen
    bytes_up, bytes_down = count_traffic(federation, cohort, new=len(set(cohort.chosen) - set(before)))
    return RoundResult(
        state=after, lr=lr, reports=reports, chosen=len(cohort.chosen), failed=cohort.failed, step=step,
        residuals=measure_residuals(federation, shared, after, reports, step),
        bytes_up=bytes_up, bytes_down=bytes_down,
        seconds={"local": trained - started, "combine": combined - trained})


def sample(federation: Federation, number: int) -> Cohort:
    """Draw the cars of a round, and those of them that answer. Every rank draws the same cars."""
    schedule = federation.schedule
    chosen = chosen_cars(schedule.seed, number, len(federation.fleet.cars), schedule.participation)
    answered = answering_cars(schedule.seed, number, chosen, schedule.car_failures)
    enough = len(answered) >= federation.method.aggregator.minimum(len(chosen))
    return Cohort(chosen, answered, combined=answered if enough else [])


def train_cars(federation: Federation, state: State, shared: Any, lr: float, cohort: Cohort) -> CarsOfRank:
    """Train those of the round's cars that this rank plays, one after another.

    shared: the shared state that the cars receive; cohort: the round's cars, on all ranks.
    """
    federation.world.doing = f"training in round {state.round + 1}"
    cars = CarsOfRank(federation, state, shared, lr, cohort)
    for slot, car in enumerate(cohort.combined):
        if car in federation.fleet.scenes:
            cars.play(car, slot)
    return cars


def exchange_reports(federation: Federation, cars: CarsOfRank) -> dict[int, CarReport]:
    """Give every rank the reports of all cars of the round.

    Raises RunError on every rank if a report says that something is not finite.
    """
    federation.world.doing = f"combining round {cars.number}"
    if not cars.combined:
        return {}
    training = federation.training
    steps = [training.steps(federation.fleet.cars[car].images, cars.number, car) for car in cars.combined]
    numbers, classes = len(CarReport._fields) - 2, training.classes or 0
    rows = {slot: cars.outcomes[car].report.to_row() for slot, car in enumerate(cars.combined) if car in cars.outcomes}
    table = federation.world.table(rows, len(steps), numbers + classes + max(steps)).tolist()
    reports = {car: CarReport.from_row(row, classes, count)
               for car, row, count in zip(cars.combined, table, steps, strict=True)}
    stop_unless_finite(federation, cars.number, "the loss, the contribution or a statistic",
                       {car: bool(report.finite) for car, report in reports.items()})
    return reports


def stop_unless_finite(federation: Federation, number: int, what: str, finite: dict[int, bool]) -> None:
    """Raise RunError if `what` is not finite for one of the cars.

    finite: car -> whether it is finite for that car, the same on every rank.
    """
    broken = [car for car, fine in finite.items() if not fine]
    if broken:
        car = broken[0]
        raise RunError(f"round {number}: {what} of car {car} ({federation.fleet.cars[car].name}) on rank "
                       f"{federation.fleet.homes[car]} is not finite; nothing of it was averaged; try a smaller --lr")


def count_work(federation: Federation, state: State, chosen: list[int]) -> State:
    """Return the state with the round and its work counted. A car that never answers has worked too."""
    number, work = state.round + 1, federation.training.work
    turns = [federation.training.turn(federation.fleet.cars[car].images, number, car) for car in chosen]
    return replace(
        state, round=number,
        pictures=state.pictures + sum(work.pictures(turn) for turn in turns),
        sequential_steps=state.sequential_steps + max(work.steps(turn) for turn in turns))


def combine(federation: Federation, cars: CarsOfRank) -> tuple[Any, Momentum | None, float]:
    """Combine what all cars of the round have sent by the aggregator's rule.

    Return the combined contribution and, if it is averaged, the combined momentum, both valid only at the coordinator,
    and P_S, the cars' share of all weight.
    """
    tensors, weight = cars.contributions.combine()
    mean, momentum = from_tensors(tensors, federation.sent_like), None
    if federation.training.across_rounds == "average":
        like = federation.training.optimizer.make_momentum(tensors[0])
        mean, momentum = split(mean, federation.contribution_like, like)
    return mean, momentum, weight / federation.fleet.total_weight


def server_step(federation: Federation, state: State, shared: Any, mean: Any, share: float) -> State:
    """Take the server step at the coordinator, and return the state with the new shared state, on every rank.

    Raises RunError on every rank if the new theta is not finite.
    """
    method, dtype = federation.method, state.shared.theta.dtype

    def take_step() -> tuple[Any, Any]:
        if not federation.world.is_coordinator:
            return shared, state.server
        proposed = method.algorithm.update(shared, mean, share)
        theta, server = method.server.step(shared.theta, proposed.theta, state.server)
        if not theta.to(dtype).isfinite().all():
            raise RunError(f"round {state.round}: the server step of {federation.method.algorithm.title} leads to a "
                           "theta that is not finite, although all that the cars sent is finite; try a smaller --lr")
        return proposed._replace(theta=theta), server

    stepped, server = federation.world.together(take_step)
    shared = broadcast_shared(federation.world, stepped, method.algorithm.server_only, dtype)
    return replace(state, server=server, shared=shared)


def carry_momentum(federation: Federation, before: State, shared: Any, after: State, combined: Momentum | None,
                   reports: dict[int, CarReport], lr: float) -> State:
    """Return the state after a round with the momentum that the next round's cars start with, on every rank.

    before: the state before the round; shared: the shared state that the cars received; combined: of the cars'
    momenta, valid only at the coordinator.
    """
    if combined is not None:
        momentum = broadcast_shared(federation.world, combined, (), before.shared.theta.dtype)
        return replace(after, momentum=momentum)
    if federation.training.across_rounds == "step":
        return carry_step(federation, before, shared, after, reports, lr)
    return after


def broadcast_shared(world: World, shared: Any, server_only: tuple[str, ...], dtype: torch.dtype) -> Any:
    """Return the coordinator's shared state on every rank, rounded to the model's own type, as a car would receive it.

    shared: a NamedTuple of vectors and numbers, valid at the coordinator. Its fields in `server_only` stay there.
    """
    fields = {}
    for name, value in shared._asdict().items():
        if name not in server_only:
            tensor = isinstance(value, Tensor)
            wire = value.to(dtype, copy=True) if tensor else _to_wire(value)
            world.broadcast_(wire)
            fields[name] = wire if tensor else NUMBERS[int(wire[1])](float(wire[0]))
    return shared._replace(**fields)


def _to_wire(number: float) -> Tensor:
    """Return a number with its type, because a server step may turn a whole number into a float."""
    kind = next(place for place, kind in enumerate(NUMBERS) if isinstance(number, kind))
    return torch.tensor([number, kind], dtype=torch.float64)


def keep_memories(federation: Federation, state: State, cars: CarsOfRank) -> State:
    """Return the state with what the round's cars keep, and the new mean of all dual variables."""
    outcomes, mean_dual = cars.outcomes, state.mean_dual
    if mean_dual is not None and cars.dual_change is not None:
        (change, _), = totals([cars.dual_change], federation.world)
        mean_dual = mean_dual + change / federation.fleet.total_weight
    return replace(
        state, mean_dual=mean_dual,
        memories=state.memories | {car: outcome.memory for car, outcome in outcomes.items()},
        own_norms=state.own_norms | {car: outcome.norms for car, outcome in outcomes.items()
                                     if outcome.norms is not None})


def carry_average(federation: Federation, state: State) -> State:
    """Return the state after a round, or after one that was undone, with the average that it moves, on every rank."""
    rule = federation.schedule.average
    if rule is None or state.average is None:
        return state
    share = rule.share(state.round, federation.schedule.rounds)
    return replace(state, average=torch.lerp(state.average, state.global_vector().double(), share))


def pool_statistics(federation: Federation, state: State, cars: CarsOfRank) -> State:
    """Return the state with the running statistics that BatchNorm layers of the round's cars have together.

    Statistics that are measured with the new theta are not pooled here, see fedsim.federation.measuring.
    """
    method = federation.method
    if method.algorithm.personal or method.norms.recalibrates or not federation.model.norms:
        return state
    return replace(state, norms=cars.norms.total(federation.world))


def measure_residuals(federation: Federation, shared: Any, after: State, reports: dict[int, CarReport],
                      step: float) -> Residuals | None:
    """Return the residuals of a round, or None if the algorithm has no dual variables.

    shared: the shared state that the cars received.
    """
    penalty = federation.method.algorithm.penalty(shared)
    if penalty is None or after.mean_dual is None:
        return None
    drifts = [report.drift**2 for report in reports.values()]
    return Residuals(penalty, primal=math.sqrt(sum(drifts) / len(drifts)) if drifts else None, dual=penalty * step,
                     mean_dual=federation.world.broadcast_number(norm(after.mean_dual)))


def norms_per_weight(federation: Federation, result: RoundResult) -> tuple[float, float | None]:
    """Return the norms that the guard watches: those of the step and of the mean dual, per weight of their cars.

    The mean dual is that of the cars that have taken part so far, or None without dual variables. A server step that
    changes the penalty moves theta for all cars, and tells nothing: its norm counts as 0. So does a mean dual that is a
    rounding error of the cars' dual variables.
    """
    fleet, residuals, algorithm = federation.fleet, result.residuals, federation.method.algorithm
    share = sum(fleet.weights[car] for car in result.reports) / fleet.total_weight
    step = result.step / algorithm.step_scale(share) if result.step else 0.0
    if residuals is None:
        return step, None
    if algorithm.penalty(result.state.shared) != residuals.penalty:
        step = 0.0
    met = torch.tensor(sum(fleet.weights[car] for car in result.state.memories))
    federation.world.sum_(met)
    mean_dual = residuals.mean_dual * fleet.total_weight / (int(met) or 1)
    largest = max((report.dual_norm for report in result.reports.values()), default=0.0)
    return step, mean_dual if mean_dual > ROUNDED * largest else 0.0


def watch_divergence(federation: Federation, before: State, result: RoundResult) -> RoundResult:
    """Return the result with a word on divergence. If a diverging round is to be rolled back, undo it.

    Rolling back halves the learning rate of the rounds that follow.
    """
    seen, trouble = watch(before.watch, *norms_per_weight(federation, result))
    if trouble and federation.schedule.on_divergence == "rollback":
        after = result.state
        # The norms seen in the undone round are kept: only what grows beyond them is trouble again.
        undone = replace(before, round=after.round, pictures=after.pictures, sequential_steps=after.sequential_steps,
                         watch=seen, lr_factor=before.lr_factor / 2)
        return replace(result, state=undone, trouble=f"{trouble}: the round was undone and the learning rate halved")
    told = None if before.watch.warned else trouble
    after = replace(result.state, watch=seen._replace(warned=before.watch.warned or trouble is not None))
    return replace(result, state=after, trouble=told)
