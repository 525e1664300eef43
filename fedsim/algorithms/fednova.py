"""FedNova: averages directions and step lengths apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fedsim.algorithms.base import Local
from fedsim.algorithms.fedprox import FedProx
from fedsim.options import option

if TYPE_CHECKING:
    from torch import Tensor


class Contribution(NamedTuple):
    """The contribution of a car."""

    direction: Tensor  # (d,) -d_i = (w_i - theta) / (lr ‖a_i‖₁): the mean step along its corrected gradients
    step_length: float  # lr ‖a_i‖₁


@dataclass(frozen=True)
class FedNova(FedProx):
    """FedAvg in which a car's influence depends on its data and not on its number of steps.

    Wang, Liu, Liang, Joshi, Poor 2020, "Tackling the Objective Inconsistency Problem in Heterogeneous Federated
    Optimization", NeurIPS, arXiv:2007.07481, eq. 6-8:

        theta <- theta - lr tau_eff Σ p_i d_i / P_S,  tau_eff = Σ p_i ‖a_i‖₁ / P_S

    ‖a_i‖₁ is how far the local solver goes along a constant unit gradient, over lr: K for plain steps, more with
    momentum, less with a proximal term (mu > 0). If all cars do the same local work it is FedAvg, with mu > 0 FedProx.

    The second car takes four times the steps of the first. It still has half of the influence on the direction:

    >>> algorithm = FedNova()
    >>> shared = algorithm.init_shared(0.0)
    >>> first, _ = algorithm.contribute(Local(w=-0.5, steps=1, images=10, step_length=0.25), shared, None)
    >>> second, _ = algorithm.contribute(Local(w=-1.0, steps=4, images=10, step_length=1.0), shared, None)
    >>> first.direction, second.direction
    (-2.0, -1.0)
    >>> algorithm.update(shared, Contribution(direction=-1.5, step_length=0.625), participation=1.0)
    Shared(theta=-0.9375)
    """

    mu: float = option(0.0, "Weight of the proximal term.", at_least=0, at_most=1e38)
    name = "nova"
    aliases = ("fednova",)
    title = "FedNova"
    paper = "Wang et al. 2020, arXiv:2007.07481"
    sends_model = False
    needs_step_length = True
    rests_on_mean = "directions and step lengths are combined apart, and only their means belong together"

    @property
    def damping(self) -> float:
        return self.mu

    def contribute(self, local: Local, shared: Any, memory: Any) -> tuple[Contribution, Any]:
        assert local.step_length is not None
        return Contribution((local.w - shared.theta) / local.step_length, local.step_length), memory

    def unit(self, contribution: Contribution) -> float:
        return contribution.step_length

    def update(self, shared: Any, mean: Contribution, participation: float) -> Any:
        return shared._replace(theta=shared.theta + mean.step_length * mean.direction)
