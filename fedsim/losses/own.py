"""Losses of a user's own, which `--loss` names as MODULE:NAME."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fedsim.classes import VOID
from fedsim.errors import SettingsError
from fedsim.losses.base import Loss, Measure
from fedsim.options import read_value
from fedsim.own_code import find_own

if TYPE_CHECKING:
    from torch import Tensor

MEASURED = ("logits", "labels")  # what a function is given first, and what the object that a class makes is given
GIVEN = ("weight", "label_smoothing", "ignore_index")  # arguments that are no options, by the names in torch's losses


class OwnLoss(Loss):
    """A function of logits and labels, or a class whose objects are such functions.

    The function, or the class when it is made, gets the options as arguments by name. It also gets class weights, label
    smoothing and the label of void pixels, if it has arguments of the names that torch's own losses have for them.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        """name: MODULE:NAME; options: values by name, of which it reads those that it takes.

        Raises SettingsError if there is nothing of this name that can be called, or if it needs other arguments.
        """
        self.own_name, self.call = name, find_own("loss", name)
        if not callable(self.call):
            raise SettingsError(f"--loss {name}: it is {type(self.call).__name__} and cannot be called; name a "
                                "function of logits and labels, or a class of such functions")
        self._parameters = _parameters_of(self.call)
        self.options = {key: read_value(value) for key, value in options.items() if self.takes(key)}
        self._check()

    @property
    def is_class(self) -> bool:
        """True if it has to be made before it can measure."""
        return isinstance(self.call, type)

    @property
    def takes_weights(self) -> bool:
        return "weight" in self._parameters

    @property
    def takes_smoothing(self) -> bool:
        return "label_smoothing" in self._parameters

    @property
    def option_names(self) -> list[str]:
        """The names of its arguments that are options."""
        names = [name for name, one in self._parameters.items()
                 if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        return [name for name in (names if self.is_class else names[len(MEASURED):]) if name not in GIVEN]

    def takes(self, option: str) -> bool:
        """Return whether it has an argument of a name."""
        takes_any = any(one.kind is one.VAR_KEYWORD for one in self._parameters.values())
        return option in self.option_names or (takes_any and option not in GIVEN)

    def prepare(self, weights: "Tensor", smoothing: float) -> Measure:
        given = zip(GIVEN, (weights, smoothing, VOID), strict=True)
        arguments = {name: value for name, value in given if name in self._parameters} | self.options
        if not self.is_class:
            return partial(measure_by_own_code, partial(self.call, **arguments))
        made = self.call(**arguments)
        return partial(measure_by_own_code, made.to(weights.device) if hasattr(made, "to") else made)

    def _check(self) -> None:
        given = {name: None for name in GIVEN if name in self._parameters}
        try:
            inspect.signature(self.call).bind(*(() if self.is_class else MEASURED), **given, **self.options)
        except TypeError as error:
            raise SettingsError(f"--loss {self.own_name}: {error}; give its arguments with --loss-option NAME=VALUE; "
                                f"it has {', '.join(self.option_names) or 'no others'}") from error
        except ValueError:  # a built-in function has no signature
            return


def measure_by_own_code(measure: Callable[..., Any], logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Return the loss that code of a user's own computes; 0 if all pixels are void. `blame` knows this function."""
    labelled = (labels != VOID).any()  # stays on the device, because reading it would stop a GPU at every step
    loss: Tensor = measure(logits, labels.where(labelled, 0))
    return loss * labelled


def _parameters_of(call: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(call).parameters
    except (TypeError, ValueError):  # a built-in function has no signature
        return {}
