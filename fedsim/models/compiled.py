"""A network that torch.compile has compiled for the batches of training."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

BACKEND = "inductor"  # of torch.compile


class CompiledNetwork:
    """A network, compiled for batches of one size. It computes other batches as it is.

    The last batch of an epoch may be smaller. To compile the network once more for it would take longer than it saves.
    The module itself stays as it is, with its names, its parameters and its evaluation.
    """

    def __init__(self, module: nn.Module, batch: int) -> None:
        torch.compiler.reset()  # else networks of earlier runs in this process count towards the number that it keeps
        # It warns of a CUDA toolkit without a driver, also where nobody asks for CUDA.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        self._module, self._batch = module, batch
        self._compiled = torch.compile(module, dynamic=False, backend=BACKEND)

    def __call__(self, pictures: Tensor) -> Any:
        """Return what the network returns in training for pictures (B, 3, H, W) float32."""
        if len(pictures) != self._batch:
            return self._module(pictures)
        return self._compiled(pictures.contiguous(memory_format=torch.channels_last))
