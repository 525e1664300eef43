"""The contributions of a round's cars, stored one by one for a robust rule.

The rank that adds a contribution stores it, in RAM or in a file. The coordinator reads all cars' vectors block by
block, so it never holds more than a few million of their numbers. Only the coordinator computes, and the size of blocks
depends on n and d alone, so the number of ranks does not change a bit.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fedsim.aggregation.rows import make_rows
from fedsim.distributed.world import World
from fedsim.errors import RunError

BLOCK = 2**21  # numbers in a block: 16 MiB in float64


class StoredContributions:
    """A round's contributions. `rule`, which all ranks call, combines them; its result is valid at the coordinator."""

    def __init__(self, rule: Callable[["StoredContributions"], list[Tensor]], like: Sequence[Tensor],
                 owners: Sequence[int], chosen: int, world: World, folder: Path | None) -> None:
        """Make room for the contributions of this rank's cars; see `Aggregator.gather`."""
        self.rule, self.like, self.owners, self.chosen, self.world = rule, like, owners, chosen, world
        self.count = len(owners)
        self.vectors = [place for place, part in enumerate(like) if part.ndim]
        assert all(like[place].shape == like[0].shape and like[place].dtype == like[0].dtype for place in self.vectors)
        own = [slot for slot, owner in enumerate(owners) if owner == world.rank]
        # The first row of every slot of this rank. A contribution takes as many rows as it has vectors.
        self.rows_of = {slot: place * len(self.vectors) for place, slot in enumerate(own)}
        self.rows = make_rows(len(own) * len(self.vectors), like[0].numel(), like[0].dtype, folder)
        self.numbers: dict[int, list[float]] = {}  # slot -> weight, then the 0-dim parts
        self.refused = 0
        self.table = torch.empty(0)  # (n, 1 + 0-dim parts) float64: the numbers of all ranks

    def add(self, slot: int, parts: Sequence[Tensor], weight: int) -> bool:
        assert slot not in self.numbers and self.owners[slot] == self.world.rank, f"slot {slot} isn't to be added here"
        if not all(bool(torch.isfinite(part).all()) for part in parts):
            self.refused += 1
            return False
        for row, place in enumerate(self.vectors, self.rows_of[slot]):
            self.rows.write(row, parts[place])
        self.numbers[slot] = [weight, *(float(part) for part in parts if not part.ndim)]
        return True

    def combine(self) -> tuple[list[Tensor], int]:
        try:
            weight = self._settle()
            return self.rule(self), weight
        finally:
            self.rows.close()

    def _settle(self) -> int:
        """Check that all contributions are there and finite, exchange their numbers, and return the sum of weights."""
        head = torch.tensor([sum(int(numbers[0]) for numbers in self.numbers.values()), self.refused,
                             len(self.numbers)])
        self.world.sum_(head)
        weight, refused, added = head.tolist()
        if refused:
            raise RunError(f"{refused} contribution(s) are not finite; nothing was averaged")
        assert added == self.count, f"{added} contributions of {self.count} were added"
        width = 1 + len(self.like) - len(self.vectors)
        self.table = torch.from_numpy(self.world.table(self.numbers, self.count, width))
        return weight

    def shares(self) -> Tensor:
        """Return the cars' weights (n,), scaled to add up to 1."""
        return self.table[:, 0] / self.table[:, 0].sum()  # whole numbers, so their sum is exact

    def over_pairs(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the sum (n, n) of a function over the blocks of part 0, at the coordinator; zeros elsewhere."""
        total = torch.zeros(self.count, self.count, dtype=torch.float64)
        for _, block in self._blocks(0, range(self.count)):
            if block is not None:
                total += function(block)
        return total

    def by_columns(self, slots: Sequence[int], function: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Apply a function (len(slots), b) -> (b,) to the columns of all parts, at the coordinator; zeros elsewhere."""
        numbers = iter(function(_unsigned_zeros(self.table[slots, 1:])))
        combined = []
        for place, part in enumerate(self.like):
            result = torch.zeros(part.shape, dtype=torch.float64)
            if not part.ndim:
                result.copy_(next(numbers))
            for columns, block in self._blocks(place, slots) if part.ndim else ():
                if block is not None:
                    result[columns] = function(block)
            combined.append(result.to(part.device))
        return combined

    def _blocks(self, place: int, slots: Sequence[int]) -> Iterator[tuple[slice, Tensor | None]]:
        """Yield the columns of a vector part, and their (len(slots), b) float64 block; None at all other ranks.

        Every rank goes through all blocks. A rank with fewer rows than others adds rows of zeros to those it sends.
        """
        ranks = [[slot for slot in slots if self.owners[slot] == rank] for rank in range(self.world.size)]
        most, row = max(map(len, ranks)), self.vectors.index(place)
        where = {slot: rank * most + i for rank, own in enumerate(ranks) for i, slot in enumerate(own)}
        order, width = [where[slot] for slot in slots], self.like[place].numel()
        mine = [self.rows_of[slot] + row for slot in ranks[self.world.rank]]
        step = max(1, BLOCK // len(slots))
        for first in range(0, width, step):
            columns = slice(first, min(first + step, width))
            sent = torch.zeros(most, columns.stop - first, dtype=self.like[place].dtype)
            sent[: len(mine)] = self.rows.columns(mine, columns)
            everyone = self.world.gather(sent)
            yield columns, None if everyone is None else _unsigned_zeros(torch.cat(everyone)[order].double())


def _unsigned_zeros(values: Tensor) -> Tensor:
    """Replace -0.0 by 0.0. They are equal, so a sort could put either of them first."""
    return values + 0.0
