"""FedADMM whose penalty follows its residuals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fedsim.algorithms.base import Local
from fedsim.algorithms.fedadmm import FedADMM, Memory
from fedsim.options import option

if TYPE_CHECKING:
    from torch import Tensor

IMBALANCE = 10.0  # one residual more than so many times the other moves rho ...
FACTOR = 2.0  # ... by this factor: mu and tau of Boyd et al. 2011, eq. 3.13
RANGE = 10.0  # rho stays within a factor of this of where it began
COOL_DOWN = 5  # rounds between changes: duals need some to follow
MOST_CHANGES = 10  # convergence is proved for a penalty that is fixed in the end


class Shared(NamedTuple):
    """The coordinator's state; cars are sent theta and rho."""

    theta: Tensor  # (d,) global vector
    rho: float  # penalty of this round
    first_rho: float  # the coordinator's own, as all that follows: penalty of the first round
    mean_dual: Tensor  # (d,) Σ p_i y_i over all cars
    changes: float  # of rho so far
    calm: float  # rounds since the latest


class Contribution(NamedTuple):
    """What a car sends: a vector more than with a fixed penalty, for theta cannot be re-based without it."""

    change: Tensor  # (d,) of w + y / rho
    dual_change: Tensor  # (d,) of y
    squared_gap: float  # |w - theta|^2


@dataclass(frozen=True)
class BalancedFedADMM(FedADMM):
    """FedADMM with residual balancing.

    Boyd, Parikh, Chu, Peleato, Eckstein 2011, "Distributed Optimization and Statistical Learning via the Alternating
    Direction Method of Multipliers", §3.4.1: rho doubles where the primal residual, here the root mean square
    |w_i - theta| of the round's cars, is over ten times the dual residual rho |theta - theta before|, and halves the
    other way round. Within bounds, with a cool-down, and finitely often.

    When rho changes, theta is re-based at once: theta + Σ p_i y_i (1/rho new - 1/rho) is the mean of w + y/rho new. So
    cars measure the change of w + y/rho with one penalty, this round's.
    """

    rho: float | None = option(None, "Penalty that starts as auto does and follows the residuals.", words=("balanced",),
                               at_least=1e-30, at_most=1e30)
    server_only = ("first_rho", "mean_dual", "changes", "calm")

    def init_shared(self, theta: Tensor) -> Shared:
        rho = math.inf if self.rho is None else self.rho
        return Shared(theta, rho, rho, theta.new_zeros(theta.shape), 0.0, 0.0)

    def begin_round(self, shared: Shared, step_length: float | None) -> Shared:  # type: ignore[override]
        if math.isfinite(shared.rho) or step_length is None:
            return shared
        rho = self.kappa / step_length
        return shared._replace(rho=rho, first_rho=rho)

    def contribute(self, local: Local, shared: Shared, memory: Memory  # type: ignore[override]
                   ) -> tuple[Contribution, Memory]:
        gap = local.w - shared.theta
        dual_change = shared.rho * gap
        new = Memory(local.w, memory.y + dual_change, shared.rho)
        return Contribution((local.w - memory.w) + gap, dual_change, float(gap @ gap)), new

    def update(self, shared: Shared, mean: Contribution, participation: float) -> Shared:  # type: ignore[override]
        theta = shared.theta + (self.server_step or participation) * mean.change
        mean_dual = shared.mean_dual + participation * mean.dual_change
        rho = self._balanced(shared, math.sqrt(mean.squared_gap),
                             shared.rho * float((theta - shared.theta).norm()))
        if rho == shared.rho:
            return shared._replace(theta=theta, mean_dual=mean_dual, calm=shared.calm + 1)
        return shared._replace(theta=theta + mean_dual * (1 / rho - 1 / shared.rho), rho=rho, mean_dual=mean_dual,
                               changes=shared.changes + 1, calm=0.0)

    def _balanced(self, shared: Shared, primal: float, dual: float) -> float:
        """The next round's rho."""
        if shared.calm < COOL_DOWN or shared.changes >= MOST_CHANGES:
            return shared.rho
        rho = shared.rho
        if primal > IMBALANCE * dual:
            rho *= FACTOR
        elif dual > IMBALANCE * primal:
            rho /= FACTOR
        return min(max(rho, shared.first_rho / RANGE), shared.first_rho * RANGE)
