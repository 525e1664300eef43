"""SCAFFOLD: local gradients corrected by control variates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fedsim.algorithms.base import Algorithm, Local

if TYPE_CHECKING:
    from torch import Tensor


class Shared(NamedTuple):
    """The state that the coordinator sends to every car of a round."""

    theta: Tensor  # (d,) global vector
    c: Tensor  # (d,) control variate: an estimate of the gradient of Σ p_i f_i


class Contribution(NamedTuple):
    """The contribution of a car."""

    move: Tensor  # (d,) w_i - theta
    control: Tensor  # (d,) change of c_i


@dataclass(frozen=True)
class Scaffold(Algorithm):
    """Local gradients corrected by c - c_i, which keeps cars from drifting towards their own minima.

    Karimireddy, Kale, Mohri, Reddi, Stich, Suresh 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated
    Learning", ICML, arXiv:1910.06378, Algorithm 1 with option II:

        c_i <- c_i - c + (theta - w_i) / (K lr)
        theta <- theta + mean_S (w_i - theta);  c <- c + P_S mean_S (change of c_i)

    K lr stands for how far the steps go along a constant gradient, and here that length itself is used. For plain steps
    it is K lr. With momentum it is more, and dividing by K lr would overshoot and diverge for any lr.

    Invariant after every round, whichever cars took part: c = Σ p_i c_i over all cars.

    Two cars go from 0 to -1 and to -3, with steps of length 0.5 in sum. Their mean gradients on the way are 2 and 6:

    >>> algorithm, shared = Scaffold(), Shared(theta=0.0, c=0.0)
    >>> algorithm.contribute(Local(w=-1.0, steps=5, images=10, step_length=0.5), shared, memory=0.0)
    (Contribution(move=-1.0, control=2.0), 2.0)
    >>> algorithm.contribute(Local(w=-3.0, steps=5, images=10, step_length=0.5), shared, memory=0.0)
    (Contribution(move=-3.0, control=6.0), 6.0)
    >>> algorithm.update(shared, Contribution(move=-2.0, control=4.0), participation=1.0)
    Shared(theta=-2.0, c=4.0)
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
