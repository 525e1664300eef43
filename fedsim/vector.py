"""A model as one contiguous parameter vector, its BatchNorm statistics apart.

All trainable parameters are views into `parameters`, their gradients into `gradient`, running means and
variances into `statistics`. A federated algorithm is then vector arithmetic, a message is one tensor and
loading a model is one copy.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class FlatModel:
    """A module laid out on flat vectors.

    parameters, gradient: (d,), float32 as the module's. statistics: (2, c) float32, running means in row 0 and
    running variances in row 1; c = 0 without BatchNorm. Frozen parameters stay outside; tied ones appear once.
    Convolution weights keep channels_last strides inside the vector: PyTorch's convolutions are fastest so.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module = module.to(device)
        trainable = [p for p in module.parameters() if p.requires_grad]
        size = sum(p.numel() for p in trainable)
        self.parameters = torch.empty(size, device=device, dtype=trainable[0].dtype)
        self.gradient = torch.zeros_like(self.parameters)
        offset = 0
        for parameter in trainable:
            here = slice(offset, offset + parameter.numel())
            view = _laid_out(self.parameters[here], parameter.shape)
            view.copy_(parameter.data)
            parameter.data = view
            parameter.grad = _laid_out(self.gradient[here], parameter.shape)
            offset = here.stop
        self.norms = list(_batch_norms(module))
        channels = sum(norm.num_features for norm in self.norms)
        self.statistics = torch.empty(2, channels, device=device)
        offset = 0
        for norm in self.norms:
            here = slice(offset, offset + norm.num_features)
            for row, name in enumerate(("running_mean", "running_var")):
                view = self.statistics[row, here]
                view.copy_(getattr(norm, name))
                setattr(norm, name, view)
            offset = here.stop

    @property
    def device(self) -> torch.device:
        return self.parameters.device

    def load(self, parameters: Tensor, statistics: Tensor | None = None) -> None:
        """Take over parameters (d,) and, if given, statistics (2, c)."""
        self.parameters.copy_(parameters)
        if statistics is not None:
            self.statistics.copy_(statistics)


def _batch_norms(module: nn.Module) -> Iterator[nn.modules.batchnorm._BatchNorm]:
    """The layers with running statistics, found by type (a name says nothing about what a layer is)."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            yield layer


def _laid_out(segment: Tensor, shape: torch.Size) -> Tensor:
    """View a (n,) segment as a parameter of this shape, with channels_last strides where it has 4 axes."""
    if len(shape) == 4:
        out, into, height, width = shape
        return segment.view(out, height, width, into).permute(0, 3, 1, 2)
    return segment.view(shape)
