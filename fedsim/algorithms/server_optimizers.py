"""Server optimisers: what the coordinator makes of the move that the cars propose.

The move D = (what the algorithm's own server step would give) - theta is minus the pseudo-gradient, so it is added.
They see parameters alone: BatchNorm's statistics are none. State in, state out; vectors are (d,) float64.

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
    """Takes the server step."""

    name: ClassVar[str]  # what --server-optimizer takes
    algo: ClassVar[str]  # what --algo takes: FedAvg with this server step
    title: ClassVar[str]  # the name of that in tables
    paper: ClassVar[str]

    def init_state(self, theta: Tensor) -> Any:
        """What the coordinator keeps between rounds."""
        ...

    def step(self, theta: Tensor, proposed: Tensor, state: Any) -> tuple[Tensor, Any]:
        """theta (d,) before the round, `proposed` (d,) float64 by the algorithm -> theta after it, new state."""
        ...


STEP, MOMENTUM = "How far the server goes along the combined move.", "beta of momentum, beta1 of adam and yogi."


@dataclass(frozen=True)
class Plain:
    """theta <- theta + step D; step 1 is the proposal itself, to the bit."""

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
        return theta.double().lerp(proposed, self.server_step), None  # with 1, lerp gives its end itself


@dataclass(frozen=True)
class Momentum:
    """v <- beta v + D;  theta <- theta + step v.   FedAvgM: no (1 - beta), so v grows to D / (1 - beta)."""

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
    """Running averages of the move and of its square."""

    m: Tensor  # (d,)
    v: Tensor  # (d,)


@dataclass(frozen=True)
class _Adaptive:
    """m <- beta1 m + (1 - beta1) D;  v as the subclass has it;  theta <- theta + step m / (sqrt(v) + tau).

    No bias correction, tau outside the root, v starts at tau²: Algorithm 2.
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
class Adagrad(_Adaptive):
    """v <- v + D², without a first moment (beta1 = 0)."""

    name: ClassVar[str] = "adagrad"
    algo: ClassVar[str] = "adagrad"  # the name of FedAvg with this server step
    title: ClassVar[str] = "FedAdagrad"
    paper: ClassVar[str] = "Reddi et al. 2021, arXiv:2003.00295"

    def _second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        return v + square


@dataclass(frozen=True)
class Adam(_Adaptive):
    """v <- beta2 v + (1 - beta2) D²."""

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
class Yogi(Adam):
    """v <- v - (1 - beta2) D² sign(v - D²): the second moment changes by little whatever D is."""

    name: ClassVar[str] = "yogi"
    algo: ClassVar[str] = "yogi"  # the name of FedAvg with this server step
    title: ClassVar[str] = "FedYogi"

    def _second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        return v - (1 - self.server_beta2) * square * (v - square).sign()


SERVER_OPTIMIZERS: dict[str, type[ServerOptimizer]] = {
    optimizer.name: optimizer for optimizer in (Momentum, Adagrad, Adam, Yogi)}
