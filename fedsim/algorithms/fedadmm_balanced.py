"""FedADMM with residual balancing: its penalty follows the residuals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fedsim.algorithms.base import Local
from fedsim.algorithms.fedadmm import FedADMM, Memory
from fedsim.options import option

if TYPE_CHECKING:
    from torch import Tensor

IMBALANCE = 10.0  # rho changes if one residual is over this multiple of the other ...
FACTOR = 2.0  # ... by this factor: mu and tau of Boyd et al. 2011, eq. 3.13
RANGE = 10.0  # the largest factor between rho and its first value
COOL_DOWN = 5  # rounds between changes, because dual variables need some rounds to follow
MOST_CHANGES = 10  # convergence is proved for a penalty that is fixed in the end


class Shared(NamedTuple):
    """The coordinator's state. Cars receive theta and rho."""

    theta: Tensor  # (d,) global vector
    rho: float  # penalty of this round
    first_rho: float  # penalty of the first round; this field and those below stay at the coordinator
    mean_dual: Tensor  # (d,) Σ p_i y_i over all cars
    changes: float  # number of changes of rho so far
    calm: float  # rounds since the latest change


class Contribution(NamedTuple):
    """The contribution of a car. It has one vector more than with a fixed penalty, which re-basing theta needs."""

    change: Tensor  # (d,) change of w + y / rho
    dual_change: Tensor  # (d,) change of y
    squared_gap: float  # |w - theta|^2


@dataclass(frozen=True)
class BalancedFedADMM(FedADMM):
    """FedADMM with residual balancing.

    Boyd, Parikh, Chu, Peleato, Eckstein 2011, "Distributed Optimization and Statistical Learning via the Alternating
    Direction Method of Multipliers", §3.4.1: rho doubles if the primal residual, here the root mean square
    |w_i - theta| of the round's cars, is over ten times the dual residual rho |theta - theta before|. It halves if the
    dual residual is over ten times the primal one. It stays within bounds, rests for some rounds after a change, and
    changes a limited number of times.

    If rho changes, theta is re-based at once: theta + Σ p_i y_i (1/rho new - 1/rho) is the mean of w + y/rho new. So
    cars measure the change of w + y/rho with a single penalty, that of the round.

    Two cars go from 0 to 3 and to -2.8. They disagree and theta hardly moves, so rho doubles to 2, and theta becomes
    the mean of w + y / 2, of 4.5 and -4.2:

    >>> from torch import tensor
    >>> algorithm, theta = BalancedFedADMM(rho=1.0), tensor([0.0])
    >>> shared, memory = algorithm.init_shared(theta)._replace(calm=5.0), algorithm.init_memory(theta)
    >>> sent = [algorithm.contribute(Local(tensor([w]), 5, 10, 0.5), shared, memory)[0] for w in (3.0, -2.8)]
    >>> mean = Contribution(*((first + second) / 2 for first, second in zip(*sent)))
    >>> algorithm.update(shared, mean, participation=1.0)[:2]
    (tensor([0.1500], dtype=torch.float64), 2.0)
    """

    rho: float | None = option(None, "Penalty that starts as auto does and follows the residuals.", words=("balanced",),
                               at_least=1e-30, at_most=1e30)
    server_only = ("first_rho", "mean_dual", "changes", "calm")

    def init_shared(self, theta: Tensor) -> Shared:
        rho = math.inf if self.rho is None else self.rho
        mean_dual = theta.new_zeros(theta.shape).double()  # as `update` returns it
        return Shared(theta, rho, rho, mean_dual, 0.0, 0.0)

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
        theta = shared.theta + self.step_scale(participation) * mean.change
        mean_dual = shared.mean_dual + participation * mean.dual_change
        rho = self._balanced(shared, math.sqrt(mean.squared_gap),
                             shared.rho * float((theta - shared.theta).norm()))
        if rho == shared.rho:
            return shared._replace(theta=theta, mean_dual=mean_dual, calm=shared.calm + 1)
        return shared._replace(theta=theta + mean_dual * (1 / rho - 1 / shared.rho), rho=rho, mean_dual=mean_dual,
                               changes=shared.changes + 1, calm=0.0)

    def _balanced(self, shared: Shared, primal: float, dual: float) -> float:
        """Return the next round's rho."""
        if shared.calm < COOL_DOWN or shared.changes >= MOST_CHANGES:
            return shared.rho
        rho = shared.rho
        if primal > IMBALANCE * dual:
            rho *= FACTOR
        elif dual > IMBALANCE * primal:
            rho /= FACTOR
        return min(max(rho, shared.first_rho / RANGE), shared.first_rho * RANGE)
