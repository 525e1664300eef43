"""FedDyn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fedsim.algorithms.base import Algorithm, Local
from fedsim.options import option

if TYPE_CHECKING:
    from torch import Tensor


class Shared(NamedTuple):
    """The coordinator's state; cars are sent theta and alpha."""

    theta: Tensor  # (d,) global vector
    alpha: float  # weight of the proximal term this round
    h: Tensor  # (d,) the coordinator's own: Σ p_i g_i


@dataclass(frozen=True)
class FedDyn(Algorithm):
    """Local problems whose linear term makes their stationary points agree with the global one.

    Acar, Zhao, Matas Navarro, Mattina, Whatmough, Saligrama 2021, "Federated Learning Based on Dynamic
    Regularization", ICLR, arXiv:2111.04263, Algorithm 1:

        w_i <- argmin f_i(w) - <g_i, w> + alpha/2 |w - theta|^2;  g_i <- g_i - alpha (w_i - theta)
        h <- h - alpha Σ_S p_i (w_i - theta);  theta <- mean_S w_i - h / alpha

    Invariant after every round, whoever took part: h = Σ p_i g_i over all cars. With all cars it is FedADMM with
    rho = alpha and y_i = -g_i; with part of them, theta holds the mean of the round's w_i where FedADMM's holds that of
    every car's latest.
    """

    alpha: float | None = option(None, "Weight of the dynamic regularisation: a number, or auto, which matches it to "
                                 "the local work.", name="dyn_alpha", words=("auto",), at_least=1e-30, at_most=1e30)
    kappa: float = option(0.7, "alpha = auto times the local step length.", flag=False, above=0, at_most=1e30)
    name = "dyn"
    aliases = ("feddyn",)
    title = "FedDyn"
    paper = "Acar et al. 2021, arXiv:2111.04263"
    weighting = "uniform"
    sends_model = True
    rests_on_mean = "h is no longer the mean of the cars' linear terms, so theta settles elsewhere"
    server_only = ("h",)

    @property
    def needs_step_length(self) -> bool:
        return self.alpha is None

    def init_shared(self, theta: Tensor) -> Shared:
        return Shared(theta, math.inf if self.alpha is None else self.alpha, theta.new_zeros(theta.shape))

    def init_memory(self, theta: Tensor) -> Tensor:
        return theta.new_zeros(theta.shape)  # g_i

    def begin_round(self, shared: Shared, step_length: float | None) -> Shared:
        if self.alpha is not None or step_length is None:
            return shared
        return shared._replace(alpha=self.kappa / step_length)

    def correction(self, w: Tensor, shared: Shared, memory: Tensor) -> Tensor:
        return shared.alpha * (w - shared.theta) - memory

    def contribute(self, local: Local, shared: Shared, memory: Tensor) -> tuple[Tensor, Tensor]:
        return local.w, memory - shared.alpha * (local.w - shared.theta)

    def update(self, shared: Shared, mean: Tensor, participation: float) -> Shared:
        h = shared.h - shared.alpha * participation * (mean - shared.theta)
        return Shared(mean - h / shared.alpha, shared.alpha, h)
