"""The precision that a network computes with in training. All that is kept, summed, sent and scored is float32.

With 16 bits, convolutions and products are rounded, by PyTorch's autocast. Parameters, gradients, running statistics,
the loss and all that algorithms do stay float32, and so does the network when it is scored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fedsim.models.outputs import Outputs
from fedsim.system.transfer import upload

KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16}
FIRST_SCALE = 2.0**13
LARGEST_SCALE = 2.0**24
PATIENCE = 200  # steps without overflow before the scale is doubled


class Scaling(Protocol):
    """The scaling of the losses of a car's round. It keeps small gradients from being rounded to 0."""

    def raise_(self, loss: Tensor) -> Tensor:
        """Return the loss to differentiate."""
        ...

    def lower_(self, gradient: Tensor) -> None:
        """Make the gradient (d,) of that loss the gradient of the loss itself, in place."""
        ...


@dataclass(frozen=True)
class Precision:
    """A precision by name: float32, bf16 or fp16."""

    name: str = "float32"

    def compute(self, module: Callable[[Tensor], Any], pictures: Tensor) -> Any:
        """Return what a network returns in training for pictures (B, 3, H, W) float32. Its logits are float32."""
        kind = KINDS.get(self.name)
        if kind is None:
            return module(pictures)
        with torch.autocast(pictures.device.type, kind):
            returned = module(pictures)
        if isinstance(returned, Outputs):
            return Outputs(returned.logits.float(), tuple(one.float() for one in returned.auxiliary))
        return returned.float()

    def scaling(self, device: torch.device) -> Scaling:
        """Return the scaling of the steps of a car's round."""
        return LossScale(device) if self.name == "fp16" else Unscaled()


FLOAT32 = Precision()


class Unscaled:
    """No scaling: float32 and bf16 have numbers as small as any gradient."""

    def raise_(self, loss: Tensor) -> Tensor:
        return loss

    def lower_(self, gradient: Tensor) -> None:
        pass


class LossScale:
    """Dynamic loss scaling: Micikevicius et al. 2018, arXiv:1710.03740, §3.2.

    A gradient that overflows becomes 0, and the scale is halved. The scale is doubled after PATIENCE steps without
    overflow. It starts anew with each round of a car, so that it depends neither on other cars nor on resumes. The host
    does not wait for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._scale = upload(torch.tensor(FIRST_SCALE), device)
        self._fine = upload(torch.tensor(0), device)  # steps without overflow

    def raise_(self, loss: Tensor) -> Tensor:
        return loss * self._scale

    def lower_(self, gradient: Tensor) -> None:
        overflows = gradient.isfinite().all().logical_not()
        gradient.div_(self._scale).masked_fill_(overflows, 0.0)
        fine = (self._fine + 1).masked_fill(overflows, 0)
        grows = fine >= PATIENCE
        factor = torch.where(overflows, 0.5, torch.where(grows, 2.0, 1.0))
        self._scale = (self._scale * factor).clamp(1.0, LARGEST_SCALE)
        self._fine = fine.masked_fill(grows, 0)
