"""SCAFFOLD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fedsim.algorithms.base import Algorithm, Local

if TYPE_CHECKING:
    from torch import Tensor


class Shared(NamedTuple):
    """What the coordinator sends to every car of a round."""

    theta: Tensor  # (d,) global vector
    c: Tensor  # (d,) control variate: an estimate of the gradient of Σ p_i f_i


class Contribution(NamedTuple):
    """What a car sends."""

    move: Tensor  # (d,) w_i - theta
    control: Tensor  # (d,) c_i's change


@dataclass(frozen=True)
class Scaffold(Algorithm):
    """Local gradients corrected by c - c_i, so that cars do not drift towards their own minima.

    Karimireddy, Kale, Mohri, Reddi, Stich, Suresh 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated
    Learning", ICML, arXiv:1910.06378, Algorithm 1 with option II:

        c_i <- c_i - c + (theta - w_i) / (K lr)
        theta <- theta + mean_S (w_i - theta);  c <- c + P_S mean_S (change of c_i)

    In the place of K lr stands what it is for: how far the steps go along a constant gradient. For plain steps that
    is K lr; with momentum it is more, and dividing by K lr there overshoots and diverges for any lr.

    Invariant after every round, whoever took part: c = Σ p_i c_i over all cars.
    """

    name = "scaffold"
    title = "SCAFFOLD"
    paper = "Karimireddy et al. 2020, arXiv:1910.06378"
    weighting = "uniform"
    free_server_step = True
    needs_step_length = True
    rests_on_mean = "c is no longer the mean of the cars' control variates, so the correction is biased"

    def init_shared(self, theta: Tensor) -> Shared:
        return Shared(theta, theta.new_zeros(theta.shape))

    def init_memory(self, theta: Tensor) -> Tensor:
        return theta.new_zeros(theta.shape)  # c_i

    def correction(self, w: Tensor, shared: Shared, memory: Tensor) -> Tensor:
        return shared.c - memory

    def contribute(self, local: Local, shared: Shared, memory: Tensor) -> tuple[Contribution, Tensor]:
        assert local.step_length is not None
        move = local.w - shared.theta
        control = memory - shared.c - move / local.step_length
        return Contribution(move, control - memory), control

    def update(self, shared: Shared, mean: Contribution, participation: float) -> Shared:
        return Shared(shared.theta + mean.move, shared.c + participation * mean.control)
