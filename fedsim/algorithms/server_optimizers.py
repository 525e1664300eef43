"""Server optimisers, which turn the cars' proposed move into the server step.

The move D = (theta after the algorithm's own server step) - theta is minus the pseudo-gradient, so it is added. Only
parameters pass through a server optimiser, not BatchNorm's statistics. State goes in and new state comes out; vectors
are (d,) float64.

Hsu, Qi, Brown 2019, arXiv:1909.06335 (FedAvgM); Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan 2021,
"Adaptive Federated Optimization", ICLR, arXiv:2003.00295, Algorithm 2 (FedAdagrad, FedAdam, FedYogi).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from fedsim.options import check, option

if TYPE_CHECKING:
    from torch import Tensor


class ServerOptimizer(Protocol):
    """A rule for the server step."""

    name: ClassVar[str]  # its value of --server-optimizer
    algo: ClassVar[str]  # the value of --algo that means FedAvg with this server step
    title: ClassVar[str]  # the name of that algorithm in tables
    paper: ClassVar[str]

    def init_state(self, theta: Tensor) -> Any:
        """Return the state that the coordinator keeps between rounds, before round 1."""
        ...

    def step(self, theta: Tensor, proposed: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return theta after the round and the new state.

        theta: (d,) before the round; proposed: (d,) float64, theta after the algorithm's own server step.
        """
        ...


STEP, MOMENTUM = "How far the server goes along the combined move.", "beta of momentum, beta1 of adam and yogi."


@dataclass(frozen=True)
class Plain:
    """The plain server step theta <- theta + step D. Step 1 gives the proposal itself, to the bit."""

    server_step: float = option(1.0, STEP, above=0, at_most=1e38)
    name: ClassVar[str] = ""
    algo: ClassVar[str] = ""
    title: ClassVar[str] = ""
    paper: ClassVar[str] = "McMahan et al. 2017, arXiv:1602.05629"

    def __post_init__(self) -> None:
        check(self)

    def init_state(self, theta: Tensor) -> None:
        return None

    def step(self, theta: Tensor, proposed: Tensor, state: None) -> tuple[Tensor, None]:
        return theta.double().lerp(proposed, self.server_step), None  # lerp with weight 1 returns its end to the bit


