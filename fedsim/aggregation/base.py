"""What combines the contributions of a round's cars.

A contribution is a list of parts: part 0 a (d,) vector in the model's dtype, further parts (d,) vectors like it or
0-dim float64 numbers. A slot is a car's place among the round's n cars, 0..n-1. Ranks that play cars add their
contributions to a gathering; then every rank combines. The number of ranks changes no bit of what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from fedsim.distributed.world import World


class Gathering(Protocol):
    """The contributions of one round, from the first that is added until they are combined."""

    def add(self, slot: int, parts: Sequence[Tensor], weight: int) -> bool:
        """Add a car's contribution, on the rank that owns its slot; False, and `combine` raises, if it is not finite.

        Raises OSError where contributions are kept in files and there is no room for this one.
        """
        ...

    def combine(self) -> tuple[list[Tensor], int]:
        """The parts combined, in float64, meaningful at the coordinator; and Σ weight over all ranks, on every rank.

        Every rank calls it, once. Raises RunError on every rank if a contribution to any of them was not finite.
        """
        ...


class Aggregator(Protocol):
    """A way to combine contributions. Settings of the rule are fields, refused with a ValueError when constructed."""

    name: ClassVar[str]  # what --aggregator takes

    @property
    def minimum(self) -> int:
        """The fewest contributions that can be combined."""
        ...

    @property
    def robust(self) -> bool:
        """True if the result is not the weighted mean."""
        ...

    def gather(self, like: Sequence[Tensor], owners: Sequence[int], world: World, folder: Path | None) -> Gathering:
        """Begin a round. like: parts shaped and typed as every contribution's.

        owners: for each slot the rank that will add it, the same list on every rank; if it is empty, nothing is
        combined. folder: where a rank may keep contributions in files; None for memory. Raises OSError where files
        cannot be made.
        """
        ...
