"""What a car sends, whatever the algorithm: as parts that can be combined, and as a move that can be bounded.

A contribution is a (d,) tensor, or a NamedTuple of (d,) tensors and floats. Its parts are tensors: vectors as they are,
floats as 0-dim float64. The first vector is the move of the car's model, or its model itself, theta + move.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def to_parts(contribution: Any) -> list[Tensor]:
    """The parts of a contribution."""
    fields = contribution if isinstance(contribution, tuple) else (contribution,)
    return [field if isinstance(field, Tensor) else torch.tensor(field, dtype=torch.float64) for field in fields]


def from_parts(parts: Sequence[Tensor], like: Any) -> Any:
    """A contribution of the type of `like`."""
    if not isinstance(like, tuple):
        return parts[0]
    kind: Any = type(like)
    return kind(*(part if isinstance(was, Tensor) else float(part) for part, was in zip(parts, like, strict=True)))


def move_by(contribution: Any, theta: Tensor, sends_model: bool, change: Callable[[Tensor], Tensor]) -> Any:
    """The contribution with every vector's move replaced by change(move)."""
    parts = to_parts(contribution)
    for place, part in enumerate(parts):
        if part.ndim:
            origin = theta if sends_model and place == 0 else torch.zeros_like(theta)
            parts[place] = origin + change(part - origin)
    return from_parts(parts, contribution)


def move_norm(contribution: Any, theta: Tensor, sends_model: bool) -> float:
    """‖move‖ of the car's model; in float64, since squares of large float32 numbers overflow."""
    first = to_parts(contribution)[0]
    return float(torch.linalg.vector_norm(first - theta if sends_model else first, dtype=torch.float64))


def clip(contribution: Any, theta: Tensor, sends_model: bool, bound: float, unit: float = 1.0) -> Any:
    """Shorten the move to `bound` if it is longer, and whatever else is sent by the same factor.

    unit: how far theta is to move for a first vector of length 1.

    Norm bounding: Sun, Kairouz, Suresh, McMahan 2019, "Can You Really Backdoor Federated Learning?", arXiv:1911.07963.
    A contribution within the bound is left as it is, to the bit.
    """
    norm = unit * move_norm(contribution, theta, sends_model)
    if norm <= bound:
        return contribution
    return move_by(contribution, theta, sends_model, lambda move: move * (bound / norm))
