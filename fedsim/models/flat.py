"""A model as one flat vector of parameters, and a tensor of BatchNorm statistics.

All trainable parameters are views into `parameters`, their gradients into `gradient`, running means and variances into
`statistics`. So a federated algorithm is vector arithmetic, a message is one tensor and loading a model is one copy. If
cars keep their own BatchNorm weights, these are at the end of `parameters`, and the federation shares only what is
before them. Everything else that a module holds is constant: no car changes it.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

NORMALISING = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def norm(vector: Tensor) -> float:
    """Return the Euclidean norm of a vector."""
    return float(torch.linalg.vector_norm(vector))


class Norms(NamedTuple):
    """The numbers of a model's BatchNorm layers that are not among its shared parameters.

    InstanceNorm layers that track running statistics are treated like BatchNorm layers.
    """

    affine: Tensor  # (e,) their weights and biases, if cars do not share them; else empty
    statistics: Tensor  # (2, c) running means and variances


class Constant(NamedTuple):
    """A tensor of a module that no car changes."""

    name: str  # qualified, as the module's state has it
    owner: nn.Module
    tensor: Tensor
    version: int  # of the tensor, when the model was made

    def is_unchanged(self) -> bool:
        """Return whether the layer still has this tensor, and nobody has written to it."""
        return (getattr(self.owner, self.name.rpartition(".")[2]) is self.tensor
                and self.tensor._version == self.version)


class FlatModel:
    """A module whose parameters, gradients and statistics are views into flat tensors.

    network: the module, or its compiled form. It computes in training.
    theta, theta_gradient: (d,) shared by the federation, of the module's type.
    affine: (e,) weights and biases of BatchNorm layers that each car keeps for itself; e = 0 unless `own_norms`.
    parameters, gradient: (d + e,) both together.
    decays: (d + e,) 1 for each number that weight decay concerns, 0 for biases and parameters of normalisation layers.
    statistics: (2, c) float32, running means in row 0 and running variances in row 1; c = 0 without BatchNorm.
    constants: all other tensors that are registered with the module: buffers and frozen parameters.

    Frozen parameters are left out, and tied ones appear once. Convolution weights keep channels_last strides inside the
    vector, because PyTorch's convolutions are fastest with them.
    """

    def __init__(self, module: nn.Module, device: torch.device, own_norms: bool = False) -> None:
        self.module = module.to(device)
        self.network: Callable[[Tensor], Any] = self.module
        module.train()  # although it is: a module may keep layers in eval mode from then on
        self.norms = list(norm_layers(module))
        own = {id(p) for layer in self.norms for p in layer.parameters()} if own_norms else set()
        trainable = sorted((p for p in module.parameters() if p.requires_grad), key=lambda p: id(p) in own)
        size = sum(p.numel() for p in trainable)
        self.parameters = torch.empty(size, device=device, dtype=trainable[0].dtype)
        self.gradient = torch.zeros_like(self.parameters)
        offset = 0
        for parameter in trainable:
            here = slice(offset, offset + parameter.numel())
            view = _view_as(self.parameters[here], parameter.shape)
            view.copy_(parameter.data)
            parameter.data = view
            parameter.grad = _view_as(self.gradient[here], parameter.shape)
            offset = here.stop
        exempt = {id(p) for p in _undecayed(module)}
        self.decays = torch.cat([torch.full((p.numel(),), float(id(p) not in exempt)) for p in trainable]).to(
            self.parameters)
        shared = size - sum(p.numel() for p in trainable if id(p) in own)
        self.theta, self.affine = self.parameters[:shared], self.parameters[shared:]
        self.theta_gradient = self.gradient[:shared]
        channels = sum(layer.num_features for layer in self.norms)
        self.statistics = torch.empty(2, channels, device=device)
        offset = 0
        for layer in self.norms:
            here = slice(offset, offset + layer.num_features)
            for row, name in enumerate(("running_mean", "running_var")):
                view = self.statistics[row, here]
                view.copy_(getattr(layer, name))
                # Through `data` each has a count of writes of its own. Writes to one layer's statistics would otherwise
                # spoil the backward pass of a layer in eval mode, which has read its own.
                setattr(layer, name, view.data)
            offset = here.stop
        self.counts = torch.zeros(len(self.norms), device=device, dtype=torch.int64)
        for place, layer in enumerate(self.norms):
            layer.num_batches_tracked = self.counts[place].data if _counts_batches(layer) else None
        self.constants = list(constants(module))

    @property
    def device(self) -> torch.device:
        return self.parameters.device

    def load(self, theta: Tensor, norms: Norms | None = None) -> None:
        """Copy shared parameters (d,) and, if given, norms into the model."""
        self.theta.copy_(theta)
        if norms is not None:
            self.load_norms(norms)

    def load_norms(self, norms: Norms) -> None:
        """Copy norms into the model.

        The layers count batches from 0 again, so the count of a car does not depend on the cars before it.
        """
        self.counts.zero_()
        self.affine.copy_(norms.affine)
        self.statistics.copy_(norms.statistics)

    def copy_norms(self) -> Norms:
        """Return a copy of the model's present norms, because the next car uses the model."""
        return Norms(self.affine.clone(), self.statistics.clone())


def norm_layers(module: nn.Module) -> Iterator[nn.modules.batchnorm._NormBase]:
    """Yield the layers with running statistics, found by their type, because a layer's name can be anything."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.running_mean is not None:
            yield layer


def _counts_batches(layer: nn.modules.batchnorm._NormBase) -> bool:
    """Return whether a layer may need its count of batches: PyTorch's own do so only if they have no momentum.

    Counting costs a kernel for each layer and step.
    """
    return layer.momentum is None or not type(layer).__module__.startswith("torch.")


def _undecayed(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of normalisation layers, and the biases of all layers."""
    for layer in module.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if name == "bias" or isinstance(layer, NORMALISING):
                yield parameter


def constants(module: nn.Module) -> Iterator[Constant]:
    """Yield the buffers that are not running statistics, and the frozen parameters."""
    norms = set(norm_layers(module))
    for prefix, layer in module.named_modules():
        own = [*layer.named_buffers(recurse=False),
               *((name, p) for name, p in layer.named_parameters(recurse=False) if not p.requires_grad)]
        for name, tensor in own:
            if not (layer in norms and name in ("running_mean", "running_var", "num_batches_tracked")):
                yield Constant(f"{prefix}.{name}".lstrip("."), layer, tensor, tensor._version)


def _view_as(segment: Tensor, shape: torch.Size) -> Tensor:
    """View a (n,) segment as a parameter of this shape, with channels_last strides if it has 4 axes."""
    if len(shape) == 4:
        out, into, height, width = shape
        return segment.view(out, height, width, into).permute(0, 3, 1, 2)
    return segment.view(shape)
