"""How a federation learns, from its settings: algorithm, server optimiser, aggregator; whether they go together."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from fedsim import catalogue
from fedsim.aggregation import AGGREGATORS, Aggregator
from fedsim.aggregation.server_optimizers import ServerOptimizer
from fedsim.algorithms import Algorithm, BalancedFedADMM, FedADMM, Local
from fedsim.car_states import memory_bytes
from fedsim.catalogue import flag
from fedsim.contributions import to_parts
from fedsim.errors import SettingsError
from fedsim.federation import Federation
from fedsim.settings import Settings


def make_algorithm(settings: Settings) -> Algorithm:
    """The algorithm with its options. Raises SettingsError."""
    kind = catalogue.algorithm_class(settings.algo)
    if kind is FedADMM and settings.rho == "balanced":
        kind = BalancedFedADMM
    values = {"mu": settings.mu, "rho": settings.number_or_word("rho", "auto", "balanced"),
              "dyn_alpha": settings.number_or_word("dyn_alpha", "auto"), "local_start": settings.local_start}
    options = {field: values[setting] for setting, field in catalogue.ALGORITHM_OPTIONS.items()
               if field in catalogue.fields_of(kind)}
    if "server_step" in catalogue.fields_of(kind):
        options["server_step"] = settings.server_step
    return catalogue.make(kind, options, {field: flag(name) for name, field in catalogue.ALGORITHM_OPTIONS.items()})


def server_name(settings: Settings) -> str | None:
    """The server optimiser's name; None for the plain step."""
    return catalogue.COMBINATIONS.get(settings.algo, settings.server_optimizer)


def make_server(settings: Settings) -> ServerOptimizer:
    """The server optimiser with its options. Raises SettingsError."""
    if not catalogue.algorithm_class(settings.algo).free_server_step:
        return catalogue.server_class(None)()
    kind = catalogue.server_class(server_name(settings))
    options = {name: getattr(settings, name) for name in catalogue.SERVER_OPTIONS if name in catalogue.fields_of(kind)}
    return catalogue.make(kind, options, {name: flag(name) for name in options})


def make_aggregator(settings: Settings) -> Aggregator:
    """The aggregator with its options. Raises SettingsError."""
    kind = AGGREGATORS[settings.aggregator]
    options = {field: getattr(settings, name) for name, field in catalogue.AGGREGATOR_OPTIONS.items()
               if field in catalogue.fields_of(kind)}
    return catalogue.make(kind, options, {field: flag(name) for name, field in catalogue.AGGREGATOR_OPTIONS.items()})


def check_federation(federation: Federation, name: str) -> None:
    """Play the algorithm's functions through once, for their types alone. Raises SettingsError where one is wrong.

    A user's own algorithm may be.
    """
    try:
        wrong = _what_is_wrong(federation.algorithm, federation.model.theta.clone())
    except SettingsError as error:
        wrong = str(error)
    except Exception as error:  # whatever a user's own code does
        wrong = f"it raises {type(error).__name__}: {' '.join(str(error).split())}"
    if wrong:
        raise SettingsError(f"--algo {name}: {wrong}")


def _what_is_wrong(algorithm: Algorithm, theta: Tensor) -> str | None:
    shared = algorithm.begin_round(algorithm.init_shared(theta), 1.0)
    if not (hasattr(shared, "_replace") and isinstance(getattr(shared, "theta", None), Tensor)):
        return "init_shared must return a NamedTuple with a theta"
    memory = algorithm.init_memory(theta)
    memory_bytes(memory)
    correction = algorithm.correction(algorithm.start(shared, memory), shared, memory)
    if correction is not None and correction.shape != theta.shape:
        return f"correction returns a tensor of shape {tuple(correction.shape)}, not theta's {tuple(theta.shape)}"
    sent = algorithm.contribute(Local(theta, 1, 1, 1.0), shared, memory)
    if not (isinstance(sent, tuple) and len(sent) == 2 and not hasattr(sent, "_fields")):
        return "contribute must return a pair: what the car sends, and its new memory"
    parts = to_parts(sent[0])
    if not parts or any(part.shape not in (theta.shape, ()) for part in parts) or parts[0].shape != theta.shape:
        return "what contribute sends must be a tensor shaped as theta, or a NamedTuple of such tensors and floats"
    mean = sent[0].double() if isinstance(sent[0], Tensor) else type(sent[0])(
        *(field.double() if isinstance(field, Tensor) else field for field in sent[0]))
    after = algorithm.update(shared, mean, 1.0)
    if type(after) is not type(shared) or after.theta.shape != theta.shape:
        return "update must return a shared state such as it was given"
    return None


def warnings(federation: Federation, aggregator: str) -> Iterator[str]:
    """What a user should know about a combination that works, but not as its paper says."""
    algorithm, chosen = federation.algorithm, federation.aggregator
    bent = [f"--aggregator {aggregator}"] if chosen.robust else []
    bent += ["--clip-norm"] if federation.clip_norm is not None else []
    if bent and algorithm.rests_on_mean:
        yield f"{' and '.join(bent)} with {algorithm.title}: {algorithm.rests_on_mean}"
    guaranteed = getattr(chosen, "guaranteed", 0)
    if guaranteed > len(federation.cars) * federation.participation:
        yield (f"--aggregator {aggregator} is proved to withstand its hostile cars with {guaranteed} cars in a round "
               "or more, and here are fewer")
    eta: Any = getattr(algorithm, "server_step", None)
    if eta is not None:
        yield (f"--server-step {eta:g}: theta settles where the gradient is rho (1 - P/{eta:g}) (theta - theta of "
               "round 0), P being the share of the cars in a round, and not at a minimum; it may diverge where "
               f"{eta:g} > P. Leave it out for the step P, which has no bias")


def notes(federation: Federation, aggregator: str) -> Iterator[str]:
    """What has to be known to read the scores of a run."""
    if federation.algorithm.personal:
        return
    if federation.aggregator.robust:
        yield f"In the global model what cars send is combined by --aggregator {aggregator}."
    elif len(set(federation.weights)) == 1:
        yield "In the global model every car weighs the same."
    else:
        yield "In the global model a car weighs by its number of images (--weighting images)."
    if federation.has_own_models:
        yield ("Cars keep BatchNorm statistics of their own. The global score, of drives that no car has, uses those "
               "of all cars pooled; a car's own mIoU is of the global model with its own, on the same split.")
    if federation.attack:
        names = ", ".join(federation.cars[car].name for car in sorted(federation.attack.cars))
        yield f"Hostile, by {federation.attack.name}: {names}."
