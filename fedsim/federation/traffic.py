"""What a round's cars would send and receive in a real federation; not what its simulation moves."""

from collections.abc import Iterable

from torch import Tensor

from fedsim.federation.contributions import to_parts
from fedsim.federation.federation import Federation


def traffic(federation: Federation, chosen: list[int], answering: list[int]) -> tuple[int, int]:
    """Bytes up and down that the round's cars would exchange with a coordinator, four to a number.

    Down, to every car of the round: the vectors of the shared state and, unless cars keep their own, the statistics.
    Up, from those that answer: the contribution and what the global model's norms are made of; before recalibration,
    the new theta goes down to them once more.
    """
    if federation.algorithm.personal or federation.algorithm.pooled:
        return 0, 0
    theta, rule = federation.model.theta, federation.norms
    norms = federation.model.affine.numel() + federation.model.statistics.numel()
    shared = federation.algorithm.init_shared(theta)._asdict()
    sent = [value for name, value in shared.items() if name not in federation.algorithm.server_only]
    down = _numbers(value for value in sent if isinstance(value, Tensor))
    again = theta.numel() if rule.recalibrates and norms else 0
    up = _numbers(to_parts(federation.contribution_like)) + norms
    return (4 * len(answering) * up,
            4 * len(chosen) * (down + (0 if rule.own_statistics else norms)) + 4 * len(answering) * again)


def _numbers(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
