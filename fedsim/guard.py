"""Divergence, noticed while the numbers are still finite.

Two norms are watched from round to round: that of the step, ‖theta - theta before‖, and with duals that of their mean,
‖Σ p_i y_i‖, which is 0 at a solution. A healthy run's grow at first, as duals warm up, at most in proportion to the
number of rounds; a diverging one's grow by a factor.
"""

from itertools import pairwise
from statistics import median
from typing import NamedTuple

GROWTH = 1.25  # a round; growth in proportion to the rounds falls below it in the fifth
ROUNDS = 5  # in a row
JUMP = 10.0  # times the median of the rounds before, of which there must be ROUNDS
KEPT = 2 * ROUNDS + 1  # rounds that a judgement looks back on

ACTIONS = ("warn", "stop", "rollback")


class Watch(NamedTuple):
    """What the guard remembers."""

    steps: tuple[float, ...] = ()  # of the latest rounds, the latest last
    duals: tuple[float, ...] = ()
    warned: bool = False


def watch(before: Watch, step: float, mean_dual: float | None) -> tuple[Watch, str | None]:
    """Look at a round; what is wrong with it, or None."""
    steps = (*before.steps, step)[-KEPT:]
    duals = before.duals if mean_dual is None else (*before.duals, mean_dual)[-KEPT:]
    return Watch(steps, duals, before.warned), _wrong("the step of theta", steps) or _wrong("the mean dual", duals)


def _wrong(name: str, norms: tuple[float, ...]) -> str | None:
    *before, now = norms or (0.0,)
    if len(before) >= ROUNDS and now > JUMP * median(before) > 0:
        return f"{name} is {now:.3g}, over {JUMP:g} times its usual {median(before):.3g}"
    recent = norms[-ROUNDS - 1 :]
    grew = [later >= GROWTH * earlier > 0 for earlier, later in pairwise(recent)]
    if len(grew) == ROUNDS and all(grew):
        return f"{name} has grown in each of {ROUNDS} rounds, from {recent[0]:.3g} to {now:.3g}"
    return None
