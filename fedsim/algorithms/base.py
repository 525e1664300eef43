"""What a federated algorithm is: pure functions on flat vectors, state in and state out.

Letters: theta (d,) global vector | w (d,) local vector | y (d,) dual | S the round's cars, of m in all |
p_i a car's weight, Σ p_i = 1 over all m cars | P_S = Σ_{i in S} p_i.

Nothing is written in place: a vector handed in may be held by somebody else.
"""

from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor


class Local(NamedTuple):
    """What one car's local training returns."""

    w: Tensor  # (d,) local vector after the last step
    steps: int  # K, gradient steps taken
    images: int  # the car's scenes, each counted once


class Shared(NamedTuple):
    """What the coordinator sends to every car of a round."""

    theta: Tensor  # (d,)


class Algorithm:
    """A federated algorithm; a subclass replaces what its paper changes.

    The defaults describe cars that start at theta, keep nothing and add nothing to their gradient.
    """

    weighting: ClassVar[Literal["images", "uniform"]] = "images"  # p_i: the paper's own
    personal: ClassVar[bool] = False  # True: cars never share a model, each is scored by itself
    pooled: ClassVar[bool] = False  # True: there is one car, and it holds the scenes of all

    def init_shared(self, theta: Tensor) -> Any:
        """The shared state before the first round."""
        return Shared(theta)

    def init_memory(self, theta: Tensor) -> Any:
        """What every car keeps before its first round; equal for all cars, seen or not."""
        return None

    def begin_round(self, shared: Any, step_length: float | None) -> Any:
        """Adapt the shared state to the round's local work.

        step_length: how far the round's local steps go along a unit gradient, the mean over its cars; None
        where the local optimiser has no such length.
        """
        return shared

    def start(self, shared: Any, memory: Any) -> Tensor:
        """(d,) where the car's local training starts."""
        return shared.theta

    def correction(self, w: Tensor, shared: Any, memory: Any) -> Tensor | None:
        """(d,) what the car adds to each gradient of its loss; None for nothing."""
        return None

    def contribute(self, local: Local, shared: Any, memory: Any) -> tuple[Tensor, Any]:
        """(d,) what the car sends, and its new memory."""
        raise NotImplementedError

    def update(self, shared: Any, mean: Tensor, participation: float) -> Any:
        """The server step. mean: (d,) float64, Σ_S p_i contribution_i / P_S; participation: P_S."""
        raise NotImplementedError

    def penalty(self, shared: Any) -> float | None:
        """rho, for the record; None where the algorithm has none."""
        return None

    def dual(self, memory: Any) -> Tensor | None:
        """(d,) the car's dual variable, for the record; None where the algorithm has none."""
        return None
