"""FedProx."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fedsim.algorithms.fedavg import FedAvg


@dataclass(frozen=True)
class FedProx(FedAvg):
    """FedAvg on the local problem f_i(w) + mu/2 |w - theta|^2, solved as far as a car gets.

    Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith 2020, "Federated Optimization in Heterogeneous Networks", MLSys,
    arXiv:1812.06127, Algorithm 2. mu = 0 is FedAvg, to the bit. As in the authors' code, cars are sampled uniformly
    and averaged by their images.
    """

    mu: float = 0.01  # >= 0; the authors search 0.001 to 1
    title = "FedProx"
    paper = "Li et al. 2020, arXiv:1812.06127"

    def __post_init__(self) -> None:
        if not 0 <= self.mu < math.inf:
            raise ValueError(f"mu is {self.mu}; the weight of FedProx's proximal term is at least 0")

    def correction(self, w: Tensor, shared: Any, memory: Any) -> Tensor:
        return self.mu * (w - shared.theta)
