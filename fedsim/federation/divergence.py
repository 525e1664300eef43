"""A guard that notices divergence while the numbers are still finite.

It watches two norms from round to round: that of the step, ‖theta - theta before‖, and, with dual variables, that of
their mean over the cars that have taken part so far, which is 0 at a solution. Both are judged per weight of their
cars. Or else a car that weighs ten times as much as others would look like divergence in the round that draws it.

In a healthy run they grow at first, at most in proportion to the number of rounds, while the dual variables warm up.
Then they shrink, unevenly if some cars sit out. In a diverging run they grow by a factor in every round.
"""

from itertools import pairwise
from statistics import median
from typing import NamedTuple

GROWTH = 1.25  # factor in one round; growth in proportion to the rounds is slower from the fifth round on
ROUNDS = 5  # rounds of growth in a row; also the number of first rounds that show the usual norms
JUMP = 10.0  # a norm over this multiple of the usual one is trouble,
RECORD = 2.0  # if it is also over this multiple of the largest so far: the first round of a car moves theta the most

ACTIONS = ("warn", "stop", "rollback")
REMEDY = "try a smaller --lr, and with admm a larger --rho and no --server-step of your own"
MOST_ROLLBACKS = 3  # a run that diverges again at an eighth of its learning rate has another reason


class Watch(NamedTuple):
    """The norms of all rounds so far, the latest last. Norms of 0 are left out because they tell nothing."""

    steps: tuple[float, ...] = ()
    duals: tuple[float, ...] = ()
    warned: bool = False


def watch(before: Watch, step: float, mean_dual: float | None) -> tuple[Watch, str | None]:
    """Add a round's norms to those seen before. Also return what is wrong with the round, or None.

    step: of theta, divided by the algorithm's `step_scale`; mean_dual: None without dual variables.
    """
    steps = (*before.steps, step) if step else before.steps
    duals = (*before.duals, mean_dual) if mean_dual else before.duals
    trouble = (_find_trouble("the step of theta", steps) if step else None) or (
        _find_trouble("the mean dual", duals) if mean_dual else None)
    return Watch(steps, duals, before.warned), trouble


def _find_trouble(name: str, norms: tuple[float, ...]) -> str | None:
    """Return what is wrong with the latest norm, or None. Nothing is wrong if an earlier norm was as large.

    All norms are above 0.
    """
    *before, now = norms
    if len(before) < ROUNDS or now <= max(before):
        return None
    usual = median(before[-2 * ROUNDS :])
    if now > max(JUMP * usual, RECORD * max(before)):
        return f"{name} is {now:.3g}, over {JUMP:g} times its usual {usual:.3g}"
    recent = norms[-ROUNDS - 1 :]
    if all(later >= GROWTH * earlier for earlier, later in pairwise(recent)):
        return f"{name} has grown in each of {ROUNDS} rounds, from {recent[0]:.3g} to {now:.3g}"
    first, latest = median(norms[:ROUNDS]), median(recent[1:])
    if latest > JUMP * first * len(norms) / ROUNDS:
        return f"{name} has grown from {first:.3g} to {latest:.3g}, which is more than in proportion to the rounds"
    return None
