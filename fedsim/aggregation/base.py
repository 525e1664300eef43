"""The interface of aggregators, which combine the contributions of a round's cars.

A contribution is a list of parts. Part 0 is a (d,) vector of the model's dtype; further parts are vectors like it or
0-dim float64 numbers. A slot is a car's index among the round's n cars, 0..n-1. Ranks add the contributions of their
cars to a gathering; then all ranks combine. The number of ranks does not change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from fedsim.distributed.world import World


class Gathering(Protocol):
    """The contributions of one round, until they are combined."""

    def add(self, slot: int, parts: Sequence[Tensor], weight: int) -> bool:
        """Add a car's contribution on the rank that owns its slot.

        Return False if it is not finite; then `combine` will raise. Raises OSError if contributions are stored in files
        and the disk is full.
        """
        ...

    def combine(self) -> tuple[list[Tensor], int]:
        """Return the combined parts in float64, valid only at the coordinator, and the sum of all ranks' weights.

        Every rank calls it once. Raises RunError on every rank if a contribution was not finite on any rank.
        """
        ...


class Aggregator(Protocol):
    """A rule that combines contributions. Its settings are fields; a wrong value raises ValueError at construction."""

    name: ClassVar[str]  # its value of --aggregator

    def minimum(self, chosen: int) -> int:
        """Return the smallest number of contributions that can be combined in a round of `chosen` cars.

        If fewer cars answer, the round has no step. A robust rule that withstands a hostile car if all answer would
        otherwise withstand no such car in that round.
        """
        ...

    def withstands(self, weights: Sequence[int], chosen: int) -> int:
        """Return how many hostile cars the rule withstands in a round, whichever they are.

        weights: those of the cars that answer; chosen: the number of the round's cars.
        """
        ...

    @property
    def robust(self) -> bool:
        """True if the rule is not the weighted mean."""
        ...

    def gather(self, like: Sequence[Tensor], owners: Sequence[int], chosen: int, world: World,
               folder: Path | None) -> Gathering:
        """Begin a round.

        like: parts with the shapes and types of every contribution's. owners: the rank that will add each slot, the
        same list on every rank; it is empty if nothing will be combined. chosen: the number of the round's cars, also
        of those that never answer. folder: where a rank may store contributions in files; None for RAM. Raises OSError
        if files cannot be made.
        """
        ...
