"""FedAvg."""

from dataclasses import dataclass
from typing import Any

from fedsim.algorithms.base import Algorithm, Local


@dataclass(frozen=True)
class FedAvg(Algorithm):
    """minimise Σ p_i f_i(w) by averaging local models: theta <- Σ_S n_i w_i / Σ_S n_i.

    McMahan, Moore, Ramage, Hampson, Agüera y Arcas 2017, arXiv:1602.05629, Algorithm 1.
    """

    name = "avg"
    aliases = ("fedavg",)
    title = "FedAvg"
    paper = "McMahan et al. 2017, arXiv:1602.05629"
    sends_model = True
    free_server_step = True

    def contribute(self, local: Local, shared: Any, memory: Any) -> tuple[Any, Any]:
        return local.w, memory

    def update(self, shared: Any, mean: Any, participation: float) -> Any:
        return shared._replace(theta=mean)
