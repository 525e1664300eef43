"""Exact sums of vectors: the same bits in any order.

Floating-point addition is not associative, so a plain sum over cars would change with the number of ranks. Here nothing
is rounded before the end. Numbers whose last bits lie on a grid that the running sum can hold in float64 are simply
added; the few others are set aside. What fits neither way is cut into digits. `totals` adds all of it over ranks and
rounds once, so the result depends on the exact sum alone.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from fedsim.aggregation.digits import Digits, blocks, magnitude
from fedsim.system.transfer import fetch, upload

FINEST = 52 - 126  # span of the finest running sum, because float32 has no 2**132 to scale by
GROWTH = 3  # a running sum has room for 8 to 16 times as many contributions like its first as are expected
ROW = 128  # numbers are checked in rows of this length
FEW = 8  # at most an eighth of a vector's numbers is set aside


class Running(NamedTuple):
    """A running sum."""

    numbers: Tensor  # float64 (d,) multiples of 2**exponent
    exponent: int
    room: float  # the magnitude that may still be added to its numbers

    @property
    def bound(self) -> float:
        """The largest magnitude that its numbers can have."""
        return 2.0 ** (self.exponent + 52) - self.room


class _Look(NamedTuple):
    """The facts about a block of a vector that the host needs before it adds the block to a running sum."""

    largest: float  # magnitude in the whole vector; not finite if the vector is not
    rows: int  # that hold numbers which are not on the grid
    off_grid: int  # numbers that are not on the grid
    counts: Tensor  # (rows,) of numbers in each row that are not on the grid


class ExactSum:
    """Σ weight · vector over contributions, exact for float32 vectors and integer weights.

    It holds a running sum, the numbers set aside and scratch space, however many vectors are added. If vectors differ
    widely in size, it also holds a float64 vector for each digit in use: two or three in practice.
    """

    def __init__(self, like: Tensor, expected: int = 1) -> None:
        """Begin with 0. expected: the number of contributions on all ranks; more of them take more time."""
        self.like = like
        self.refused = 0
        self._growth = GROWTH + (max(expected, 1) - 1).bit_length()
        size = len(next(blocks(like.view(-1)))[1])
        self._wide = torch.empty(size, dtype=torch.float64, device=like.device)
        self._parts = torch.empty(-(-size // ROW), ROW, device=like.device)
        self._empty()

    def _empty(self) -> None:
        self.weight = 0
        self.digits = Digits(self.like.numel(), self.like.device)
        self.running: Running | None = None  # None if nothing is on its grid
        self._aside: list[tuple[Tensor, Tensor]] = []  # places and float64 numbers to be added there
        self.beside = 0  # numbers set aside

    def add(self, vector: Tensor, weight: int) -> bool:
        """Add weight times vector, which has the shape and type of `like`.

        Return False if the vector is not finite; then `totals` will raise.
        """
        flat = vector.reshape(-1)
        extremes = torch.aminmax(flat) if flat.numel() else (flat, flat)
        look = self._look(next(blocks(flat))[1], *extremes, weight)
        if not math.isfinite(look.largest):
            self.refused += 1
            return False
        self.weight += weight
        size = weight * look.largest
        if size:
            if self.running is not None and size > self.running.room:
                self._cut_running()
                look = self._look(next(blocks(flat))[1], *extremes, weight)  # on a new grid
            self.running = self._make_room(size) if vector.dtype == torch.float32 else None
            for first, block in blocks(flat):
                self._add(first, block, weight, look if first == 0 else self._look(block, *extremes, weight))
        return True

    def _look(self, block: Tensor, low: Tensor, high: Tensor, weight: int) -> _Look:
        """Look at a block of a vector, and mark in `_parts` its numbers that are not on the running sum's grid.

        Without a running sum it is the grid of one that begins with this vector. The host waits once for a device.
        low, high: the extremes of the vector.
        """
        if not block.numel():
            return _Look(0.0, 0, 0, block)
        if block.dtype != torch.float32:
            return _Look(magnitude(*fetch(low, high)), 0, 0, block)
        if self.running is None:
            first = torch.frexp(torch.maximum(low.neg(), high).double() * weight)[1]
            scale = _scales(block.device).take((first + (self._growth - FINEST)).clamp(0, 52 - FINEST).long())
        else:
            scale = _scales(block.device)[self.running.exponent + 52 - FINEST]
        parts = self._parts[: -(-len(block) // ROW)]
        torch.mul(block, scale, out=parts.view(-1)[: len(block)])
        parts.view(-1)[len(block) :] = 0
        counts = parts.frac_().abs_().ceil_().sum(1)  # 1 for each number that is not whole
        low, high, rows, off_grid = fetch(low, high, counts.count_nonzero(), counts.sum())
        # A number that is not finite, or that the grid has no room for, makes NaN; the vector is then not added so.
        return _Look(magnitude(low, high), int(rows), int(off_grid.nan_to_num()), counts)

    def _make_room(self, size: float) -> Running | None:
        """Return the running sum with room taken for numbers of this size. Without one, begin it.

        Return None if the numbers are too large for it.
        """
        if self.running is not None:
            return self.running._replace(room=self.running.room - size)
        span = max(math.frexp(size)[1] + self._growth, FINEST)
        if span > 52:  # on a grid coarser than 1, scaling could round the smallest float32
            return None
        return Running(self._zeros(), span - 52, 2.0**span - size)  # half of what fits, because room itself is rounded

    def _add(self, first: int, block: Tensor, weight: int, look: _Look) -> None:
        """Add a block, which has been looked at, at the places from `first` on."""
        wide = self._wide[: len(block)].copy_(block)
        if self.running is not None and FEW * look.off_grid <= len(block):
            if look.off_grid:
                self._set_aside(first, wide, look, weight)
            # Multiples of one grid, up to 2**53 of them: exact.
            self.running.numbers[first : first + len(block)].add_(wide, alpha=weight)
        else:
            self.digits.cut(wide, weight, first)

    def _set_aside(self, first: int, wide: Tensor, look: _Look, weight: int) -> None:
        """Move the marked numbers, which are not on the running sum's grid, out of the wide copy of a block."""
        rows = _places(look.counts, look.rows)
        marked = _places(self._parts[rows].view(-1), look.off_grid)
        places = rows[marked // ROW] * ROW + marked % ROW
        self._aside.append((places + first, wide[places].mul_(weight)))  # 24 bits times 24: exact
        self.beside += look.off_grid
        wide.index_fill_(0, places, 0.0)
        if FEW * self.beside > self.like.numel():
            self._cut_aside()

    def cut(self) -> None:
        """Move all to the digits."""
        self._cut_running()
        self._cut_aside()

    def take_running(self) -> tuple[Tensor, Tensor, Tensor]:
        """Empty the sum, which has no digits. Return its running sum, float64 (d,), and the numbers set aside.

        The latter are places (n,) and float64 numbers (n,) on the CPU. The host waits once for a device.
        """
        numbers, aside = self.running.numbers if self.running else self._zeros(), self._join_aside()
        self._empty()
        return numbers, *aside

    def take_digits(self, numbers: Sequence[int]) -> list[Tensor]:
        """Empty the sum, which has digits alone. Return the steps, float64 (d,), of these digits."""
        used = self.digits.used
        self._empty()
        return [used[number] if number in used else self._zeros() for number in numbers]

    def _zeros(self) -> Tensor:
        return torch.zeros(self.like.numel(), dtype=torch.float64, device=self.like.device)

    def _cut_running(self) -> None:
        """Move the running sum to the digits."""
        if self.running is not None:
            self.digits.cut(self.running.numbers, grid=self.running.exponent)
            self.running = None

    def _cut_aside(self) -> None:
        """Move the numbers set aside to the digits."""
        places, numbers = self._join_aside()
        self.digits.cut(numbers, places=upload(places, self.like.device))
        self._aside, self.beside = [], 0

    def _join_aside(self) -> tuple[Tensor, Tensor]:
        """Return the places (n,) and the numbers (n,) float64 set aside, on the CPU. The host waits once."""
        nothing = self._wide[:0]
        places, numbers = zip((nothing.long(), nothing), *self._aside, strict=True)
        together = fetch(torch.cat(places), torch.cat(numbers))
        return together[0], together[1]


def _places(marks: Tensor, count: int) -> Tensor:
    """Return the places of the `count` numbers of a vector that are not 0."""
    if marks.device.type == "cpu":
        return marks.nonzero().view(-1)
    return (marks == 0).to(torch.uint8).argsort(stable=True)[:count]  # a device would be waited for, to count them


@cache
def _scales(device: torch.device) -> Tensor:
    """Return what brings the numbers of a running sum onto whole numbers, by the span of the sum from FINEST to 52."""
    return upload(torch.tensor([2.0 ** (52 - span) for span in range(FINEST, 53)]), device)
