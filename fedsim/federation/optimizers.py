"""Local optimisers on one flat vector, equal to torch.optim's to the bit.

torch.optim itself is not used because making one of its optimisers imports torch._dynamo, which costs every rank more
than a second and 150 MB. What an optimiser carries from step to step is its momentum, a NamedTuple of vectors and
numbers. It can go on in a car's next round, and every part of it can be averaged over cars.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class Velocity(NamedTuple):
    """The momentum of SGD."""

    v: Tensor  # (d,) of the size of a gradient: a step moves w by -lr v
    unit: float  # the velocity that unit gradients would have given in the same steps


class Moments(NamedTuple):
    """The momentum of Adam."""

    mean: Tensor  # (d,) of gradients
    square: Tensor  # (d,) of squared gradients
    steps: float  # taken so far, which the corrections of the bias depend on


Momentum = Velocity | Moments


def read_unit_velocity(momentum: Momentum | None) -> float:
    """Return the velocity that unit gradients would have given; 0 if there is no momentum or no such velocity."""
    return momentum.unit if isinstance(momentum, Velocity) else 0.0


def change_vectors(momentum: Momentum, change: Callable[[Tensor], Tensor]) -> Momentum:
    """Return the momentum with change(vector) in the place of each of its vectors."""
    vectors: dict[str, Any] = {name: change(part) for name, part in momentum._asdict().items()
                               if isinstance(part, Tensor)}
    return momentum._replace(**vectors)


def add_decay(vector: Tensor, w: Tensor, weight: float, decays: Tensor | None) -> Tensor:
    """Return vector + weight w (d,), where `decays` says so."""
    return vector.add(w, alpha=weight) if decays is None else vector.addcmul(w, decays, value=weight)


class Steps(Protocol):
    """The steps of one car's round."""

    def take(self, w: Tensor, gradient: Tensor, lr: float) -> None:
        """Move w (d,) in place along a gradient (d,)."""
        ...

    def momentum(self) -> Momentum:
        """Return the momentum after the steps so far. Its vectors are (d,)."""
        ...


@dataclass(frozen=True)
class SGD:
    """v <- momentum v + g;  w <- w - lr v, with weight_decay w added to g.   PyTorch's convention, v = 0 at the start.

    nesterov: w <- w - lr (g + momentum v) with the new v (Sutskever et al. 2013, "On the importance of initialization
    and momentum in deep learning", §3, in PyTorch's form, which keeps the point at which the gradient is taken).
    """

    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def make_momentum(self, like: Tensor) -> Velocity:
        """Return the momentum before the first step, for vectors like this one."""
        return Velocity(torch.zeros_like(like), 0.0)

    def start(self, momentum: Velocity | None = None, decays: Tensor | None = None) -> "SGDSteps":
        """Begin a round, with the momentum of earlier steps if it is given.

        decays: (d,) 1 for each number that weight decay concerns, else 0; None for all.
        """
        return SGDSteps(self, momentum, decays)

    def step_length(self, lr: float, steps: int, damping: float = 0.0, unit: float = 0.0) -> float:
        """Return how far `steps` unit gradients move w: lr ‖a‖₁ of FedNova (Wang et al. 2020, arXiv:2007.07481, §4).

        damping: the weight mu of a proximal term mu/2 |w - start|^2, which pulls w back at every step. unit: the
        velocity that unit gradients have given before. If they were many it is 1 / (1 - momentum), and the length is
        lr steps / (1 - momentum).

        With nesterov, a step moves w by g + momentum v. Without damping, the length is thus lr steps + momentum times
        the length without nesterov.
        """
        beta = self.momentum
        if not damping:
            coasting = beta * (1 - beta**steps) / (1 - beta)  # how far a velocity of 1 goes by itself, over lr
            length = lr * (steps - coasting) / (1 - beta) + lr * unit * coasting
            return lr * steps + beta * length if self.nesterov else length
        velocity, moved = unit, 0.0
        for _ in range(steps):
            velocity = beta * velocity + 1 - damping * moved
            moved += lr * (1 - damping * moved + beta * velocity if self.nesterov else velocity)
        return moved

    def unit_after(self, steps: float) -> float:
        """Return the velocity that so many unit gradients give."""
        return (1 - self.momentum**steps) / (1 - self.momentum)


