"""The methods of a federation: algorithm, server optimiser and aggregator, made from settings in one pass."""

from collections.abc import Mapping
from contextlib import suppress
from itertools import combinations
from typing import Any, NamedTuple

from fedsim.aggregation import AGGREGATORS, Aggregator
from fedsim.algorithms import VARIANTS, Algorithm
from fedsim.algorithms.server_optimizers import ServerOptimizer
from fedsim.errors import SettingsError
from fedsim.options import BadOption, flag, make, options_of
from fedsim.settings import registry
from fedsim.settings.fields import FLAGGED, Settings


class Methods(NamedTuple):
    """The parts that settings name, with their options."""

    algorithm: Algorithm
    server: ServerOptimizer  # the plain step if the algorithm allows no other
    aggregator: Aggregator

    def resolve(self, settings: Settings) -> dict[str, Any]:
        """Return the settings of the parts with every default, as a preset has them.

        An option without a flag of its own is included if the algorithm is a user's own, or if the option is not at its
        default.
        """
        found: dict[str, Any] = {}
        without_flag: dict[str, Any] = {}
        if self.algorithm.free_server_step:
            found["server_optimizer"] = self.server.name or None
        for part in self._read():
            for name, option in options_of(type(part)).items():
                value = getattr(part, option.field)
                if name in FLAGGED:
                    found[name] = _as_setting(name, option.word(value))
                elif ":" in settings.algo or value != option.default:
                    without_flag[name] = "none" if value is None else value
        return found | {"option": without_flag}

    def _read(self) -> tuple[Any, ...]:
        """Return the parts whose options a run reads."""
        return ((self.algorithm, self.server, self.aggregator) if self.algorithm.free_server_step
                else (self.algorithm, self.aggregator))


def make_methods(settings: Settings) -> Methods:
    """Make the parts that settings name, with their options.

    Raises SettingsError if parts do not go together, if no part reads an option, or if an option does not take its
    value.
    """
    kind = registry.algorithm_class(settings.algo)
    server = registry.server_class(_server_name(settings, kind))
    aggregator = AGGREGATORS[settings.aggregator]
    given = settings.method_options()
    read_by = [options_of(part).keys() for part in ((kind, server, aggregator) if kind.free_server_step
                                                    else (kind, aggregator))]
    for name in given:
        if not any(name in known for known in read_by):
            raise SettingsError(_why_unread(name, settings, kind))
    kind = _fitting_variant(kind, given)
    try:
        return Methods(_make(kind, given), _make(server, given if kind.free_server_step else {}),
                      _make(aggregator, given))
    except BadOption as error:
        raise SettingsError(error.typed) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's own check does
        raise SettingsError(f"--algo {settings.algo}: {kind.__name__} refuses its options "
                            f"({type(error).__name__}: {' '.join(str(error).split())})") from error


def _make(kind: type, given: Mapping[str, Any]) -> Any:
    known = options_of(kind)
    return make(kind, {name: value for name, value in given.items() if name in known})


def _fitting_variant(kind: type[Algorithm], given: Mapping[str, Any]) -> type[Algorithm]:
    """Return the algorithm, or the first of its variants, whose options take all the values that are given.

    Raises SettingsError if there are variants for each of two values, and not for both together.
    """
    kinds = (kind, *VARIANTS.get(kind, ()))
    values = {name: value for name, value in given.items() if any(name in options_of(one) for one in kinds)}
    takers = {name: {one for one in kinds if _takes(one, name, value)} for name, value in values.items()}
    for one, other in combinations(values, 2):
        if takers[one] and takers[other] and not takers[one] & takers[other]:
            raise SettingsError(f"{flag(one)} {values[one]} does not go with {flag(other)} {values[other]}: leave one "
                                "of them out")
    return next((one for one in kinds if all(one in fitting for fitting in takers.values())), kind)


def _takes(kind: type[Algorithm], name: str, value: Any) -> bool:
    """Return whether an algorithm has an option, and the option takes a value."""
    with suppress(BadOption, KeyError):
        options_of(kind)[name].read(value)
        return True
    return False


def _server_name(settings: Settings, kind: type[Algorithm]) -> str | None:
    """Return the name of the server optimiser; None for the plain step. Raises SettingsError if there cannot be one."""
    own, name = registry.COMBINATIONS.get(settings.algo), settings.server_optimizer
    if own and name not in (None, own):
        raise SettingsError(f"--algo {settings.algo} is avg with --server-optimizer {own}, so {name} contradicts it: "
                            f"take --algo avg --server-optimizer {name}")
    if name and not kind.free_server_step:
        reason = ("there is no server step in it" if kind.pooled or kind.personal
                  else "its own server step is part of the method")
        raise SettingsError(f"--server-optimizer {name} does not go with {settings.algo}: {reason}; take avg, prox, "
                            "nova or scaffold")
    return own or name


def _why_unread(name: str, settings: Settings, kind: type[Algorithm]) -> str:
    """Say who reads an option instead of the parts that were chosen."""
    if name not in FLAGGED:
        known = [other for other in options_of(kind) if other not in FLAGGED]
        has = f"it has {', '.join(known)}" if known else "it has no such options"
        if name in getattr(kind, "__annotations__", {}):
            has += f"; for {name} to be an option, write @dataclass(frozen=True) above class {kind.__name__}"
        return f"--option {name}: {settings.algo} has no option {name!r}; {has}"
    chosen = settings.aggregator if registry.is_of_aggregator(name) else settings.algo + (
        f" with {settings.server_optimizer}" if settings.server_optimizer else "")
    return f"{flag(name)} belongs to {registry.owners(name)}; {chosen} does not read it: leave it out"


def _as_setting(name: str, value: Any) -> Any:
    """Return a value of the type that the setting has: text for a number that words can stand for."""
    return str(value) if FLAGGED[name].words and value is not None else value
