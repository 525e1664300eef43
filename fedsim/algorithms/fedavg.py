"""FedAvg: the weighted mean of the cars' models."""

from dataclasses import dataclass
from typing import Any

from fedsim.algorithms.base import Algorithm, Local


@dataclass(frozen=True)
class FedAvg(Algorithm):
    """Federated averaging minimises Σ p_i f_i(w) by averaging local models: theta <- Σ_S n_i w_i / Σ_S n_i.

    McMahan, Moore, Ramage, Hampson, Agüera y Arcas 2017, arXiv:1602.05629, Algorithm 1.

    Two cars with models of one parameter; the second car has three times the images, so three times the weight:

    >>> algorithm = FedAvg()
    >>> shared = algorithm.init_shared(0.0)
    >>> first, _ = algorithm.contribute(Local(w=2.0, steps=5, images=10, step_length=0.5), shared, None)
    >>> second, _ = algorithm.contribute(Local(w=6.0, steps=15, images=30, step_length=1.5), shared, None)
    >>> algorithm.update(shared, (10 * first + 30 * second) / 40, participation=1.0)
    Shared(theta=5.0)
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
