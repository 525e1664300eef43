"""The bytes that a round's cars would send and receive in a real federation.

They are not the bytes that the simulation moves between ranks.
"""

from collections.abc import Iterable

from torch import Tensor

from fedsim.federation.bundles import to_tensors
from fedsim.federation.federation import Federation
from fedsim.federation.participation import Cohort


def count_traffic(federation: Federation, cohort: Cohort, new: int) -> tuple[int, int]:
    """Return the bytes (up, down) that a round's cars would exchange with a coordinator, four bytes to a number.

    Down: every car of the round receives the vectors of the shared state, the momentum if cars share it and, unless
    cars keep their own, the norms. Up: the cars that answer send their contribution with the momentum if it is
    averaged, and their norms. Norms that are measured are not counted here.

    new: the number of the round's cars that were not in the round before. If the momentum is the move of theta, they
    need theta from before that move too.
    """
    algorithm, rule, model = federation.method.algorithm, federation.method.norms, federation.model
    if algorithm.personal or algorithm.pooled:
        return 0, 0
    norms = 0 if rule.recalibrates else model.affine.numel() + model.statistics.numel()
    shared = algorithm.init_shared(model.theta)._asdict()
    down = _count_numbers(value for name, value in shared.items()
                          if name not in algorithm.server_only and isinstance(value, Tensor))
    if federation.training.across_rounds == "average":
        down += _count_numbers(part for part in federation.training.optimizer.make_momentum(model.theta)
                               if isinstance(part, Tensor))
    up = len(cohort.answered) * (_count_numbers(to_tensors(federation.sent_like)) + norms)
    down = len(cohort.chosen) * (down + (0 if rule.own_statistics else norms))
    if federation.training.across_rounds == "step":
        down += new * model.theta.numel()
    return 4 * up, 4 * down


def count_measuring(federation: Federation, cohort: Cohort) -> tuple[int, int]:
    """Return the bytes (up, down) by which a round's cars would measure BatchNorm statistics of the new theta.

    They receive theta, send their statistics, and every car of the round receives those of all.
    """
    algorithm, model = federation.method.algorithm, federation.model
    norms = model.affine.numel() + model.statistics.numel()
    if algorithm.personal or algorithm.pooled or not federation.method.norms.recalibrates or not norms:
        return 0, 0
    return (4 * len(cohort.combined) * norms,
            4 * (len(cohort.combined) * model.theta.numel() + len(cohort.chosen) * norms))


def _count_numbers(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
