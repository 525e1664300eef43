"""BatchNorm statistics of a state, measured on the cars' scenes when somebody looks at the state.

Training does not need them: it normalises by the statistics of its own batch. So they are measured only for a state
that is scored, saved as a model or shown, and rounds that nobody looks at cost what their steps cost. The same state
has the same statistics whenever they are measured.
"""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from fedsim.federation.batchnorm import NormPool, recalibrated_moments, to_statistics
from fedsim.federation.federation import Federation
from fedsim.federation.participation import Cohort
from fedsim.federation.rounds import sample, stop_unless_finite
from fedsim.federation.state import State
from fedsim.models.flat import Norms


def measures(federation: Federation) -> bool:
    """Return whether the statistics of a state are measured when they are needed."""
    return federation.method.norms.recalibrates and bool(federation.model.norms)


def measure_statistics(federation: Federation, state: State) -> State:
    """Return the state with the statistics that belong to its parameters. Every rank calls it.

    They are measured by the cars of the latest round in which enough cars answered. A car with a personal model
    measures its own. If they are not measured but pooled, the state has them already. Raises RunError on every rank if
    they are not finite.
    """
    if not measures(federation):
        return state
    if federation.method.algorithm.personal:
        return _measure_own(federation, state)
    return _measure_global(federation, state)


def measure_average(federation: Federation, state: State) -> tuple[Tensor, Norms] | None:
    """Return the averaged global model, with statistics that are measured for it, on every rank that calls it.

    Statistics are no mean over rounds: they belong to the parameters of one model. So they are measured whatever cars
    share of BatchNorm. None if the average has not begun yet. Raises RunError as `measure_statistics` does.
    """
    rule, average = federation.schedule.average, state.average
    if rule is None or average is None or state.round < rule.begins(federation.schedule.rounds):
        return None
    theta, affine = average.to(state.shared.theta.dtype).split([state.shared.theta.numel(), state.norms.affine.numel()])
    averaged = replace(state, shared=state.shared._replace(theta=theta), norms=state.norms._replace(affine=affine))
    return theta, (_measure_global(federation, averaged) if federation.model.norms else averaged).norms


def find_measuring_cohort(federation: Federation, number: int) -> tuple[int, Cohort] | None:
    """Return the latest round up to this one in which enough cars answered, and its cars; None if there is no such."""
    return next(((earlier, cohort) for earlier, cohort in _cohorts(federation, number) if cohort.combined), None)


def _measure_global(federation: Federation, state: State) -> State:
    found = find_measuring_cohort(federation, state.round)
    if found is None:
        return state
    number, cohort = found
    rule, world = federation.method.norms, federation.world
    world.doing = f"measuring statistics of round {state.round}"
    pool = NormPool(rule, state.norms, federation.method.aggregator.robust, len(cohort.combined))
    federation.model.load(state.shared.theta, state.initial_norms._replace(affine=state.norms.affine))
    rows = {slot: [pool.add(slot, pool.to_row(recalibrate(federation, number, car), state.norms.affine).cpu(),
                            federation.fleet.weights[car])]
            for slot, car in enumerate(cohort.combined) if car in federation.fleet.scenes}
    finite = world.table(rows, len(cohort.combined), 1)[:, 0]
    stop_unless_finite(federation, state.round, "a statistic under the new theta",
                       {car: bool(fine) for car, fine in zip(cohort.combined, finite, strict=True)})
    return replace(state, norms=pool.total(world))


def _measure_own(federation: Federation, state: State) -> State:
    """Return the state with statistics of each car's own model that has been trained."""
    own, rows, cars = dict(state.own_norms), {car: [1.0] for car in federation.fleet.scenes}, federation.fleet.cars
    for car in state.memories:
        number = next(number for number, cohort in _cohorts(federation, state.round) if car in cohort.combined)
        federation.model.load(federation.memory(state, car), state.initial_norms)
        statistics = to_statistics(recalibrate(federation, number, car))
        own[car] = Norms(federation.model.affine.clone(), statistics)
        rows[car] = [float(statistics.isfinite().all())]
    finite = federation.world.table(rows, len(cars), 1)[:, 0]
    stop_unless_finite(federation, state.round, "a statistic", {car: bool(fine) for car, fine in enumerate(finite)})
    return replace(state, own_norms=own)


def recalibrate(federation: Federation, number: int, car: int) -> Tensor:
    """Measure the moments (2, c) of BatchNorm's activations on a car's scenes, with the model's present parameters."""
    training = federation.training
    return recalibrated_moments(federation.model, federation.fleet.scenes[car], round_number=number, car=car,
                                batches=training.measured_batches, batch_size=training.batch_size,
                                seed=federation.schedule.seed)


def _cohorts(federation: Federation, number: int) -> Iterator[tuple[int, Cohort]]:
    """Yield the rounds from this one back to the first, with their cars."""
    for earlier in range(number, 0, -1):
        yield earlier, sample(federation, earlier)
