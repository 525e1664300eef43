"""The outputs of all networks in one form: logits and, in training, auxiliary logits of deep supervision."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

MAIN = ("out", "logits")  # keys of the logits in a dictionary
AUXILIARY = "aux"  # the beginning of the keys of auxiliary logits


class Outputs(NamedTuple):
    """The logits of a batch, and those that only training uses."""

    logits: Any  # (B, C, H, W) float32
    auxiliary: tuple[Any, ...] = ()  # each (B, C, h, w) float32, of any height and width


class OneForm(nn.Module):
    """A network that returns logits (B, C, H, W) in eval mode, whatever the network inside it returns.

    In training it returns `Outputs` if there are auxiliary logits.
    """

    INSIDE: ClassVar[str] = "model"  # before the names of the inner network's tensors

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        found = read_outputs(self.model(images))
        return found if self.training and found.auxiliary else found.logits


def inner(module: nn.Module) -> nn.Module:
    """Return the network that a user knows: the one inside `OneForm`, if it is in one."""
    return module.model if isinstance(module, OneForm) else module


def read_outputs(returned: Any) -> Outputs:
    """Return the parts of what a network returns: logits, a tuple that begins with them, or a dictionary with "out".

    Further logits are auxiliary: those after the first of a tuple, and those of a dictionary whose keys begin with
    "aux". What cannot be read is returned as logits, for a check to refuse.
    """
    if isinstance(returned, Outputs):
        return returned
    if isinstance(returned, Mapping):
        main = next((key for key in MAIN if key in returned), None)
        if main is None:
            return Outputs(returned)
        return Outputs(returned[main], tuple(value for key, value in returned.items()
                                             if str(key).startswith(AUXILIARY)))
    if isinstance(returned, tuple | list) and returned:
        return Outputs(returned[0], tuple(returned[1:]))
    return Outputs(returned)


def upsample(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Return logits (B, C, h, w) at the size (H, W) of the labels."""
    if logits.shape[2:] == size:
        return logits
    return F.interpolate(logits, [*size], mode="bilinear", align_corners=False)
