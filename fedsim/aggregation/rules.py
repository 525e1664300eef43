"""The rules of robust aggregators, as pure functions.

They take u (n, b), a block of columns of the n contributions in float64, or (n, n) matrices of squared distances and
inner products. Sums over cars are taken in sorted order, so the order of the cars does not change a bit.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pdist

# The most steps of Weiszfeld's iteration. It takes tens of steps, and more if the median lies close to a contribution
# without being one. If the steps run out, the result is within a ten thousandth of the distances.
STEPS = 2000
SETTLED = 1e-13  # relative change of the weights in a step that is only rounding


def median(u: Tensor) -> Tensor:
    """Return the coordinatewise median (b,) of u (n, b).

    For even n it is the mean of the two numbers in the middle, while torch.median takes the lower one.
    """
    ordered = _sort(u)
    return (ordered[(len(u) - 1) // 2] + ordered[len(u) // 2]) / 2


def trimmed_mean(u: Tensor, dropped: int) -> Tensor:
    """Return the mean (b,) of u (n, b) without the `dropped` smallest and largest numbers of every coordinate."""
    kept = _sort(u)[dropped : len(u) - dropped]
    return _sum_sorted(kept) / len(kept)


def squared_distances(u: Tensor) -> Tensor:
    """Return the squared distances ‖u_i - u_j‖² (n, n) of the rows of u (n, b).

    They are computed from differences, because ‖u_i‖² + ‖u_j‖² - 2 <u_i, u_j> cancels if vectors are far from zero and
    close together.
    """
    squared = torch.zeros(len(u), len(u), dtype=torch.float64)
    above, beside = torch.triu_indices(len(u), len(u), offset=1)
    squared[above, beside] = pdist(u).square_()
    return squared + squared.T


def krum_scores(squared: Tensor, hostile: int) -> Tensor:
    """Return Krum's scores (n,): the sums of squared distances to the n - hostile - 2 nearest other contributions."""
    nearest = len(squared) - hostile - 2
    if nearest < 1:
        raise ValueError(f"Krum with {hostile} hostile cars needs {hostile + 3} contributions, not {len(squared)}")
    return _sum_sorted(_sort(squared)[1 : 1 + nearest])  # the first is the distance to itself, or to one like it


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return weights (n,): 1 / count for the `count` lowest scores, 0 for others. Lower slots win ties."""
    weights = torch.zeros_like(scores)
    weights[scores.sort(stable=True).indices[:count]] = 1 / count
    return weights


def medoid(squared: Tensor, q: Tensor) -> Tensor:
    """Return weights (n,) that select the contribution u_i with the smallest Σ q_j ‖u_j - u_i‖.

    If several distinct contributions have the smallest sum, they get equal weights. squared: (n, n) squared distances;
    q: (n,) shares.
    """
    cost = _sum_sorted(q[:, None] * squared.sqrt())
    least = (cost == cost.min()).nonzero().flatten().tolist()
    distinct = [i for place, i in enumerate(least) if all(squared[i, j] > 0 for j in least[:place])]
    weights = torch.zeros_like(q)
    weights[distinct] = 1 / len(distinct)
    return weights


def inner_products(u: Tensor, origin: Tensor) -> Tensor:
    """Return the inner products <u_i - o, u_j - o> (n, n), with o = Σ origin_i u_i. u: (n, b); origin: (n,) weights.

    They are computed pair by pair, because the rounding of a matrix product depends on a vector's place in it.
    """
    inner = torch.empty(len(u), len(u), dtype=torch.float64)
    gaps = u - combination(u, origin)
    for i, j in torch.triu_indices(len(u), len(u)).T.tolist():
        inner[i, j] = inner[j, i] = (gaps[i] * gaps[j]).sum()
    return inner


def geometric_median(inner: Tensor, q: Tensor, origin: Tensor) -> Tensor:
    """Return weights λ (n,), Σ λ_i = 1, of the point z = Σ λ_i u_i with the smallest Σ q_i ‖z - u_i‖.

    q: (n,) shares. origin: (n,) weights of o, the `medoid`. inner: (n, n) inner products of v_i = u_i - o.

    Weiszfeld's iteration on λ, after a first step by Vardi & Zhang 2000, "The multivariate L1-median and associated
    data depth", PNAS 97(4). If a contribution is the median, it is the medoid, and the first step stays there. If not,
    the first step ends at a cost below that of every contribution, so Weiszfeld's iteration never meets a contribution
    and no distance needs smoothing.

    Squared distances would be enough on paper, but they lose the direction to a far outlier: at distance R their error
    is 1e-16 R², which hides everything closer than 1e-16 R. Inner products relative to a nearby o keep it.
    """
    squares = inner.diagonal()
    here, lengths = squares == 0, squares.sqrt()
    pull = torch.where(here, 0, q / lengths)
    force = float(_sum_sorted(pull * _sum_sorted(pull[:, None] * inner)).clamp(min=0).sqrt())  # ‖Σ q_i v_i / ‖v_i‖‖
    holds = float(_sum_sorted(torch.where(here, q, 0)))
    if force <= holds:
        return origin
    weights = torch.lerp(pull / _sum_sorted(pull), origin, holds / force)
    nearest = lengths[~here].min() * 1e-12  # keeps distances above 0 if rounding makes them 0; scales with u
    for _ in range(STEPS):
        along = _sum_sorted(weights[:, None] * inner)  # <v_i, z - o>
        apart = (squares - 2 * along + _sum_sorted(weights * along)).clamp(min=nearest.square()).sqrt()  # ‖z - u_i‖
        before, weights = weights, q / apart
        weights = weights / _sum_sorted(weights)
        if ((weights - before).abs() <= SETTLED * weights).all():
            break
    return weights


def combination(u: Tensor, weights: Tensor) -> Tensor:
    """Return Σ weights_i u_i (b,). With a single weight of 1 it is that contribution to the bit."""
    used = weights.nonzero().flatten()
    return _sum_sorted(weights[used, None] * u[used])


def _sort(values: Tensor) -> Tensor:
    """Sort over the first axis, by NumPy, which takes a third of torch's time."""
    return torch.from_numpy(np.sort(values.numpy(), axis=0))


def _sum_sorted(values: Tensor) -> Tensor:
    """Sum over the first axis, with the same bits in any order of the rows.

    Rows are added one after another, because the rounding of a column in torch.sum depends on the column's place.
    """
    first, *others = _sort(values)
    total = first.clone()
    for row in others:
        total += row
    return total
