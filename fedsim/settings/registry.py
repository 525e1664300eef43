"""The names that a user can choose from, and the methods they stand for.

A method is an algorithm, a server optimiser or an aggregator. Its options are the fields of its dataclass.
"""

import dataclasses
from collections.abc import Iterator

from fedsim.aggregation import AGGREGATORS
from fedsim.algorithms import ALGORITHMS, VARIANTS, Algorithm
from fedsim.algorithms.server_optimizers import SERVER_OPTIMIZERS, Plain, ServerOptimizer
from fedsim.errors import SettingsError
from fedsim.options import Option, options_of
from fedsim.own_code import find_own

# Names that stand for FedAvg with a server optimiser.
COMBINATIONS = {optimizer.algo: optimizer.name for optimizer in SERVER_OPTIMIZERS.values()}
# Algorithms in which no car sends anything.
YARDSTICKS = tuple(name for name, algorithm in ALGORITHMS.items() if algorithm.pooled or algorithm.personal)
NAMES = (*(name for name in ALGORITHMS if name not in YARDSTICKS), *COMBINATIONS, *YARDSTICKS)
ALIASES = {alias: name for name, algorithm in ALGORITHMS.items()
           for alias in vars(algorithm).get("aliases", ())} | {
    f"fed{name}": name for name in COMBINATIONS}


def short_name(name: str) -> str:
    """Return the name that an alias stands for: avg for fedavg. Every other name stays as it is."""
    return ALIASES.get(name, name)


def title_of(name: str) -> str:
    """Return what tables call an algorithm; a user's own without a title of its own is called by its class."""
    if name in COMBINATIONS:
        return SERVER_OPTIMIZERS[COMBINATIONS[name]].title
    kind = algorithm_class(name)
    return str((vars(kind) if ":" in name else {"title": kind.title}).get("title") or kind.__name__)


def algorithm_class(name: str) -> type[Algorithm]:
    """Return the algorithm that a name, or MODULE:CLASS, stands for. Raises SettingsError."""
    if name in COMBINATIONS:
        return ALGORITHMS["avg"]
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if ":" in name:
        return _own_class(name)
    raise SettingsError(f"--algo is {name!r}; choose from {', '.join(NAMES)}, or name your own as "
                        "mypackage.mymodule:MyAlgorithm")


def server_class(name: str | None) -> type[ServerOptimizer]:
    """Return the server optimiser of a name; the plain step for None."""
    return Plain if name is None else SERVER_OPTIMIZERS[name]


def flagged_options() -> dict[str, dict[str, Option]]:
    """Return the options that have flags of their own, by setting and by the name of each method that reads it.

    Variants of an algorithm share its name, and add the words and choices that select them.
    """
    found: dict[str, dict[str, Option]] = {}
    for owner, method in _methods():
        for name, option in options_of(method).items():
            if option.flag:
                known = found.setdefault(name, {})
                known[owner] = _merge(known[owner], option) if owner in known else option
    return found


def is_of_aggregator(setting: str) -> bool:
    """Return whether an option belongs to aggregators."""
    return any(setting in options_of(aggregator) for aggregator in AGGREGATORS.values())


def owners(setting: str) -> str:
    """Name the methods that read an option, in words, for the message that refuses it elsewhere."""
    by_kind = [(prefix, [name for name, method in table.items() if setting in options_of(method)])
               for prefix, table in (("", ALGORITHMS), ("--server-optimizer ", SERVER_OPTIMIZERS),
                                     ("--aggregator ", AGGREGATORS))]
    if setting in options_of(Plain):
        by_kind[1] = ("", ["algorithms that leave the server step free"])
    return " and to ".join(f"{prefix}{', '.join(names)}" for prefix, names in by_kind if names)


def _methods() -> Iterator[tuple[str, type]]:
    """Yield all methods with their names; that of the plain server step is "a plain step"."""
    for algorithm in ALGORITHMS.values():
        yield from ((algorithm.name, kind) for kind in (algorithm, *VARIANTS.get(algorithm, ())))
    yield "a plain step", Plain
    yield from SERVER_OPTIMIZERS.items()
    yield from AGGREGATORS.items()


def _merge(option: Option, variant: Option) -> Option:
    words, choices = [tuple(dict.fromkeys((*getattr(option, name), *getattr(variant, name))))
                      for name in ("words", "choices")]
    return dataclasses.replace(option, words=words, choices=choices)


def _own_class(name: str) -> type[Algorithm]:
    """Import the class MODULE:CLASS. Raises SettingsError if it is no algorithm."""
    kind, class_name = find_own("algo", name), name.partition(":")[2]
    if not (isinstance(kind, type) and issubclass(kind, Algorithm)):
        raise SettingsError(f"--algo {name}: {class_name} is no subclass of fedsim.algorithms.Algorithm")
    for method in ("contribute", "update"):
        if getattr(kind, method) is getattr(Algorithm, method):
            raise SettingsError(f"--algo {name}: {class_name} has no method {method}")
    try:
        kind()
        options = options_of(kind)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise SettingsError(f"--algo {name}: {class_name}() failed ({type(error).__name__}: "
                            f"{' '.join(str(error).split())}); give every option a default") from error
    hidden = [option.field for option in options.values() if callable(getattr(Algorithm, option.field, None))]
    if hidden:
        raise SettingsError(f"--algo {name}: the option {hidden[0]} of {class_name} takes the place of a method of "
                            "fedsim.algorithms.Algorithm; give the option another name")
    return kind
