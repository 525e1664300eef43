"""The state of a federation between two rounds, and the result of a round."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsim.federation.divergence import Watch
from fedsim.federation.optimizers import Momentum
from fedsim.models.flat import Norms


@dataclass(frozen=True)
class State:
    """The state that a round starts from and ends with. Tensors are replaced, never written to."""

    round: int
    shared: Any  # the algorithm's shared state; only its `server_only` fields may differ between ranks
    server: Any  # the server optimiser's state; only the coordinator's copy is used
    norms: Norms  # the global model's; equal on every rank
    initial_norms: Norms  # the norms of a car that keeps its own and has not taken part yet
    initial_memory: Any  # what a car that has not taken part yet keeps
    memories: dict[int, Any]  # car -> handle of what it keeps, for this rank's cars that have taken part
    own_norms: dict[int, Norms]  # car -> its own norms, if cars keep their own; else empty
    mean_dual: Tensor | None  # (d,) float64 Σ p_i y_i over all cars, for the record; None without dual variables
    momentum: Momentum | None = None  # (d,) the same for all cars and ranks; None if cars start anew or keep their own
    average: Tensor | None = None  # (d + e,) float64, of the global vector over the rounds; None if nobody asked for it
    watch: Watch = field(default_factory=Watch)
    lr_factor: float = 1.0  # below 1 after rounds that were rolled back
    pictures: int = 0  # seen by all cars since the start
    sequential_steps: int = 0  # gradient steps taken one after another since the start

    def global_vector(self) -> Tensor:
        """Return the global model's parameters (d + e,)."""
        return torch.cat([self.shared.theta, self.norms.affine])

    def digest(self, with_statistics: bool = True) -> str:
        """Return the sha256 of the global vector's bytes (float32, little-endian), followed by the statistics'.

        with_statistics: False if the state has none that belong to its vector.
        """
        return _digest(self.global_vector(), *([self.norms.statistics] if with_statistics else []))

    def digest_of_statistics(self) -> str:
        """Return the sha256 of the statistics' bytes (float32, little-endian)."""
        return _digest(self.norms.statistics)


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.cpu().contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


class CarReport(NamedTuple):
    """The numbers that a car tells all ranks about its round. The order of fields is that of columns on the wire."""

    steps: float
    loss: float  # mean over the round's steps
    drift: float  # ‖w - theta‖
    dual_norm: float  # ‖y‖; 0 without dual variables
    finite: float  # 1 if the loss, the contribution and the statistics are finite, else 0
    gradient_norm: float  # norm of the loss's gradient before the correction, mean over the round's steps
    weight_norm: float  # ‖w‖ at the end of local training
    seconds: float  # wall time of local training
    class_iou: list[float]  # IoU of the predictions made while training; NaN if the class has none
    step_losses: list[float]  # loss of every local step

    def to_row(self) -> list[float]:
        """Return all numbers in one list."""
        *numbers, class_iou, step_losses = self
        return [*numbers, *class_iou, *step_losses]

    @classmethod
    def from_row(cls, row: Sequence[float], classes: int, steps: int) -> "CarReport":
        """Rebuild a report from the start of a row, which may be longer."""
        numbers = len(cls._fields) - 2
        losses = numbers + classes
        return cls._make([*row[:numbers], list(row[numbers:losses]), list(row[losses : losses + steps])])


class Residuals(NamedTuple):
    """The distance of an algorithm with dual variables from a solution, where all but the penalty are 0."""

    penalty: float  # rho
    primal: float | None  # sqrt of the mean ‖w_i - theta‖² over the cars that answered; None if no car answered
    dual: float  # rho ‖theta - theta before‖
    mean_dual: float  # ‖Σ p_i y_i‖ over all cars


@dataclass(frozen=True)
class RoundResult:
    """The state after a round and what to record of the round. Only the seconds differ between ranks."""

    state: State
    lr: float
    reports: dict[int, CarReport]  # car -> its report, for the cars whose contributions were combined
    chosen: int  # number of cars that trained
    failed: list[int]  # cars of these that never answered
    step: float  # ‖theta - theta before‖
    residuals: Residuals | None  # None without dual variables
    bytes_up: int  # bytes that the round's cars would send in a real federation
    bytes_down: int  # bytes that they would receive
    seconds: dict[str, float]  # wall time of the round's phases "local" and "combine"
    trouble: str | None = None  # a sign of divergence, in words
