"""The sum that `--loss` names: which losses, how much each of them counts, and which of them reads an option."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from fedsim.errors import SettingsError
from fedsim.losses import LOSSES, Loss
from fedsim.losses.own import OwnLoss
from fedsim.options import BadOption, make, number_text, options_of
from fedsim.own_code import is_own

MOST = 1e6  # that a loss may count
Losses = Sequence[tuple[float, Loss]]  # the losses of a sum, each with how much it counts


class Term(NamedTuple):
    """A loss of a sum, by name."""

    factor: float
    name: str  # in LOSSES, or MODULE:NAME


def read_terms(text: str) -> tuple[Term, ...]:
    """Return the losses of a sum such as cross-entropy+0.5*dice. Raises SettingsError.

    >>> read_terms("ohem + 0.50*dice")
    (Term(factor=1.0, name='ohem'), Term(factor=0.5, name='dice'))
    """
    return tuple(_read_term(part, text) for part in text.split("+"))


def write_terms(terms: Iterable[Term]) -> str:
    """Return the text of a sum: one text for each sum.

    >>> write_terms(read_terms("ohem + 0.50*dice"))
    'ohem+0.5*dice'
    """
    return "+".join(name if factor == 1 else f"{number_text(factor)}*{name}" for factor, name in terms)


def make_losses(text: str, options: Mapping[str, Any]) -> Losses:
    """Make the losses of a sum, and return each with how much it counts.

    options: values by name; each loss reads those that it has. Code of a user's own is imported. Raises SettingsError
    if no loss has an option, or if one does not take its value.
    """
    losses = [(term.factor, _make(term.name, options)) for term in read_terms(text)]
    for name in options:
        if not any(_has(loss, name) for _, loss in losses):
            known = [one for _, loss in losses for one in _option_names(loss)]
            raise SettingsError(f"--loss-option {name}: --loss {text} has no option {name!r}; it has "
                                f"{', '.join(known) or 'no options'}")
    return losses


def check_meaning(text: str, losses: Losses, class_weights: str | None, smoothing: float) -> None:
    """Raise SettingsError if classes are weighed or labels spread, and no loss of the sum can do so."""
    made = [loss for _, loss in losses]
    if smoothing and not any(loss.takes_smoothing for loss in made):
        raise SettingsError(f"--label-smoothing has no meaning for --loss {text}, which knows no labels that are "
                            "spread over classes: leave it out")
    if class_weights not in (None, "none") and not any(loss.takes_weights for loss in made):
        raise SettingsError(f"--class-weights {class_weights} has no meaning for --loss {text}, which has no argument "
                            "called weight: leave it out")


def resolve_options(losses: Losses, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a sum as a preset has them: those that were given, and the defaults of fedsim's losses."""
    made = [loss for _, loss in losses]
    own = [loss for loss in made if isinstance(loss, OwnLoss)]
    known = {name: number_text(getattr(loss, option.field)) for loss in made if not isinstance(loss, OwnLoss)
             for name, option in options_of(type(loss)).items() if not any(other.takes(name) for other in own)}
    return {**given, **known}


def _read_term(part: str, text: str) -> Term:
    factor, times, name = part.rpartition("*")
    number = 1.0
    if times:
        number = 0.0
        with suppress(ValueError):
            number = float(factor)
        if not 0 < number <= MOST:
            raise SettingsError(f"--loss is {text!r}: {factor.strip() or 'nothing'} is not a number above 0 and at "
                                "most a million; write sums as cross-entropy+0.5*dice")
    name = name.strip()
    if name not in LOSSES and not is_own(name):
        raise SettingsError(f"--loss is {text!r}; choose from {', '.join(LOSSES)}, or name your own as "
                            "mypackage.mymodule:MyLoss, and put + between several, such as cross-entropy+0.5*dice")
    return Term(number, name)


def _make(name: str, options: Mapping[str, Any]) -> Loss:
    if is_own(name):
        return OwnLoss(name, options)
    kind = LOSSES[name]
    try:
        made: Loss = make(kind, {key: value for key, value in options.items() if key in options_of(kind)})
    except BadOption as error:
        raise SettingsError(f"--loss-option {error}") from error
    return made


def _has(loss: Loss, option: str) -> bool:
    return loss.takes(option) if isinstance(loss, OwnLoss) else option in options_of(type(loss))


def _option_names(loss: Loss) -> list[str]:
    return loss.option_names if isinstance(loss, OwnLoss) else [*options_of(type(loss))]
