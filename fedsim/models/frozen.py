"""Parts of a network that stay as they are: nobody trains, measures, sends or counts them."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fedsim.errors import SettingsError
from fedsim.models.outputs import inner

NAMED = 8  # parts in a sentence


def freeze(module: nn.Module, prefixes: Sequence[str]) -> None:
    """Freeze all parameters and normalisation layers whose names begin with one of the prefixes.

    A frozen BatchNorm layer normalises by its statistics in training too. Raises SettingsError if a prefix belongs to
    no parameter.
    """
    network = inner(module)
    for prefix in prefixes:
        found = [parameter for name, parameter in network.named_parameters() if _begins(name, prefix)]
        if not found:
            parts = [name for name, part in network.named_children() if any(True for _ in part.parameters())]
            more = f" and {len(parts) - NAMED} more" if len(parts) > NAMED else ""
            raise SettingsError(f"--freeze {prefix}: no parameter of the network has a name that begins so; its parts "
                                f"are {', '.join(parts[:NAMED])}{more}")
        for parameter in found:
            parameter.requires_grad_(False)
        _fix_norms(network, prefix)


def _begins(name: str, prefix: str) -> bool:
    """Return whether a name begins with whole parts of a path: encoder.first begins with encoder, not with enc."""
    return f"{name}.".startswith(f"{prefix.rstrip('.')}.")


def _fix_norms(network: nn.Module, prefix: str) -> None:
    """Replace layers with running statistics under a prefix by layers of the same numbers that never change."""
    found = {path: layer for path, layer in network.named_modules() if _begins(path, prefix)
             and isinstance(layer, nn.modules.batchnorm._NormBase) and layer.running_mean is not None}
    for path, layer in found.items():
        if not isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise SettingsError(f"--freeze {prefix}: its layer {path} is {type(layer).__name__}, and of layers with "
                                "running statistics only BatchNorm can be frozen")
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, FixedNorm(layer))


class FixedNorm(nn.Module):
    """A BatchNorm layer that normalises by its running statistics in training too, and changes nothing.

    Its numbers have the names that they have in a BatchNorm layer, so that files of weights are the same.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        self.eps = layer.eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(layer, name)
            self.register_buffer(name, None if value is None else value.detach().clone())

    def forward(self, images: Tensor) -> Tensor:
        return F.batch_norm(images, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
