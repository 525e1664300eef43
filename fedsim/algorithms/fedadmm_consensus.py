"""FedADMM in consensus order, with the dual step after theta, and with a penalty of each car's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fedsim.algorithms.base import Local
from fedsim.algorithms.fedadmm import FedADMM, Memory
from fedsim.options import option

if TYPE_CHECKING:
    from torch import Tensor


class Shared(NamedTuple):
    """The coordinator's state. Cars receive theta and rho."""

    theta: Tensor  # (d,) global vector
    rho: float  # penalty of this round
    mean_rho: float  # Σ p_i rho_i over all cars; stays at the coordinator


class Contribution(NamedTuple):
    """The contribution of a car."""

    change: Tensor  # (d,) change of rho_i (w_i - theta) + y_i
    rho: float  # rho_i of this round
    rho_before: float  # that of the car's latest round, 0 before its first


@dataclass(frozen=True)
class ConsensusFedADMM(FedADMM):
    """FedADMM in the order of consensus ADMM: local vectors, theta, and then the dual variables.

    Boyd, Parikh, Chu, Peleato, Eckstein 2011, "Distributed Optimization and Statistical Learning via the Alternating
    Direction Method of Multipliers", §7.1, with part of the cars and with penalties that may differ:

        L    = Σ p_i (f_i(w_i) + <y_i, w_i - theta> + rho_i/2 |w_i - theta|^2)
        w_i   <- inexact minimiser of L, from theta
        theta <- minimiser of L = Σ p_i (rho_i w_i + y_i) / Σ p_i rho_i
        y_i   <- y_i + rho_i (w_i - theta), with the new theta

    The sums are over all cars that have taken part so far, with the w_i, y_i and rho_i of their latest round. A car
    takes its dual step when it next receives theta (`receive`), so it sends and receives no further vector. A car that
    sat out takes it with a later theta than the one that its w_i went into. That moves no fixed point: theta is there
    if w_i = theta and y_i = -grad f_i(theta) for every car, and then Σ p_i y_i = 0, so grad Σ p_i f_i(theta) = 0.

    If all cars take part in every round, Σ p_i y_i is 0 after every dual step, so theta = Σ p_i rho_i w_i / Σ p_i rho_i
    is a mean of local vectors. Gong et al. take the dual step first, which adds Σ p_i y_i / rho to that mean: momentum
    of 1 - kappa, and a gain of 1/kappa.

    Two cars go from 0 to 1 and to 3. The new theta is the mean of 1 and 3. Then their dual variables are 2 and -2:

    >>> algorithm = ConsensusFedADMM(rho=2.0)
    >>> shared, memory = algorithm.init_shared(0.0), Memory(w=0.0, y=0.0, rho=0.0)
    >>> sent, memories = zip(*(algorithm.contribute(Local(w, 5, 10, 0.5), shared, memory) for w in (1.0, 3.0)))
    >>> sent
    (Contribution(change=2.0, rho=2.0, rho_before=0.0), Contribution(change=6.0, rho=2.0, rho_before=0.0))
    >>> shared = algorithm.update(shared, mean=Contribution((2.0 + 6.0) / 2, 2.0, 0.0), participation=1.0)
    >>> shared
    Shared(theta=2.0, rho=2.0, mean_rho=2.0)
    >>> [algorithm.receive(shared, memory, step_length=0.5)[1].y for memory in memories]
    [-2.0, 2.0]
    """

    dual_step: Literal["after"] = option(  # type: ignore[assignment]
        "after", "The dual step is taken with the new theta.")
    server_step: float | None = field(default=None, init=False)  # theta is the minimiser, whoever takes part
    server_only = ("mean_rho",)

    def init_shared(self, theta: Tensor) -> Shared:
        shared = super().init_shared(theta)
        return Shared(shared.theta, shared.rho, mean_rho=0.0)

    def init_memory(self, theta: Tensor) -> Memory:
        return Memory(theta, theta.new_zeros(theta.shape), 0.0)  # rho = 0: L has no term of this car so far

    def receive(self, shared: Any, memory: Memory, step_length: float | None) -> tuple[Any, Memory]:
        """Take the dual step of the car's latest round, now that the car knows theta."""
        return shared, memory._replace(y=memory.y + memory.rho * (memory.w - shared.theta))

    def contribute(self, local: Local, shared: Any, memory: Memory) -> tuple[Contribution, Memory]:
        """Send the change of rho_i (w_i - theta) + y_i, which was equal to the present y_i before the round."""
        return (Contribution(shared.rho * (local.w - shared.theta), shared.rho, memory.rho),
                Memory(local.w, memory.y, shared.rho))

    def unit(self, contribution: Contribution) -> float:
        return 1 / contribution.rho

    def update(self, shared: Any, mean: Contribution, participation: float) -> Any:  # type: ignore[override]
        """Move theta to the minimiser of L, which is where Σ p_i (rho_i (w_i - theta) + y_i) = 0."""
        least = participation * mean.rho  # a robust aggregator's sums need not belong together
        mean_rho = max(shared.mean_rho + participation * (mean.rho - mean.rho_before), least)
        return shared._replace(theta=shared.theta + participation / mean_rho * mean.change, mean_rho=mean_rho)


@dataclass(frozen=True)
class PerCarFedADMM(ConsensusFedADMM):
    """FedADMM with the penalty rho_i = kappa / h_i, h_i being the step length of the car's own local work.

    So each car's dual variable takes up the share kappa of a gradient in a round, whatever the car's number of steps.
    theta minimises L of `ConsensusFedADMM` in either order of the steps. The fixed point does not depend on rho_i.

    Zhou, Li 2023, "Federated Learning via Inexact ADMM", TPAMI, arXiv:2204.10607, has penalties of cars in this way.

    With equal steps it is FedADMM. The second car takes four times as many steps, so its penalty is a quarter:

    >>> algorithm = PerCarFedADMM(kappa=0.5)
    >>> shared = algorithm.begin_round(algorithm.init_shared(0.0), step_length=0.625)
    >>> [algorithm.receive(shared, Memory(0.0, 0.0, 0.0), length)[0].rho for length in (0.25, 1.0)]
    [2.0, 0.5]
    """

    rho: float | None = option(None, "Penalty of each car, matched to its own local work; or one number for all.",
                               words=("per-car",), at_least=1e-30, at_most=1e30)
    dual_step: Literal["before", "after"] = option(  # type: ignore[assignment]
        "before", "When the dual variables take their step.")

    def receive(self, shared: Any, memory: Memory, step_length: float | None) -> tuple[Any, Memory]:
        """Match the penalty to the car's local work."""
        own = self.begin_round(shared, step_length)
        return super().receive(own, memory, step_length) if self.dual_step == "after" else (own, memory)

    def contribute(self, local: Local, shared: Any, memory: Memory) -> tuple[Contribution, Memory]:
        """Send the change of rho_i (w_i - theta) + y_i. A dual step before theta adds rho_i (w_i - theta) to y_i."""
        sent, new = super().contribute(local, shared, memory)
        if self.dual_step == "after":
            return sent, new
        before = memory.rho * (memory.w - shared.theta)
        return sent._replace(change=2 * sent.change - before), new._replace(y=memory.y + sent.change)
