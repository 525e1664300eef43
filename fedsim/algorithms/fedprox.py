"""FedProx: FedAvg with a proximal term in every car's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedsim.algorithms.fedavg import FedAvg
from fedsim.options import option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FedProx(FedAvg):
    """FedAvg on the local problem f_i(w) + mu/2 |w - theta|^2, solved inexactly.

    Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith 2020, "Federated Optimization in Heterogeneous Networks", MLSys,
    arXiv:1812.06127, Algorithm 2. mu = 0 is FedAvg, to the bit. As in the authors' code, cars are sampled uniformly
    and averaged with their numbers of images as weights.

    A car at w = 3 pulls every gradient back towards theta = 1, by mu (w - theta) = 0.5 · 2:

    >>> algorithm = FedProx(mu=0.5)
    >>> shared = algorithm.init_shared(1.0)
    >>> gradient = 2.0
    >>> 3.0 - 0.25 * (gradient + algorithm.correction(3.0, shared, None))  # a step of learning rate 0.25
    2.25
    """

    # The authors search 0.001 to 1.
    mu: float = option(0.01, "Weight of the proximal term.", at_least=0, at_most=1e38)
    name = "prox"
    aliases = ("fedprox",)
    title = "FedProx"
    paper = "Li et al. 2020, arXiv:1812.06127"

    def correction(self, w: Tensor, shared: Any, memory: Any) -> Tensor:
        return self.mu * (w - shared.theta)