class SGDSteps:
    """The steps of a round by SGD."""

    def __init__(self, rule: SGD, momentum: Velocity | None, decays: Tensor | None) -> None:
        self.rule, self.decays, self.unit = rule, decays, momentum.unit if momentum else 0.0
        self.velocity = momentum.v.clone() if momentum else None

    def take(self, w: Tensor, gradient: Tensor, lr: float) -> None:
        rule = self.rule
        if rule.weight_decay:
            gradient = add_decay(gradient, w, rule.weight_decay, self.decays)
        if rule.momentum:
            before = self.velocity
            velocity = gradient.clone() if before is None else before.mul_(rule.momentum).add_(gradient)
            gradient = gradient.add(velocity, alpha=rule.momentum) if rule.nesterov else velocity
            self.velocity, self.unit = velocity, rule.momentum * self.unit + 1
        w.add_(gradient, alpha=-lr)

    def momentum(self) -> Velocity:
        assert self.velocity is not None, "SGD without momentum has no velocity"
        return Velocity(self.velocity, self.unit)


@dataclass(frozen=True)
class Adam:
    """Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1, with weight decay added to the gradient.

    decoupled: weight decay is no part of the gradient, but shrinks w by itself: AdamW (Loshchilov & Hutter 2019,
    arXiv:1711.05101, Algorithm 2).
    """

    weight_decay: float = 0.0
    decoupled: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def make_momentum(self, like: Tensor) -> Moments:
        """Return the momentum before the first step, for vectors like this one."""
        return Moments(torch.zeros_like(like), torch.zeros_like(like), 0.0)

    def start(self, momentum: Moments | None = None, decays: Tensor | None = None) -> "AdamSteps":
        """Begin a round, with the moments of earlier steps if they are given. decays: as with SGD."""
        return AdamSteps(self, momentum, decays)

    def step_length(self, lr: float, steps: int, damping: float = 0.0, unit: float = 0.0) -> None:
        """Return None: Adam's steps do not scale with the gradient, so no penalty can be matched to their length."""


class AdamSteps:
    """The steps of a round by Adam."""

    def __init__(self, rule: Adam, momentum: Moments | None, decays: Tensor | None) -> None:
        self.rule, self.decays, self.steps = rule, decays, momentum.steps if momentum else 0.0
        self.mean = self.square = torch.empty(0)
        if momentum:  # a mean of squares that hostile cars have helped to make may be below 0
            self.mean, self.square = momentum.mean.clone(), momentum.square.clamp(min=0)

    def take(self, w: Tensor, gradient: Tensor, lr: float) -> None:
        rule = self.rule
        if not self.mean.numel():
            self.mean, self.square = torch.zeros_like(w), torch.zeros_like(w)
        self.steps += 1
        if rule.weight_decay and rule.decoupled:
            w.mul_(1 - lr * rule.weight_decay * (1.0 if self.decays is None else self.decays))
        elif rule.weight_decay:
            gradient = add_decay(gradient, w, rule.weight_decay, self.decays)
        self.mean.lerp_(gradient, 1 - rule.beta1)
        self.square.mul_(rule.beta2).addcmul_(gradient, gradient, value=1 - rule.beta2)
        root = (self.square.sqrt() / (1 - rule.beta2**self.steps) ** 0.5).add_(rule.epsilon)
        w.addcdiv_(self.mean, root, value=-lr / (1 - rule.beta1**self.steps))

    def momentum(self) -> Moments:
        return Moments(self.mean, self.square, self.steps)
