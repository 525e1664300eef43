"""Local optimisers on one flat vector, equal to torch.optim's to the bit.

torch.optim itself is not used because making one of its optimisers imports torch._dynamo, which costs every rank more
than a second and 150 MB. A car's optimiser starts anew in every round, so it has no state to save.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Step(Protocol):
    """A function that moves w (d,) in place along a gradient (d,)."""

    def __call__(self, w: Tensor, gradient: Tensor, lr: float) -> None: ...


@dataclass(frozen=True)
class SGD:
    """v <- momentum v + g + weight_decay w;  w <- w - lr v.   PyTorch's convention, v = 0 at the start."""

    momentum: float = 0.0
    weight_decay: float = 0.0

    def start(self) -> Step:
        """Return the step function of a car's round, without momentum from earlier rounds."""
        velocity: Tensor | None = None

        def step(w: Tensor, gradient: Tensor, lr: float) -> None:
            nonlocal velocity
            if self.weight_decay:
                gradient = gradient.add(w, alpha=self.weight_decay)
            if self.momentum:
                velocity = gradient.clone() if velocity is None else velocity.mul_(self.momentum).add_(gradient)
                gradient = velocity
            w.add_(gradient, alpha=-lr)

        return step

    def step_length(self, lr: float, steps: int, damping: float = 0.0) -> float:
        """Return how far `steps` unit gradients move w: lr ‖a‖₁ of FedNova (Wang et al. 2020, arXiv:2007.07481, §4).

        damping: the weight mu of a proximal term mu/2 |w - start|^2, which pulls w back at every step.
        """
        beta = self.momentum
        if not damping:
            return lr * (steps - beta * (1 - beta**steps) / (1 - beta)) / (1 - beta)
        velocity = moved = 0.0
        for _ in range(steps):
            velocity = beta * velocity + 1 - damping * moved
            moved += lr * velocity
        return moved


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1, with weight decay added to the gradient."""

    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def start(self) -> Step:
        """Return the step function of a car's round, without moments from earlier rounds."""
        count = 0
        mean = square = torch.empty(0)

        def step(w: Tensor, gradient: Tensor, lr: float) -> None:
            nonlocal count, mean, square
            if count == 0:
                mean, square = torch.zeros_like(w), torch.zeros_like(w)
            count += 1
            if self.weight_decay:
                gradient = gradient.add(w, alpha=self.weight_decay)
            mean.lerp_(gradient, 1 - self.beta1)
            square.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
            root = (square.sqrt() / (1 - self.beta2**count) ** 0.5).add_(self.epsilon)
            w.addcdiv_(mean, root, value=-lr / (1 - self.beta1**count))

        return step

    def step_length(self, lr: float, steps: int, damping: float = 0.0) -> None:
        """Return None: Adam's steps do not scale with the gradient, so no penalty can be matched to their length."""
