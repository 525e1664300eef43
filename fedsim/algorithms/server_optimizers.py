"""Server optimisers: what the coordinator makes of the move that the cars propose.

The move D = (what the algorithm's own server step would give) - theta is minus the pseudo-gradient, so it is added.
They see parameters alone: BatchNorm's statistics are none. State in, state out; vectors are (d,) float64.

Hsu, Qi, Brown 2019, arXiv:1909.06335 (FedAvgM); Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan 2021,
"Adaptive Federated Optimization", ICLR, arXiv:2003.00295, Algorithm 2 (FedAdagrad, FedAdam, FedYogi).
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor


class ServerOptimizer(Protocol):
    """Takes the server step."""

    def init_state(self, theta: Tensor) -> Any:
        """What the coordinator keeps between rounds."""
        ...

    def step(self, theta: Tensor, proposed: Tensor, state: Any) -> tuple[Tensor, Any]:
        """theta (d,) before the round, `proposed` (d,) float64 by the algorithm -> theta after it, new state."""
        ...


def _check(optimizer: Any, **allowed: tuple[bool, str]) -> None:
    for name, (holds, text) in allowed.items():
        if not holds:
            raise ValueError(f"{name} is {getattr(optimizer, name)}; it must be {text}")


def _above_zero(value: float) -> tuple[bool, str]:
    return 0 < value < math.inf, "above 0"


def _below_one(value: float) -> tuple[bool, str]:
    return 0 <= value < 1, "at least 0 and below 1"


@dataclass(frozen=True)
class Plain:
    """theta <- theta + step D; step 1 is the proposal itself, to the bit."""

    server_step: float = 1.0
    paper: ClassVar[str] = "McMahan et al. 2017, arXiv:1602.05629"

    def __post_init__(self) -> None:
        _check(self, server_step=_above_zero(self.server_step))

    def init_state(self, theta: Tensor) -> None:
        return None

    def step(self, theta: Tensor, proposed: Tensor, state: None) -> tuple[Tensor, None]:
        return torch.lerp(theta.double(), proposed, self.server_step), None  # with 1, lerp gives its end itself


@dataclass(frozen=True)
class Momentum:
    """v <- beta v + D;  theta <- theta + step v.   FedAvgM: no (1 - beta), so v grows to D / (1 - beta)."""

    server_step: float = 1.0
    server_momentum: float = 0.9
    paper: ClassVar[str] = "Hsu et al. 2019, arXiv:1909.06335"

    def __post_init__(self) -> None:
        _check(self, server_step=_above_zero(self.server_step), server_momentum=_below_one(self.server_momentum))

    def init_state(self, theta: Tensor) -> Tensor:
        return torch.zeros_like(theta, dtype=torch.float64)

    def step(self, theta: Tensor, proposed: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        velocity = self.server_momentum * state + (proposed - theta)
        return theta + self.server_step * velocity, velocity


class Moments(NamedTuple):
    """Running averages of the move and of its square."""

    m: Tensor  # (d,)
    v: Tensor  # (d,)


@dataclass(frozen=True)
class _Adaptive:
    """m <- beta1 m + (1 - beta1) D;  v as the subclass has it;  theta <- theta + step m / (sqrt(v) + tau).

    No bias correction, tau outside the root, v starts at tau²: Algorithm 2.
    """

    server_step: float = 0.03
    server_tau: float = 0.01  # degree of adaptivity: coordinates that move less are hardly scaled

    def __post_init__(self) -> None:
        _check(self, server_step=_above_zero(self.server_step), server_tau=_above_zero(self.server_tau))

    @property
    def _beta1(self) -> float:
        return 0.0

    def init_state(self, theta: Tensor) -> Moments:
        zeros = torch.zeros_like(theta, dtype=torch.float64)
        return Moments(zeros, torch.full_like(zeros, self.server_tau**2))

    def step(self, theta: Tensor, proposed: Tensor, state: Moments) -> tuple[Tensor, Moments]:
        move = proposed - theta
        m = torch.lerp(move, state.m, self._beta1)
        v = self._second_moment(state.v, move.square())
        return theta + self.server_step * m / (v.sqrt() + self.server_tau), Moments(m, v)

    def _second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Adagrad(_Adaptive):
    """v <- v + D², without a first moment (beta1 = 0)."""

    paper: ClassVar[str] = "Reddi et al. 2021, arXiv:2003.00295"

    def _second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        return v + square


@dataclass(frozen=True)
class Adam(_Adaptive):
    """v <- beta2 v + (1 - beta2) D²."""

    server_momentum: float = 0.9  # beta1
    server_beta2: float = 0.99
    paper: ClassVar[str] = "Reddi et al. 2021, arXiv:2003.00295"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, server_momentum=_below_one(self.server_momentum), server_beta2=_below_one(self.server_beta2))

    @property
    def _beta1(self) -> float:
        return self.server_momentum

    def _second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        return torch.lerp(square, v, self.server_beta2)


@dataclass(frozen=True)
class Yogi(Adam):
    """v <- v - (1 - beta2) D² sign(v - D²): the second moment changes by little whatever D is."""

    def _second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        return v - (1 - self.server_beta2) * square * torch.sign(v - square)


SERVER_OPTIMIZERS: dict[str, type[ServerOptimizer]] = {
    "momentum": Momentum,
    "adagrad": Adagrad,
    "adam": Adam,
    "yogi": Yogi,
}
