"""FedNova."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fedsim.algorithms.base import Local
from fedsim.algorithms.fedprox import FedProx
from fedsim.options import option

if TYPE_CHECKING:
    from torch import Tensor


class Contribution(NamedTuple):
    """What a car sends."""

    direction: Tensor  # (d,) -d_i = (w_i - theta) / (lr ‖a_i‖₁): the mean step along its corrected gradients
    step_length: float  # lr ‖a_i‖₁


@dataclass(frozen=True)
class FedNova(FedProx):
    """FedAvg whose cars count by their data, not by how many steps they took.

    Wang, Liu, Liang, Joshi, Poor 2020, "Tackling the Objective Inconsistency Problem in Heterogeneous Federated
    Optimization", NeurIPS, arXiv:2007.07481, eq. 6-8:

        theta <- theta - lr tau_eff Σ p_i d_i / P_S,  tau_eff = Σ p_i ‖a_i‖₁ / P_S

    ‖a_i‖₁ is what the local solver makes of a constant unit gradient: K for plain steps, more with momentum, less
    with a proximal term (mu > 0). With equal local work it is FedAvg, with mu FedProx.
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
