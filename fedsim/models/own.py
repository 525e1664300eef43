"""Networks of a user's own, made by a class or a function that settings name as MODULE:NAME."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from torch import nn

from fedsim.errors import SettingsError
from fedsim.options import read_value
from fedsim.own_code import find_own

CLASSES = ("classes", "num_classes")  # names of the argument that gets the number of classes
DEAF = ("torchvision",)  # libraries whose functions take arguments of any name, and do nothing with them


def make_own(name: str, classes: int, options: Mapping[str, Any]) -> nn.Module:
    """Make the network MODULE:NAME with fresh weights.

    options: arguments by name, beside the number of classes. Raises SettingsError if there is no such class or
    function, or if it does not take these arguments.
    """
    make = find_own("model", name)
    if not callable(make):
        raise SettingsError(f"--model {name}: it is {type(make).__name__} and cannot be called; name a class or a "
                            "function that returns a network")
    arguments = {_word_for_classes(make, name): classes} | {key: read_value(value) for key, value in options.items()}
    check_arguments(make, name, arguments)
    network = make(**arguments)
    if not isinstance(network, nn.Module):
        raise SettingsError(f"--model {name}: it makes no network but {type(network).__name__}")
    return network


def check_arguments(make: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> None:
    """Check that a class or a function takes arguments. name: the value of --model. Raises SettingsError if not."""
    parameters = inspect.signature(make).parameters
    wrong = next((key for key in arguments if key not in parameters), None) if name.startswith(DEAF) else None
    try:
        if wrong is not None:
            raise TypeError(f"got an unexpected keyword argument {wrong!r}")
        inspect.signature(make).bind(**arguments)
    except TypeError as error:
        known = [key for key, one in parameters.items() if key not in CLASSES and one.kind is not one.VAR_KEYWORD]
        raise SettingsError(f"--model {name}: {error}; give its arguments with --model-option NAME=VALUE; it has "
                            f"{', '.join(known) or 'no others'}") from error


def _word_for_classes(make: Any, name: str) -> str:
    """Return the name of the argument that gets the number of classes. Raises SettingsError if there is no such."""
    with suppress(ValueError, TypeError):  # built-in functions have no signature
        parameters = inspect.signature(make).parameters
        if found := next((word for word in CLASSES if word in parameters), None):
            return found
        if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
            return CLASSES[1]
    raise SettingsError(f"--model {name}: it takes neither classes= nor num_classes=; the number of classes comes by "
                        "one of these names")
