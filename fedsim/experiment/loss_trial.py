"""A trial of a user's own loss before training: what it returns, and what void pixels and one lone class do to it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fedsim.classes import VOID
from fedsim.errors import SettingsError
from fedsim.experiment.blame import blame_setting, place_of_function
from fedsim.experiment.watched import is_same
from fedsim.losses.base import Measure
from fedsim.losses.own import OwnLoss
from fedsim.losses.terms import Losses, check_meaning, make_losses
from fedsim.seeds import seed_torch
from fedsim.settings.fields import Settings

SIZE = (2, 12, 16)  # scenes, height and width in pixels


def find_losses(settings: Settings, classes: int, device: torch.device) -> Losses:
    """Return the losses that cars train with, each with how much it counts, after a trial of a user's own.

    classes: the number of channels of logits. Raises SettingsError if a loss cannot be trained with; the message names
    file and line.
    """
    losses = make_losses(settings.loss, settings.loss_option)
    check_meaning(settings.loss, losses, settings.class_weights, settings.label_smoothing)
    for _, loss in losses:
        if isinstance(loss, OwnLoss):
            _check_loss(loss, torch.ones(classes, device=device), settings.label_smoothing)
    return losses


def _check_loss(loss: OwnLoss, weights: Tensor, smoothing: float) -> None:
    """Try a loss. Raises SettingsError."""
    with blame_setting(f"--loss {loss.own_name}"):
        wrong = next(_faults(loss.prepare(weights, smoothing), weights), None)
    if wrong:
        place = place_of_function(loss.call)
        raise SettingsError(f"--loss {loss.own_name}: {wrong}{f' ({place})' if place else ''}")


def _faults(measure: Measure, weights: Tensor) -> Iterator[str]:
    """Yield in words what is wrong with a loss. weights: (C,) of the classes, on the device of training."""
    draw = torch.Generator().manual_seed(1)
    classes, (scenes, height, width) = len(weights), SIZE
    logits = torch.randn(scenes, classes, height, width, generator=draw).to(weights.device)
    labels = torch.randint(0, classes, SIZE, generator=draw).to(weights.device)
    labels[:, ::5] = VOID
    yield from _untrained(measure)
    results = []
    for _ in range(2):
        found = _measure(measure, logits, labels)
        if isinstance(found, str):
            yield found
            return
        results.append(found)
    _, gradient = results[0]
    if not all(is_same(one, other) for one, other in zip(*results, strict=True)):
        yield ("it computes something else when it measures the same batch again: it keeps something between calls, or "
               "draws random numbers that are not from torch's own generator")
    if not gradient.any():
        yield "no logit changes what it returns, so a network cannot be trained with it"
    if gradient.movedim(1, 3)[labels == VOID].any():
        yield (f"pixels without a label teach it something: leave those out whose label is {VOID}, or let it have an "
               "argument ignore_index")
    lone = torch.full_like(labels, VOID)
    lone[0, 0, 0] = classes - 1
    for given in (torch.zeros_like(labels), lone):
        if isinstance(found := _measure(measure, logits, given), str):
            yield f"{found} for a batch whose labels are of one class alone"


def _measure(measure: Measure, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor] | str:
    """Return the loss of a batch and its gradient by the logits, or in words what is wrong with them."""
    leaf = logits.clone().requires_grad_()
    given = leaf * 1
    seed_torch(1, "trial")
    value: Any = measure(given, labels)
    if not isinstance(value, Tensor) or value.shape or not value.is_floating_point():
        what = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        return f"it returns {what}; a loss is one number, a tensor of floats of the shape ()"
    if not value.isfinite():
        return "it returns a number that is not finite"
    if not value.requires_grad:
        return "what it returns has no gradient: compute it from the logits with torch's functions, without detach"
    gradient, = torch.autograd.grad(value, leaf, allow_unused=True)
    if gradient is None:
        return "what it returns does not depend on the logits"
    if not gradient.isfinite().all():
        return "its gradient is not finite"
    if not is_same(given.detach(), logits):
        return "it changes the logits that it is given: let it change a copy"
    return value.detach(), gradient


def _untrained(measure: Measure) -> Iterator[str]:
    """Yield which parameters of a loss would be trained if it were a network."""
    made = measure.args[0]  # type: ignore[attr-defined]  # a partial of `measure_by_own_code`
    for name, parameter in made.named_parameters() if isinstance(made, nn.Module) else ():
        if parameter.requires_grad:
            yield f"its {name} would never be trained, because only the network is: make it a number or a buffer"
            return
