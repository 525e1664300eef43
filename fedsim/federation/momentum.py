"""Momentum across rounds: what the local optimiser of a car starts a round with.

    none      no momentum: it starts anew
    average   the momentum that the cars of the round before have ended with, combined as their contributions are, and
              sent with theta
    own       the momentum that the car itself has ended its latest round with
    step      the move of theta in the round before, divided by the learning rate and the number of steps: the mean
              velocity on the way. No car sends it

Short rounds need it. SGD with momentum beta multiplies a step by 1 / (1 - beta) in the end, but a momentum that starts
anew has to be built up first, which takes about 1 / (1 - beta) steps.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from fedsim.federation.federation import Federation
from fedsim.federation.optimizers import Momentum, Velocity, change_vectors, read_unit_velocity
from fedsim.federation.state import CarReport, State


def begin_momentum(federation: Federation) -> Momentum | None:
    """Return the momentum (d,) before round 1, or None if cars do not share it."""
    training = federation.training
    if training.across_rounds not in ("average", "step"):
        return None
    return training.optimizer.make_momentum(federation.model.theta)


def choose_momentum(federation: Federation, state: State, own: Momentum | None) -> Momentum | None:
    """Return the momentum (d + e,) that a car starts a round with. own: the car's own, if cars keep it.

    Parameters that a car keeps for itself are not among those that cars share the momentum of: theirs starts at 0.
    """
    shared = state.momentum
    if shared is None or not federation.model.affine.numel():
        return own if shared is None else shared
    zeros = torch.zeros_like(federation.model.affine)
    return change_vectors(shared, lambda part: torch.cat([part, zeros]))


def keep_shared_part(federation: Federation, momentum: Momentum) -> Momentum:
    """Return the momentum (d,) of the parameters that cars share, without those that each keeps for itself."""
    size = federation.model.theta.numel()
    return change_vectors(momentum, lambda part: part[:size])


def carry_step(federation: Federation, before: State, shared: Any, after: State, reports: Mapping[int, CarReport],
               lr: float) -> State:
    """Return the state after a round with the momentum that the move of theta stands for.

    before: the state before the round; shared: the shared state that the cars received; after: the state with the new
    theta; reports: car -> its report, of the cars that were combined. The lengths of their steps along unit gradients,
    per learning rate and step, are the velocity that unit gradients would have given.
    """
    optimizer, weights = federation.training.optimizer, federation.fleet.weights
    unit = read_unit_velocity(before.momentum)
    lengths = [(weights[car], report.steps, optimizer.step_length(lr, int(report.steps), unit=unit) or 0.0)
               for car, report in reports.items()]
    total = sum(weight for weight, _, _ in lengths)
    way = lr * sum(weight * steps for weight, steps, _ in lengths) / total
    length = sum(weight * length for weight, _, length in lengths) / total
    return replace(after, momentum=Velocity((shared.theta - after.shared.theta) / way, length / way))
