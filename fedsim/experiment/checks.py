"""Mistakes and warnings that show once a federation is put together."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from fedsim.aggregation import Aggregator, TrimmedMean
from fedsim.algorithms import Algorithm, FedADMM, Local
from fedsim.errors import FedsimError, SettingsError
from fedsim.federation.bundles import from_tensors, to_tensors
from fedsim.federation.federation import Federation
from fedsim.federation.memories import make_memories
from fedsim.federation.participation import number_of_cars
from fedsim.settings.fields import Settings


def check_cars(settings: Settings, aggregator: Aggregator, cars: int) -> None:
    """Raise SettingsError if there are too few cars for the settings."""
    taking_part = number_of_cars(cars, settings.participation)
    if not taking_part:
        raise SettingsError(f"--participation is {settings.participation}, which selects none of {cars} cars; take at "
                            f"least {1 / cars:.3g}, one car")
    if settings.attackers >= cars:
        raise SettingsError(f"--attackers is {settings.attackers}, but there are {cars} cars, and at least one must be "
                            f"honest; take at most {cars - 1}")
    least = aggregator.minimum(taking_part)
    if taking_part < least:
        raise SettingsError(f"--aggregator {settings.aggregator} needs at least {least} cars in a round, and "
                            f"{taking_part} take part; raise --cars or --participation")


def check_algorithm(algorithm: Algorithm, theta: Tensor, name: str) -> None:
    """Play the algorithm's functions through once on a theta (d,), to check the types of what they return.

    Raises SettingsError if one is wrong, as it may be in a user's own algorithm.
    """
    try:
        wrong = _what_is_wrong(algorithm, theta)
    except FedsimError as error:
        wrong = str(error)
    except Exception as error:  # whatever a user's own code does
        wrong = f"it raises {type(error).__name__}: {' '.join(str(error).split())}"
    if wrong:
        raise SettingsError(f"--algo {name}: {wrong}")


def _what_is_wrong(algorithm: Algorithm, theta: Tensor) -> str | None:
    shared = algorithm.init_shared(theta)
    if not _is_shared(shared, theta):
        return "init_shared must return a NamedTuple with a theta, of tensors shaped as theta and numbers"
    shared, memory = algorithm.begin_round(shared, 1.0), algorithm.init_memory(theta)
    if not _is_shared(shared, theta):
        return "begin_round must return a shared state like the one that it was given"
    if algorithm.start(shared, memory).shape != theta.shape:
        return "start must return a tensor shaped as theta"
    correction = algorithm.correction(theta, shared, memory)
    if correction is not None and correction.shape != theta.shape:
        return f"correction returns a tensor of shape {tuple(correction.shape)}, not theta's {tuple(theta.shape)}"
    sent = algorithm.contribute(Local(theta, 2, 1, 1.0), shared, memory)
    if type(sent) is not tuple or len(sent) != 2:
        return "contribute must return a pair: what the car sends, and its new memory"
    if type(sent[0]) is tuple or not _are_parts(sent[0], theta):
        return "what contribute sends must be a tensor shaped as theta, or a NamedTuple of such tensors and floats"
    make_memories(memory, [0], None).save(0, sent[1], None)
    mean = from_tensors([part.double() for part in to_tensors(sent[0])], sent[0])
    for participation in (1.0, 0.5):
        after = algorithm.update(shared, mean, participation)
        if type(after) is not type(shared) or not _is_shared(after, theta):
            return "update must return a shared state like the one that it was given"
    return None


def _is_shared(shared: Any, theta: Tensor) -> bool:
    return hasattr(shared, "_fields") and isinstance(getattr(shared, "theta", None), Tensor) and all(
        isinstance(value, int | float) or (isinstance(value, Tensor) and value.shape == theta.shape)
        for value in shared)


def _are_parts(sent: Any, theta: Tensor) -> bool:
    parts = to_tensors(sent)
    return bool(parts) and parts[0].shape == theta.shape and all(part.shape in (theta.shape, ()) for part in parts)


def warnings(federation: Federation) -> Iterator[str]:
    """Yield what a user should know about a combination that works, but not as its paper says."""
    method = federation.method
    algorithm, chosen = method.algorithm, method.aggregator
    bent = [f"--aggregator {chosen.name}"] if chosen.robust else []
    bent += ["--clip-norm"] if method.clip_norm is not None else []
    if bent and algorithm.rests_on_mean:
        yield f"{' and '.join(bent)} with {algorithm.title}: {algorithm.rests_on_mean}"
    yield from _robustness_warnings(federation)
    if isinstance(algorithm, FedADMM) and (eta := algorithm.server_step) is not None:
        yield (f"--server-step {eta:g}: theta does not settle at a minimum, but where the gradient is "
               f"rho (1 - P/{eta:g}) (theta - theta of round 0). P is the share of the cars in a round. The run may "
               f"diverge if {eta:g} > P. Leave the option out to take the step P, which has no bias")


def _robustness_warnings(federation: Federation) -> Iterator[str]:
    """Yield what a robust aggregator does not withstand with the cars of a round."""
    rule, attack, schedule = federation.method.aggregator, federation.method.attack, federation.schedule
    taking_part = number_of_cars(len(federation.fleet.cars), schedule.participation)
    guaranteed = getattr(rule, "guaranteed", 0)
    if guaranteed > taking_part:
        yield (f"--aggregator {rule.name} is proved to withstand hostile cars if at least {guaranteed} cars take "
               f"part in a round, but here {taking_part} take part")
    weights = sorted(federation.fleet.weights, reverse=True)
    withstood = rule.withstands(weights[:taking_part], taking_part)
    if isinstance(rule, TrimmedMean) and rule.fraction and not withstood:
        yield (f"--trim-fraction {rule.fraction:g} of {taking_part} cars drops no car, which leaves a mean; take "
               f"at least {1 / taking_part:.3g}")
    hostile = min(len(attack.cars), taking_part) if attack else 0
    if rule.robust and hostile > withstood:
        yield (f"--aggregator {rule.name} withstands at most {withstood} hostile cars among the {taking_part} of a "
               f"round, and a round may have {hostile}")
    least = rule.minimum(taking_part)
    left = rule.withstands(weights[:least], taking_part)
    if schedule.car_failures and left < min(hostile, withstood):
        yield (f"--aggregator {rule.name} withstands fewer hostile cars in a round that few cars answer: {left} among "
               f"{least}; `withstands` in metrics.jsonl tells the number of every round")


def notes(federation: Federation) -> Iterator[str]:
    """Yield what a reader of a run's scores has to know."""
    method, fleet = federation.method, federation.fleet
    if method.algorithm.personal or method.algorithm.pooled:
        return
    if method.aggregator.robust:
        yield f"The contributions to the global model are combined by --aggregator {method.aggregator.name}."
    elif len(set(fleet.weights)) == 1:
        yield "In the global model every car weighs the same."
    else:
        yield "In the global model a car weighs by its number of images (--weighting images)."
    if federation.has_own_models:
        yield ("Cars keep BatchNorm statistics of their own. The global score uses those of all cars, pooled, which "
               "suit drives that no car has. A car's own mIoU is that of the global model with the car's own "
               "statistics, on the same split.")
    if method.attack:
        names = ", ".join(fleet.cars[car].name for car in sorted(method.attack.cars))
        yield f"Hostile cars ({method.attack.name}): {names}."
