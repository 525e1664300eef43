"""What a federated algorithm is: pure functions on flat vectors, state in and state out.

Letters: theta (d,) global vector | w (d,) local vector | y (d,) dual | c, c_i (d,) control variates | S the round's
cars, of m in all | p_i a car's weight, Σ p_i = 1 over all m cars | P_S = Σ_{i in S} p_i.

Nothing is written in place: a vector handed in may be held by somebody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from fedsim.options import check

if TYPE_CHECKING:  # the command line lists algorithms and their options, and torch takes seconds to import
    from torch import Tensor


class Local(NamedTuple):
    """What one car's local training returns."""

    w: Tensor  # (d,) local vector after the last step
    steps: int  # K, gradient steps taken
    images: int  # the car's scenes, each counted once
    # lr ‖a‖₁ (FedNova's ‖a‖₁): how far the steps would have gone along a constant unit gradient, pulled back by the
    # algorithm's own `damping`; None where the local optimiser's steps do not scale with the gradient
    step_length: float | None


class Shared(NamedTuple):
    """What the coordinator sends to every car of a round."""

    theta: Tensor  # (d,)


class Algorithm:
    """A federated algorithm; a subclass replaces what its paper changes.

    The defaults describe cars that start at theta, keep nothing and add nothing to their gradient. A subclass can be
    made without arguments: its options are dataclass fields with defaults.
    """

    name: ClassVar[str] = ""  # what --algo takes
    aliases: ClassVar[tuple[str, ...]] = ()  # further names that --algo takes
    title: ClassVar[str] = ""  # its name in tables; by default the class's
    paper: ClassVar[str] = ""  # where it is from
    weighting: ClassVar[Literal["images", "uniform"]] = "images"  # p_i: the paper's own
    personal: ClassVar[bool] = False  # True: cars never share a model, each is scored by itself
    pooled: ClassVar[bool] = False  # True: there is one car, and it holds the scenes of all
    sends_model: ClassVar[bool] = False  # True: a contribution is (or begins with) a local vector, not a difference
    free_server_step: ClassVar[bool] = False  # True: a server optimiser may take the step that `update` proposes
    rests_on_mean: ClassVar[str] = ""  # what is lost when contributions are combined by another rule than the mean
    server_only: ClassVar[tuple[str, ...]] = ()  # fields of the shared state that no car is sent

    def __post_init__(self) -> None:
        check(self)

    @property
    def needs_step_length(self) -> bool:
        """Whether it works only where local steps scale with the gradient, which adam's do not."""
        return False

    @property
    def damping(self) -> float:
        """The weight of a proximal term that `step_length` accounts for."""
        return 0.0

    def init_shared(self, theta: Tensor) -> Any:
        """The shared state before the first round: a NamedTuple of (d,) tensors and numbers, with a theta."""
        return Shared(theta)

    def init_memory(self, theta: Tensor) -> Any:
        """What every car keeps before its first round; equal for all cars, seen or not."""
        return None

    def begin_round(self, shared: Any, step_length: float | None) -> Any:
        """Adapt the shared state to the round's local work.

        step_length: how far the round's local steps go along a unit gradient, the mean over all cars, whoever takes
        part, and over all numbers of epochs that they may draw; None where the local optimiser has no such length.
        """
        return shared

    def start(self, shared: Any, memory: Any) -> Tensor:
        """(d,) where the car's local training starts."""
        return shared.theta

    def correction(self, w: Tensor, shared: Any, memory: Any) -> Tensor | None:
        """(d,) what the car adds to each gradient of its loss; None for nothing."""
        return None

    def contribute(self, local: Local, shared: Any, memory: Any) -> tuple[Any, Any]:
        """What the car sends, and its new memory. Sent is a (d,) tensor, or a NamedTuple of (d,) tensors and floats."""
        raise NotImplementedError

    def unit(self, contribution: Any) -> float:
        """How far the car would move theta for a first vector of length 1: a bound on its move needs to know."""
        return 1.0

    def update(self, shared: Any, mean: Any, participation: float) -> Any:
        """The server step: the new shared state.

        mean: Σ_S p_i contribution_i / P_S, of a contribution's own type, vectors in float64; participation: P_S.
        """
        raise NotImplementedError

    def penalty(self, shared: Any) -> float | None:
        """rho, for the record; None where the algorithm has none."""
        return None

    def dual(self, memory: Any) -> Tensor | None:
        """(d,) the car's dual variable, for the record; None where the algorithm has none."""
        return None
