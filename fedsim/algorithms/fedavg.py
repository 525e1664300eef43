"""FedAvg."""

from dataclasses import dataclass

from torch import Tensor

from fedsim.algorithms.base import Algorithm, Local, Shared


@dataclass(frozen=True)
class FedAvg(Algorithm):
    """minimise Σ p_i f_i(w) by averaging local models: theta <- Σ_S n_i w_i / Σ_S n_i.

    McMahan, Moore, Ramage, Hampson, Agüera y Arcas 2017, arXiv:1602.05629, Algorithm 1.
    """

    def contribute(self, local: Local, shared: Shared, memory: None) -> tuple[Tensor, None]:
        return local.w, None

    def update(self, shared: Shared, mean: Tensor, participation: float) -> Shared:
        return Shared(mean)