@dataclass(frozen=True)
class FedAvgM:
    """FedAvgM: v <- beta v + D;  theta <- theta + step v. Without a factor (1 - beta), v grows to D / (1 - beta).

    Two rounds that both propose a move of 1:

    >>> from torch import tensor
    >>> server, theta = FedAvgM(server_momentum=0.5), tensor([0.0]).double()
    >>> theta, velocity = server.step(theta, theta + 1, server.init_state(theta))  # theta = 1
    >>> theta, velocity = server.step(theta, theta + 1, velocity)  # v = 0.5 · 1 + 1
    >>> theta.item(), velocity.item()
    (2.5, 1.5)
    """

    server_step: float = option(1.0, STEP, above=0, at_most=1e38)
    server_momentum: float = option(0.9, MOMENTUM, at_least=0, below=1)
    name: ClassVar[str] = "momentum"
    algo: ClassVar[str] = "avgm"  # the name of FedAvg with this server step
    title: ClassVar[str] = "FedAvgM"
    paper: ClassVar[str] = "Hsu et al. 2019, arXiv:1909.06335"

    def __post_init__(self) -> None:
        check(self)

    def init_state(self, theta: Tensor) -> Tensor:
        return theta.new_zeros(theta.shape).double()

    def step(self, theta: Tensor, proposed: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        velocity = self.server_momentum * state + (proposed - theta)
        return theta + self.server_step * velocity, velocity


class Moments(NamedTuple):
    """Running means of the move and of its square."""

    m: Tensor  # (d,)
    v: Tensor  # (d,)


@dataclass(frozen=True)
class _Adaptive:
    """m <- beta1 m + (1 - beta1) D;  theta <- theta + step m / (sqrt(v) + tau). A subclass defines v.

    As in Algorithm 2 there is no bias correction, tau is outside the root, and v starts at tau².
    """

    server_step: float = option(0.03, STEP, above=0, at_most=1e38)
    server_tau: float = option(0.01, "Adaptivity: coordinates that move by less are hardly scaled.", above=0,
                               at_most=1e38)

    def __post_init__(self) -> None:
        check(self)

    @property
    def _beta1(self) -> float:
        return 0.0

    def init_state(self, theta: Tensor) -> Moments:
        zeros = theta.new_zeros(theta.shape).double()
        return Moments(zeros, zeros + self.server_tau**2)

    def step(self, theta: Tensor, proposed: Tensor, state: Moments) -> tuple[Tensor, Moments]:
        move = proposed - theta
        m = move.lerp(state.m, self._beta1)
        v = self._second_moment(state.v, move.square())
        return theta + self.server_step * m / (v.sqrt() + self.server_tau), Moments(m, v)

    def _second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class FedAdagrad(_Adaptive):
    """FedAdagrad: v <- v + D², without a first moment (beta1 = 0).

    >>> from torch import tensor
    >>> server, theta = FedAdagrad(server_step=1.0, server_tau=1.5), tensor([0.0]).double()
    >>> theta, moments = server.step(theta, theta + 2, server.init_state(theta))
    >>> moments.v.item(), theta.item()  # v = 1.5² + 2²; theta = 2 / (2.5 + 1.5)
    (6.25, 0.5)
    """

    name: ClassVar[str] = "adagrad"
    algo: ClassVar[str] = "adagrad"  # the name of FedAvg with this server step
    title: ClassVar[str] = "FedAdagrad"
    paper: ClassVar[str] = "Reddi et al. 2021, arXiv:2003.00295"

    def _second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        return v + square


@dataclass(frozen=True)
class FedAdam(_Adaptive):
    """FedAdam: v <- beta2 v + (1 - beta2) D².

    >>> from torch import tensor
    >>> server, theta = FedAdam(6.0, server_tau=1.0, server_momentum=0.5, server_beta2=0.5), tensor([0.0]).double()
    >>> theta, moments = server.step(theta, theta + 7, server.init_state(theta))
    >>> moments.m.item(), moments.v.item(), theta.item()  # v = (1² + 7²) / 2; theta = 6 · 3.5 / (5 + 1)
    (3.5, 25.0, 3.5)
    """

    server_momentum: float = option(0.9, MOMENTUM, at_least=0, below=1)  # beta1
    server_beta2: float = option(0.99, "beta2 of adam and yogi.", at_least=0, below=1)
    name: ClassVar[str] = "adam"
    algo: ClassVar[str] = "adam"  # the name of FedAvg with this server step
    title: ClassVar[str] = "FedAdam"
    paper: ClassVar[str] = "Reddi et al. 2021, arXiv:2003.00295"

    @property
    def _beta1(self) -> float:
        return self.server_momentum

    def _second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        return square.lerp(v, self.server_beta2)


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """FedYogi: v <- v - (1 - beta2) D² sign(v - D²). One round changes v by (1 - beta2) D², whatever v is.

    >>> from torch import tensor
    >>> server, theta = FedYogi(1.0, server_tau=1.0, server_momentum=0.5, server_beta2=0.5), tensor([0.0]).double()
    >>> theta, moments = server.step(theta, theta + 4, server.init_state(theta))
    >>> moments.m.item(), moments.v.item(), theta.item()  # v = 1² + 4² / 2; theta = 2 / (3 + 1)
    (2.0, 9.0, 0.5)
    """

    name: ClassVar[str] = "yogi"
    algo: ClassVar[str] = "yogi"  # the name of FedAvg with this server step
    title: ClassVar[str] = "FedYogi"

    def _second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        return v - (1 - self.server_beta2) * square * (v - square).sign()


SERVER_OPTIMIZERS: dict[str, type[ServerOptimizer]] = {
    optimizer.name: optimizer for optimizer in (FedAvgM, FedAdagrad, FedAdam, FedYogi)}
