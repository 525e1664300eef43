"""Mistakes and warnings that show once a federation is put together."""

from collections.abc import Iterator

from fedsim.aggregation import Aggregator, TrimmedMean
from fedsim.algorithms import FedADMM
from fedsim.distributed.hardware import tell_kinds_apart
from fedsim.errors import SettingsError
from fedsim.experiment.watched import unwrap
from fedsim.federation.federation import Federation
from fedsim.federation.participation import number_of_cars
from fedsim.models import check_image_size
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


def check_crop(settings: Settings, size: tuple[int, int]) -> None:
    """Raise SettingsError if a part of a picture cannot be trained on. size: (width, height) of the pictures."""
    crop = settings.crop_size()
    if crop is None:
        return
    if crop[0] > size[0] or crop[1] > size[1]:
        raise SettingsError(f"--crop is {settings.crop}, which is larger than the pictures, {size[0]}x{size[1]}; take "
                            "a smaller part, or a larger --image-size")
    check_image_size(settings.model, crop)


def warnings(federation: Federation) -> Iterator[str]:
    """Yield what a user should know about a combination that works, but not as its paper says."""
    method = federation.method
    algorithm, chosen = unwrap(method.algorithm), method.aggregator
    bent = [f"--aggregator {chosen.name}"] if chosen.robust else []
    bent += ["--clip-norm"] if method.clip_norm is not None else []
    if bent and algorithm.rests_on_mean:
        yield f"{' and '.join(bent)} with {algorithm.title}: {algorithm.rests_on_mean}"
    yield from _robustness_warnings(federation)
    if apart := tell_kinds_apart(federation.world.hardware):
        yield apart
    if isinstance(algorithm, FedADMM) and (eta := algorithm.server_step) is not None:
        yield (f"--server-step {eta:g}: theta does not settle at a minimum, but where the gradient is "
               f"rho (1 - P/{eta:g}) (theta - theta of round 0). P is the share of the cars in a round. The run may "
               f"diverge if {eta:g} > P. Leave the option out to take the step P, which has no bias")


def _robustness_warnings(federation: Federation) -> Iterator[str]:
    """Yield warnings of hostile cars that a robust aggregator does not withstand."""
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
