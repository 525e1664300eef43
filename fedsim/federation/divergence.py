"""Divergence, noticed while the numbers are still finite.

Two norms are watched from round to round: that of the step, ‖theta - theta before‖, and with duals that of their mean,
‖Σ p_i y_i‖, which is 0 at a solution. A healthy run's grow at first, as duals warm up, at most in proportion to the
number of rounds, and then shrink, with part of the cars by fits and starts; a diverging one's grow by a factor.
"""

from itertools import pairwise
from statistics import median
from typing import NamedTuple

GROWTH = 1.25  # a round; growth in proportion to the rounds falls below it in the fifth
ROUNDS = 5  # in a row; and the first ones, that show what is usual
JUMP = 10.0  # times what is usual

ACTIONS = ("warn", "stop", "rollback")
REMEDY = "try a smaller --lr, and with admm a larger --rho and no --server-step of your own"
MOST_ROLLBACKS = 3  # a run that diverges again at an eighth of its learning rate has another reason


class Watch(NamedTuple):
    """What the guard remembers: norms of all rounds, the latest last, but those that were 0 and tell nothing."""

    steps: tuple[float, ...] = ()
    duals: tuple[float, ...] = ()
    warned: bool = False


def watch(before: Watch, step: float, mean_dual: float | None) -> tuple[Watch, str | None]:
    """Look at a round; what is wrong with it, or None."""
    steps = (*before.steps, step) if step else before.steps
    duals = (*before.duals, mean_dual) if mean_dual else before.duals
    trouble = (_wrong("the step of theta", steps) if step else None) or (
        _wrong("the mean dual", duals) if mean_dual else None)
    return Watch(steps, duals, before.warned), trouble


def _wrong(name: str, norms: tuple[float, ...]) -> str | None:
    """What is wrong with the latest of the norms; all are above 0. Nothing, if there was one as large before."""
    *before, now = norms
    if len(before) < ROUNDS or now <= max(before):
        return None
    usual = median(before[-2 * ROUNDS :])
    if now > JUMP * usual:
        return f"{name} is {now:.3g}, over {JUMP:g} times its usual {usual:.3g}"
    recent = norms[-ROUNDS - 1 :]
    if all(later >= GROWTH * earlier for earlier, later in pairwise(recent)):
        return f"{name} has grown in each of {ROUNDS} rounds, from {recent[0]:.3g} to {now:.3g}"
    first, latest = median(norms[:ROUNDS]), median(recent[1:])
    if latest > JUMP * first * len(norms) / ROUNDS:
        return f"{name} has grown from {first:.3g} to {latest:.3g}, which is more than in proportion to the rounds"
    return None
