"""What the names of the command line stand for: algorithms, ours and a user's own, server optimisers, aggregators.

An option of an algorithm, a server optimiser or an aggregator is a field of its dataclass: whoever has no such field
has no such option.
"""

import dataclasses
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from fedsim.aggregation import AGGREGATORS
from fedsim.algorithms import ALGORITHMS, Algorithm
from fedsim.algorithms.server_optimizers import SERVER_OPTIMIZERS, Plain
from fedsim.errors import SettingsError

# avg with a server optimiser
COMBINATIONS = {"avgm": "momentum", "adagrad": "adagrad", "adam": "adam", "yogi": "yogi"}
NAMES = ("avg", "prox", "admm", "scaffold", "dyn", "nova", *COMBINATIONS, "local", "central")
FULL_NAMES = {f"fed{name}": name for name in NAMES if name not in ("scaffold", "local", "central")}

# setting -> the field it stands for, of an algorithm or of an aggregator
ALGORITHM_OPTIONS = {"mu": "mu", "rho": "rho", "dyn_alpha": "alpha", "local_start": "local_start"}
SERVER_OPTIONS = ("server_step", "server_momentum", "server_beta2", "server_tau")
AGGREGATOR_OPTIONS = {"trim_fraction": "fraction", "krum_hostile": "hostile"}


def flag(setting: str) -> str:
    """The option of a setting."""
    return "--" + setting.replace("_", "-")


def short_name(name: str) -> str:
    """avg for fedavg, and so on."""
    return FULL_NAMES.get(name, name)


def algorithm_class(name: str) -> type[Algorithm]:
    """The algorithm that a short name, or MODULE:CLASS, stands for. Raises SettingsError."""
    if name in COMBINATIONS:
        return ALGORITHMS["avg"]
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if ":" in name:
        return _users_own(name)
    raise SettingsError(f"--algo is {name!r}; choose from {', '.join(NAMES)}, or name your own as "
                        "mypackage.mymodule:MyAlgorithm")


def check_own_code(name: str, given: Mapping[str, Any], origin: str) -> None:
    """Raise SettingsError where a file, and not who runs it, names code to run. given: options of the command line."""
    if ":" in name and given.get("algo") != name:
        raise SettingsError(f"{origin} names code of its own, algo = {name!r}, which runs with all your rights: say "
                            f"--algo {name} as well if you trust it")


def server_class(name: str | None) -> type[Any]:
    """The server optimiser of a name; the plain step for None."""
    return Plain if name is None else SERVER_OPTIMIZERS[name]


def fields_of(kind: type) -> dict[str, Any]:
    """Options and their defaults: the fields of a dataclass; none where it is no dataclass."""
    if not dataclasses.is_dataclass(kind):
        return {}
    return {field.name: field.default for field in dataclasses.fields(kind)}


def make(kind: type, options: Mapping[str, Any], flags: Mapping[str, str]) -> Any:
    """An object of this class with options by field, None for the default. flags: field -> option, for the message.

    Raises SettingsError where a value is out of range.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return kind(**given)
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise SettingsError(f"{flags.get(name, name)} {rest}") from error


def readers(setting: str) -> str:
    """Who reads an option, for the message that refuses it elsewhere."""
    field = ALGORITHM_OPTIONS.get(setting)
    if field:
        return ", ".join(name for name in ALGORITHMS if field in fields_of(ALGORITHMS[name]))
    field = AGGREGATOR_OPTIONS.get(setting)
    if field:
        return ", ".join(name for name in AGGREGATORS if field in fields_of(AGGREGATORS[name]))
    return ", ".join(name for name in SERVER_OPTIMIZERS if setting in fields_of(SERVER_OPTIMIZERS[name]))


def _users_own(name: str) -> type[Algorithm]:
    """The class MODULE:CLASS, found as Python finds modules, the working directory first."""
    module_name, _, class_name = name.partition(":")
    where = os.getcwd()
    if where not in sys.path:
        sys.path.insert(0, where)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module does when it is imported
        raise SettingsError(f"--algo {name}: importing {module_name or 'nothing'} failed "
                            f"({type(error).__name__}: {' '.join(str(error).split())}); it is looked for in the "
                            "working directory and on PYTHONPATH") from error
    kind = getattr(module, class_name, None)
    if kind is None:
        raise SettingsError(f"--algo {name}: {module_name} has no {class_name!r}")
    if not (isinstance(kind, type) and issubclass(kind, Algorithm)):
        raise SettingsError(f"--algo {name}: {class_name} is no subclass of fedsim.algorithms.Algorithm")
    for method in ("contribute", "update"):
        if getattr(kind, method) is getattr(Algorithm, method):
            raise SettingsError(f"--algo {name}: {class_name} has no method {method}")
    try:
        kind()
    except Exception as error:
        raise SettingsError(f"--algo {name}: {class_name}() failed ({type(error).__name__}: "
                            f"{' '.join(str(error).split())}); give every option a default") from error
    return kind
