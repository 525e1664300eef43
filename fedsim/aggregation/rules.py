"""The rules of robust aggregators, as pure functions.

They work on u (n, b), a block of columns of the n contributions in float64, or on (n, n) matrices of squared distances
and inner products. Whatever is summed over cars is sorted first, so that the order of the cars changes no bit.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pdist

# Of Weiszfeld's iteration at most. It takes tens, but more the closer the median is to a contribution without being
# one; if they run out, the result is within a ten thousandth of the distances.
STEPS = 2000
SETTLED = 1e-13  # relative change of its weights in a step: what rounding leaves


def median(u: Tensor) -> Tensor:
    """(n, b) -> (b,) coordinatewise; for even n the mean of the two in the middle (torch.median takes the lower)."""
    ordered = _ascending(u)
    return (ordered[(len(u) - 1) // 2] + ordered[len(u) // 2]) / 2


def trimmed_mean(u: Tensor, fraction: float) -> Tensor:
    """(n, b) -> (b,) mean without the floor(fraction · n) least and greatest of every coordinate."""
    dropped = count_dropped(fraction, len(u))
    kept = _ascending(u)[dropped : len(u) - dropped]
    return _added(kept) / len(kept)


def count_dropped(fraction: float, count: int) -> int:
    # In floating point 0.29 * 100 is below 29, and 3 / 7 * 7 may be below 3. The bound keeps one at least.
    return min(int(fraction * count + 1e-9), (count - 1) // 2)


def squared_distances(u: Tensor) -> Tensor:
    """(n, b) -> (n, n) ‖u_i - u_j‖².

    By differences: ‖u_i‖² + ‖u_j‖² - 2 <u_i, u_j> would cancel where vectors are far from zero and close together.
    """
    squared = torch.zeros(len(u), len(u), dtype=torch.float64)
    above, beside = torch.triu_indices(len(u), len(u), offset=1)
    squared[above, beside] = pdist(u).square_()
    return squared + squared.T


def krum_scores(squared: Tensor, hostile: int) -> Tensor:
    """(n, n) squared distances -> (n,) the sum of those to the n - hostile - 2 nearest others."""
    nearest = len(squared) - hostile - 2
    if nearest < 1:
        raise ValueError(f"Krum with {hostile} hostile cars needs {hostile + 3} contributions, not {len(squared)}")
    return _added(_ascending(squared)[1 : 1 + nearest])  # the first is the distance to itself, or to one like it


def lowest(scores: Tensor, count: int) -> Tensor:
    """(n,) scores -> (n,) weights 1 / count of the `count` lowest, of equals those in the lowest slots."""
    weights = torch.zeros_like(scores)
    weights[scores.sort(stable=True).indices[:count]] = 1 / count
    return weights


def medoid(squared: Tensor, q: Tensor) -> Tensor:
    """(n, n) squared distances and (n,) shares -> (n,) weights of the contribution with the least Σ q_j ‖u_j - u_i‖.

    If several distinct ones have the least, of all of them equally.
    """
    cost = _added(q[:, None] * squared.sqrt())
    least = (cost == cost.min()).nonzero().flatten().tolist()
    distinct = [i for place, i in enumerate(least) if all(squared[i, j] > 0 for j in least[:place])]
    weights = torch.zeros_like(q)
    weights[distinct] = 1 / len(distinct)
    return weights


def inner_products(u: Tensor, origin: Tensor) -> Tensor:
    """(n, b) and (n,) weights -> (n, n) <u_i - o, u_j - o> with o = Σ origin_i u_i.

    Pair by pair: how a matrix product rounds depends on a vector's place in it.
    """
    inner = torch.empty(len(u), len(u), dtype=torch.float64)
    gaps = u - combination(u, origin)
    for i, j in torch.triu_indices(len(u), len(u)).T.tolist():
        inner[i, j] = inner[j, i] = (gaps[i] * gaps[j]).sum()
    return inner


def geometric_median(inner: Tensor, q: Tensor, origin: Tensor) -> Tensor:
    """(n,) weights λ, Σ λ_i = 1, of the z = Σ λ_i u_i with the least Σ q_i ‖z - u_i‖.

    q: (n,) shares. origin: (n,) weights of o, the `medoid`. inner: (n, n) inner products of v_i = u_i - o.
    Weiszfeld's iteration on λ, after a first step by Vardi & Zhang 2000, "The multivariate L1-median and associated
    data depth", PNAS 97(4). If a contribution is the median, it is the medoid, and that step stays there. If not, the
    step ends below the cost of every contribution, where Weiszfeld's can never meet one: no distance needs smoothing.

    Squared distances would do on paper, but they don't hold the direction to a far outlier: at distance R they are
    off by 1e-16 R², which hides all that is closer than 1e-16 R. Inner products with o nearby keep it.
    """
    squares = inner.diagonal()
    here, lengths = squares == 0, squares.sqrt()
    pull = torch.where(here, 0, q / lengths)
    force = float(_added(pull * _added(pull[:, None] * inner)).clamp(min=0).sqrt())  # ‖Σ q_i v_i / ‖v_i‖‖
    holds = float(_added(torch.where(here, q, 0)))
    if force <= holds:
        return origin
    weights = torch.lerp(pull / _added(pull), origin, holds / force)
    nearest = lengths[~here].min() * 1e-12  # so that nothing is divided by what rounding makes 0; scales with u
    for _ in range(STEPS):
        along = _added(weights[:, None] * inner)  # <v_i, z - o>
        apart = (squares - 2 * along + _added(weights * along)).clamp(min=nearest.square()).sqrt()  # ‖z - u_i‖
        before, weights = weights, q / apart
        weights = weights / _added(weights)
        if ((weights - before).abs() <= SETTLED * weights).all():
            break
    return weights


def combination(u: Tensor, weights: Tensor) -> Tensor:
    """(n, b) and (n,) -> (b,) Σ weights_i u_i; a single weight of 1 gives that contribution to the bit."""
    used = weights.nonzero().flatten()
    return _added(weights[used, None] * u[used])


def _ascending(values: Tensor) -> Tensor:
    """Sorted over the first axis. By NumPy, which takes a third of torch's time for it."""
    return torch.from_numpy(np.sort(values.numpy(), axis=0))


def _added(values: Tensor) -> Tensor:
    """Σ over the first axis, the same bits in any order.

    One after the other: how torch.sum rounds a column depends on the column's place.
    """
    first, *others = _ascending(values)
    total = first.clone()
    for row in others:
        total += row
    return total
