"""FedDyn: dynamic regularisation of the local problems."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fedsim.algorithms.base import Algorithm, Local
from fedsim.options import option

if TYPE_CHECKING:
    from torch import Tensor


class Shared(NamedTuple):
    """The coordinator's state. Cars receive theta and alpha."""

    theta: Tensor  # (d,) global vector
    alpha: float  # weight of the proximal term this round
    h: Tensor  # (d,) Σ p_i g_i, which only the coordinator keeps


@dataclass(frozen=True)
class FedDyn(Algorithm):
    """Local problems with a linear term that makes their stationary points agree with the global one.

    Acar, Zhao, Matas Navarro, Mattina, Whatmough, Saligrama 2021, "Federated Learning Based on Dynamic
    Regularization", ICLR, arXiv:2111.04263, Algorithm 1:

        w_i <- argmin f_i(w) - <g_i, w> + alpha/2 |w - theta|^2;  g_i <- g_i - alpha (w_i - theta)
        h <- h - alpha Σ_S p_i (w_i - theta);  theta <- mean_S w_i - h / alpha

    Invariant after every round, whichever cars took part: h = Σ p_i g_i over all cars. If all cars take part it is
    FedADMM with rho = alpha and y_i = -g_i. If only some do, theta contains the mean of the w_i of this round's cars,
    while FedADMM's theta contains the mean of the latest w_i of all cars.

    Two cars go from 0 to 1 and to 3. The result is that of the example of FedADMM:

    >>> algorithm, shared = FedDyn(alpha=2.0), Shared(theta=0.0, alpha=2.0, h=0.0)
    >>> algorithm.contribute(Local(w=1.0, steps=5, images=10, step_length=0.5), shared, memory=0.0)
    (1.0, -2.0)
    >>> algorithm.contribute(Local(w=3.0, steps=5, images=10, step_length=0.5), shared, memory=0.0)
    (3.0, -6.0)
    >>> algorithm.update(shared, mean=(1.0 + 3.0) / 2, participation=1.0)
    Shared(theta=4.0, alpha=2.0, h=-4.0)
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
        return Shared(theta, math.inf if self.alpha is None else self.alpha,
                      theta.new_zeros(theta.shape).double())  # h, in float64 as `update` returns it

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
