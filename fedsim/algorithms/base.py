"""The interface of a federated algorithm: pure functions on flat vectors.

Letters: theta (d,) global vector | w (d,) local vector | y (d,) dual variable | c, c_i (d,) control variates | S the
cars of the round, out of m cars | p_i a car's weight, Σ p_i = 1 over all m cars | P_S = Σ_{i in S} p_i.

State goes in and new state comes out. No function writes to a vector that it was given, because others may hold it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from fedsim.options import check

if TYPE_CHECKING:  # the command line lists algorithms and their options, and torch takes seconds to import
    from torch import Tensor


class Local(NamedTuple):
    """The result of one car's local training."""

    w: Tensor  # (d,) local vector after the last step
    steps: int  # K, the number of gradient steps
    images: int  # number of the car's scenes
    # lr ‖a‖₁ (FedNova's ‖a‖₁): how far the steps go along a constant unit gradient, pulled back by the algorithm's own
    # `damping`; None if the local optimiser's steps do not scale with the gradient
    step_length: float | None


class Shared(NamedTuple):
    """The state that the coordinator sends to every car of a round."""

    theta: Tensor  # (d,)


class Algorithm:
    """A federated algorithm. A subclass overrides what its paper changes.

    By default a car starts at theta, keeps nothing and adds nothing to its gradient. A subclass can be made without
    arguments: its options are dataclass fields with defaults.
    """

    name: ClassVar[str] = ""  # its value of --algo
    aliases: ClassVar[tuple[str, ...]] = ()  # other values of --algo that mean the same
    title: ClassVar[str] = ""  # its name in tables; by default the name of the class
    paper: ClassVar[str] = ""  # its source
    weighting: ClassVar[Literal["images", "uniform"]] = "images"  # p_i: the paper's own
    personal: ClassVar[bool] = False  # True: cars never share a model, each is scored by itself
    pooled: ClassVar[bool] = False  # True: there is one car, and it holds the scenes of all
    wide: ClassVar[bool] = False  # True, if pooled: its steps are as many as those of a federation's slowest car
    sends_model: ClassVar[bool] = False  # True: a contribution is (or begins with) a local vector, not a difference
    free_server_step: ClassVar[bool] = False  # True: a server optimiser may take the step that `update` proposes
    rests_on_mean: ClassVar[str] = ""  # what is lost when contributions are combined by another rule than the mean
    server_only: ClassVar[tuple[str, ...]] = ()  # fields of the shared state that no car is sent

    def __post_init__(self) -> None:
        check(self)

    @property
    def needs_step_length(self) -> bool:
        """True if the algorithm needs local steps that scale with the gradient, which Adam's do not."""
        return False

    @property
    def damping(self) -> float:
        """The weight of a proximal term that `step_length` accounts for."""
        return 0.0

    def init_shared(self, theta: Tensor) -> Any:
        """Return the shared state before round 1: a NamedTuple of (d,) tensors and numbers with a field theta."""
        return Shared(theta)

    def init_memory(self, theta: Tensor) -> Any:
        """Return the memory of a car before its first round. It is the same for all cars."""
        return None

    def begin_round(self, shared: Any, step_length: float | None) -> Any:
        """Return the shared state, adapted to the round's local work.

        step_length: how far the round's local steps go along a unit gradient. It is the mean over all cars, also those
        that sit out, and over all numbers of epochs that they may draw. None if the local optimiser has no such length.
        """
        return shared

    def receive(self, shared: Any, memory: Any, step_length: float | None) -> tuple[Any, Any]:
        """Return the shared state and the memory with which a car begins its round: what the functions below are given.

        step_length: how far this car's local steps go along a unit gradient in this round, as in `Local`.
        """
        return shared, memory

    def start(self, shared: Any, memory: Any) -> Tensor:
        """Return the vector (d,) at which the car's local training starts."""
        return shared.theta

    def correction(self, w: Tensor, shared: Any, memory: Any) -> Tensor | None:
        """Return the vector (d,) that the car adds to each gradient of its loss, or None to add nothing."""
        return None

    def contribute(self, local: Local, shared: Any, memory: Any) -> tuple[Any, Any]:
        """Return the car's contribution and its new memory.

        A contribution is a (d,) tensor, or a NamedTuple of (d,) tensors and floats.
        """
        raise NotImplementedError

    def unit(self, contribution: Any) -> float:
        """Return how far theta moves per unit length of the contribution's first vector. `--clip-norm` needs it."""
        return 1.0

    def update(self, shared: Any, mean: Any, participation: float) -> Any:
        """Take the server step, and return the new shared state.

        mean: Σ_S p_i contribution_i / P_S, of the same type as a contribution, vectors in float64; participation: P_S.
        """
        raise NotImplementedError

    def step_scale(self, participation: float) -> float:
        """Return the factor of the server step that depends on P_S, the weight of the round's cars.

        It is 1 if theta becomes a mean of what they send. The guard against divergence divides by it, because a step
        that grows with the weight of its cars tells nothing.
        """
        return 1.0

    def penalty(self, shared: Any) -> float | None:
        """Return rho for the record, or None if the algorithm has no penalty."""
        return None

    def local_vector(self, memory: Any) -> Tensor | None:
        """Return the car's vector (d,) whose mean over cars is scored beside theta, or None for no such score."""
        return None

    def dual(self, memory: Any) -> Tensor | None:
        """Return the car's dual variable (d,) for the record, or None if the algorithm has no dual variables."""
        return None
