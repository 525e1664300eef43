"""FedADMM: consensus ADMM with inexact local solves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fedsim.algorithms.base import Algorithm, Local
from fedsim.options import option

if TYPE_CHECKING:
    from torch import Tensor


class Shared(NamedTuple):
    """The state that the coordinator sends to every car of a round."""

    theta: Tensor  # (d,) global vector
    rho: float  # penalty of this round


class Memory(NamedTuple):
    """The memory of a car, from its latest round. The coordinator knows its w + y / rho."""

    w: Tensor  # (d,) local vector
    y: Tensor  # (d,) dual variable of the constraint w = theta
    rho: float  # penalty of that round


@dataclass(frozen=True)
class FedADMM(Algorithm):
    """Consensus ADMM with inexact local solves and partial participation.

    Gong, Li, Freris 2022, "FedADMM: A Robust Federated Deep Learning Framework with Adaptivity to System
    Heterogeneity", ICDE, arXiv:2204.03529, Algorithm 1.

        minimise  Σ p_i f_i(w_i)  subject to  w_i = theta for every car i
        L_i(w, y; theta) = f_i(w) + <y, w - theta> + rho/2 |w - theta|^2

    Invariant after every round, whichever cars took part: theta = Σ p_i (w_i + y_i / rho_i) over all cars, with rho_i
    the penalty of the car's latest round. It needs the server step of consensus ADMM, which is P_S (|S|/m with uniform
    weights). Any other step eta is biased: its fixed point is where
    grad Σ p_i f_i(theta) = rho (1 - P_S / eta) (theta - theta_0). The popular step eta = 1 diverges if only some cars
    take part.

    Two cars go from 0 to 1 and to 3 in their first round. The new theta is the mean of w + y / rho, of 2 and 6:

    >>> algorithm, memory = FedADMM(rho=2.0), Memory(w=0.0, y=0.0, rho=math.inf)
    >>> shared = algorithm.init_shared(0.0)
    >>> algorithm.contribute(Local(w=1.0, steps=5, images=10, step_length=0.5), shared, memory)
    (2.0, Memory(w=1.0, y=2.0, rho=2.0))
    >>> algorithm.contribute(Local(w=3.0, steps=5, images=10, step_length=0.5), shared, memory)
    (6.0, Memory(w=3.0, y=6.0, rho=2.0))
    >>> algorithm.update(shared, mean=(2.0 + 6.0) / 2, participation=1.0)
    Shared(theta=4.0, rho=2.0)
    """

    rho: float | None = option(None, "Penalty: a number; auto, which matches it to the local work; per-car, which "
                               "matches it to that of each car; or balanced, which starts as auto does and follows the "
                               "residuals.", words=("auto",), at_least=1e-30, at_most=1e30)
    kappa: float = option(0.7, "rho = auto times the local step length: the share of a gradient that a dual variable "
                          "takes up in a round.", flag=False, above=0, at_most=1e30)
    server_step: float | None = option(None, "How far the server goes along the combined move; with admm, every step "
                                       "but the default is biased.", default_text="the cars' weight", above=0,
                                       at_most=1e38)
    local_start: Literal["global", "own"] = option("global", "Where a car starts its local training: at the global "
                                                   "vector or at its own.")
    dual_step: Literal["before"] = option("before", "When the dual variables take their step: before theta does, or "
                                          "after it, with the new theta.")
    score_mean: bool = option(False, "Whether the mean of the cars' vectors w is scored beside theta.", flag=False)
    name = "admm"
    aliases = ("fedadmm",)
    title = "FedADMM"
    paper = "Gong et al. 2022, arXiv:2204.03529"
    weighting = "uniform"
    rests_on_mean = "theta is no longer the mean of w + y/rho over all cars, so it settles elsewhere"

    @property
    def needs_step_length(self) -> bool:
        return self.rho is None

    def init_shared(self, theta: Tensor) -> Any:
        return Shared(theta, math.inf if self.rho is None else self.rho)

    def init_memory(self, theta: Tensor) -> Memory:
        return Memory(theta, theta.new_zeros(theta.shape), math.inf)  # y = 0: so far the coordinator knows theta alone

    def begin_round(self, shared: Shared, step_length: float | None) -> Shared:
        if self.rho is not None or step_length is None:
            return shared
        return shared._replace(rho=self.kappa / step_length)

    def start(self, shared: Shared, memory: Memory) -> Tensor:
        return memory.w if self.local_start == "own" else shared.theta

    def correction(self, w: Tensor, shared: Shared, memory: Memory) -> Tensor:
        """Return grad_w (L_i - f_i)."""
        return memory.y + shared.rho * (w - shared.theta)

    def contribute(self, local: Local, shared: Shared, memory: Memory) -> tuple[Any, Memory]:
        """Take a dual ascent step, and send the change of w + y / rho since the car's latest contribution.

        The change is a sum of differences: the same algebra, without cancellation in float32. The last term re-bases
        the dual variable if the penalty has changed since, and is 0 otherwise.
        """
        gap = local.w - shared.theta
        new = Memory(local.w, memory.y + shared.rho * gap, shared.rho)
        change = (local.w - memory.w) + gap + memory.y * (1 / shared.rho - 1 / memory.rho)
        return change, new

    def update(self, shared: Shared, mean: Tensor, participation: float) -> Shared:
        return shared._replace(theta=shared.theta + self.step_scale(participation) * mean)

    def step_scale(self, participation: float) -> float:
        """Return eta, the step along the mean: P_S, or the step that the user has chosen."""
        return self.server_step or participation

    def penalty(self, shared: Shared) -> float:
        return shared.rho

    def local_vector(self, memory: Memory) -> Tensor | None:
        return memory.w if self.score_mean else None

    def dual(self, memory: Memory) -> Tensor:
        return memory.y
