"""The move in a contribution: measure it, change it, bound it.

The first vector of a contribution is the move of the car's model, or its model itself, theta + move.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fedsim.federation.bundles import from_tensors, to_tensors


def move_by(contribution: Any, theta: Tensor, sends_model: bool, change: Callable[[Tensor], Tensor]) -> Any:
    """Return the contribution with every vector's move replaced by change(move)."""
    tensors = to_tensors(contribution)
    for index, tensor in enumerate(tensors):
        if tensor.ndim:
            origin = theta if sends_model and index == 0 else torch.zeros_like(theta)
            tensors[index] = origin + change(tensor - origin)
    return from_tensors(tensors, contribution)


def move_norm(contribution: Any, theta: Tensor, sends_model: bool) -> float:
    """Return ‖move‖ of the car's model. It is computed in float64, since squares of large float32 numbers overflow."""
    first = to_tensors(contribution)[0]
    return float(torch.linalg.vector_norm(first - theta if sends_model else first, dtype=torch.float64))


def clip(contribution: Any, theta: Tensor, sends_model: bool, bound: float, unit: float = 1.0) -> Any:
    """Shorten a move that is longer than `bound` to `bound`, and all other vectors by the same factor.

    A contribution within the bound stays the same to the bit. unit: how far theta moves per unit length of the first
    vector.

    Norm bounding: Sun, Kairouz, Suresh, McMahan 2019, "Can You Really Backdoor Federated Learning?", arXiv:1911.07963.
    """
    norm = unit * move_norm(contribution, theta, sends_model)
    if norm <= bound:
        return contribution
    return move_by(contribution, theta, sends_model, lambda move: move * (bound / norm))
