"""The bytes that a round's cars would send and receive in a real federation.

They are not the bytes that the simulation moves between ranks.
"""

from collections.abc import Iterable

from torch import Tensor

from fedsim.federation.bundles import to_tensors
from fedsim.federation.federation import Federation
from fedsim.federation.participation import Cohort


def count_traffic(federation: Federation, cohort: Cohort) -> tuple[int, int]:
    """Return the bytes (up, down) that a round's cars would exchange with a coordinator, four bytes to a number.

    Down: every car of the round receives the vectors of the shared state and, unless cars keep their own, the norms.
    Up: the cars that answer send their contribution and their norms. Before recalibration they receive the new theta;
    if too few cars answer for a new theta, nothing is measured with it.
    """
    algorithm, rule, model = federation.method.algorithm, federation.method.norms, federation.model
    if algorithm.personal or algorithm.pooled:
        return 0, 0
    norms = model.affine.numel() + model.statistics.numel()
    shared = algorithm.init_shared(model.theta)._asdict()
    down = _count_numbers(value for name, value in shared.items()
                          if name not in algorithm.server_only and isinstance(value, Tensor))
    again = model.theta.numel() if rule.recalibrates and norms else 0
    measured = cohort.combined if rule.recalibrates else cohort.answered
    up = len(cohort.answered) * _count_numbers(to_tensors(federation.contribution_like)) + len(measured) * norms
    down = len(cohort.chosen) * (down + (0 if rule.own_statistics else norms)) + len(cohort.combined) * again
    return 4 * up, 4 * down


def _count_numbers(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
