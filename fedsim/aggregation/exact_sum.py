"""Exact sums of vectors: the same bits in any order and on any number of ranks.

Floating-point addition is not associative, so a plain sum over cars would change with the number of ranks. Here nothing
is rounded before the end. Numbers whose last bits lie on a grid that the running sum can hold in float64 are simply
added; the few others are set aside. In the end both are cut into digits on fixed grids (pre-rounding, after Demmel &
Nguyen, "Parallel Reproducible Summation", IEEE Trans. Computers 2015). Digits add over ranks without rounding. Their
sum is rounded once, so the result depends on the exact sum alone.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from fedsim.distributed.world import World
from fedsim.errors import RunError
from fedsim.system.transfer import fetch, upload

DIGIT_BITS = 28  # a digit of one contribution is at most 2**28 grid steps
WEIGHT_BITS = 52 - DIGIT_BITS  # weights below 2**24, and as many cuts at most, add up to 2**53 steps: exact
OFFSET = -20  # with grids 2**-20 and 2**-48, two digits hold a float32 weight of usual size
LOWEST = -5  # grid 2**-160, below the last bit of every float32
HIGHEST = 5  # grid 2**120, so that its digit holds every float32
FINEST = 52 - 126  # span of the finest running sum, because float32 has no 2**132 to scale by
GROWTH = 4  # the running sum has room for 16 to 32 contributions like its first
ROW = 128  # numbers are checked in rows of this length
FEW = 8  # at most an eighth of a vector's numbers is set aside
TOGETHER = 2**22  # so many numbers, 32 MiB, are exchanged at once


class _Look(NamedTuple):
    """The facts about a vector that the host needs before it adds the vector to a running sum."""

    largest: float  # magnitude; not finite if the vector is not
    rows: int  # that hold numbers which are not on the grid
    off_grid: int  # numbers that are not on the grid
    counts: Tensor  # (rows,) of numbers in each row that are not on the grid


class ExactSum:
    """Σ weight · vector over contributions, exact for float32 vectors and integer weights.

    It holds a running sum, the numbers set aside and scratch space, however many vectors are added. While it sums over
    ranks, and if vectors differ widely in size, it also holds a float64 vector for each digit in use: two or three in
    practice.
    """

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.digits: dict[int, Tensor] = {}  # digit number -> float64 (d,) counts of its grid's steps
        self.weight = 0
        self.refused = 0
        self._running: Tensor | None = None  # float64 (d,) multiples of 2**_exponent, None if there is no room
        self._exponent = 0
        self._room = 0.0  # the magnitude that may still be added to the running sum's numbers
        self._aside: list[tuple[Tensor, Tensor]] = []  # places and float64 numbers to be added there
        self._wide = torch.empty(like.numel(), dtype=torch.float64, device=like.device)
        self._parts = torch.zeros(-(-like.numel() // ROW), ROW, device=like.device)

    def add(self, vector: Tensor, weight: int) -> bool:
        """Add weight times vector, which has the shape and type of `like`.

        Return False if the vector is not finite; then `total` will raise.
        """
        flat = vector.reshape(-1)
        look = self._look(flat, weight)
        if not math.isfinite(look.largest):
            self.refused += 1
            return False
        self.weight += weight
        size = weight * look.largest
        if size:
            if self._running is not None and size > self._room:
                self._cut_running()
                look = self._look(flat, weight)  # on a new grid
            self._wide.copy_(flat)
            running = self._running_with_room(size) if vector.dtype == torch.float32 else None
            if running is not None and FEW * look.off_grid <= flat.numel():
                self._set_aside(look, weight)
                running.add_(self._wide, alpha=weight)  # multiples of one grid, up to 2**53 of them: exact
            else:
                self._cut(self._wide, weight)
        return True

    def _look(self, flat: Tensor, weight: int) -> "_Look":
        """Look at a vector, and mark in `_parts` its numbers that are not on the running sum's grid.

        Without a running sum it is the grid of one that begins with this vector. The host waits once for a device.
        """
        if not flat.numel():
            return _Look(0.0, 0, 0, flat)
        low, high = torch.aminmax(flat)
        if flat.dtype != torch.float32:
            return _Look(_magnitude(*fetch(low, high)), 0, 0, flat)
        if self._running is None:
            first = torch.frexp(torch.maximum(low.neg(), high).double() * weight)[1]
            scale = _scales(flat.device).take((first + (GROWTH - FINEST)).clamp(0, 52 - FINEST).long())
        else:
            scale = _scales(flat.device)[self._exponent + 52 - FINEST]
        torch.mul(flat, scale, out=self._parts.view(-1)[: flat.numel()])
        counts = self._parts.frac_().ne_(0).sum(1)
        low, high, rows, off_grid = fetch(low, high, counts.count_nonzero(), counts.sum())
        return _Look(_magnitude(low, high), int(rows), int(off_grid), counts)

    def _running_with_room(self, size: float) -> Tensor | None:
        """Return the running sum with room for numbers of this size. Without one, begin it.

        Return None if the numbers are too large for it.
        """
        if self._running is None:
            span = max(math.frexp(size)[1] + GROWTH, FINEST)
            if span > 52:  # on a grid coarser than 1, scaling could round the smallest float32
                return None
            self._exponent, self._room = span - 52, 2.0**span  # half of what fits, because room itself is rounded
            self._running = torch.zeros_like(self._wide)
        self._room -= size
        return self._running

    def _set_aside(self, look: "_Look", weight: int) -> None:
        """Move the marked numbers, which are not on the running sum's grid, out of the wide copy."""
        if not look.off_grid:
            return
        rows = _places(look.counts, look.rows)
        marked = _places(self._parts[rows].view(-1), look.off_grid)
        places = rows[marked // ROW] * ROW + marked % ROW
        self._aside.append((places, self._wide[places].mul_(weight)))  # 24 bits times 24: exact
        self._wide.index_fill_(0, places, 0.0)
        if FEW * sum(some.numel() for some, _ in self._aside) > self._wide.numel():
            self._cut_aside()

    def _cut(self, rest: Tensor, weight: int = 1, places: Tensor | None = None, largest: float | None = None,
             grid: int | None = None) -> None:
        """Add weight times the float64 numbers `rest` to the digits, at these places or at all. Overwrites `rest`.

        largest: their largest magnitude, if it is known. grid: the exponent of a grid that they lie on, if one is
        known; then nobody has to look what each digit leaves.
        """
        largest, number = _largest(rest) if largest is None else largest, HIGHEST + 1
        while largest and number > LOWEST:
            number = min(number - 1, _digit_of(largest))
            # Scaling by a power of two, rounding and taking off what was rounded are all exact.
            digit = torch.mul(rest, 2.0 ** -_grid(number), out=self._wide if rest is self._running else None).round_()
            rest.sub_(digit, alpha=2.0 ** _grid(number))
            if grid is None:
                largest = _largest(rest)
            elif grid < _grid(number):
                largest = 2.0 ** (_grid(number) - 1)  # at most half a step is left
            else:
                largest = 0.0
            if number not in self.digits:
                self.digits[number] = torch.zeros_like(self._wide)
            if places is None:
                self.digits[number].add_(digit, alpha=weight)
            else:
                self.digits[number].index_add_(0, places, upload(digit, places.device), alpha=weight)

    def _cut_all(self) -> None:
        """Move the running sum and the numbers set aside to the digits. The host waits once for a device."""
        parts = [] if self._running is None else [*torch.aminmax(self._running)]
        _, aside = self._join_aside()
        fetched = fetch(*parts, aside)
        if self._running is not None:
            self._cut_running(_magnitude(*fetched[:2]))
        self._cut_aside(fetched[-1])

    def _cut_running(self, largest: float | None = None) -> None:
        """Move the running sum to the digits. Overwrites the wide copy. largest: its largest magnitude, if known."""
        if self._running is not None:
            self._cut(self._running, largest=largest, grid=self._exponent)
            self._running, self._room = None, 0.0

    def _cut_aside(self, numbers: Tensor | None = None) -> None:
        """Move the numbers set aside to the digits. numbers: these numbers on the CPU, if they have been fetched."""
        places, aside = self._join_aside()
        if aside.numel():
            self._cut(fetch(aside)[0] if numbers is None else numbers, places=places)
            self._aside = []

    def _join_aside(self) -> tuple[Tensor, Tensor]:
        """Return the places and the numbers set aside, in two vectors."""
        nothing = self._wide[:0]
        places, numbers = zip((nothing.long(), nothing), *self._aside, strict=True)
        return torch.cat(places), torch.cat(numbers)

    def total(self, world: World) -> tuple[Tensor, int]:
        """Return the sum over all ranks, float64 with the shape of `like`, and the sum of weights. Every rank calls it.

        Raises RunError on every rank if a vector was not finite on any rank.
        """
        return totals([self], world)[0]

    def _head(self) -> Tensor:
        """Return the weight, the number of vectors that were refused, and which digits are in use."""
        self._cut_all()
        head = torch.zeros(2 + HIGHEST - LOWEST + 1, dtype=torch.int64)
        head[0], head[1] = self.weight, self.refused
        for number in self.digits:
            head[2 + number - LOWEST] = 1
        return head

    def _stack(self, numbers: range) -> Tensor:
        """Return copies of these digits, (digits, d)."""
        nothing = torch.zeros_like(self._wide)
        return torch.stack([self.digits.get(number, nothing) for number in numbers] or [nothing])

    def _round(self, numbers: range, digits: Tensor) -> Tensor:
        """Return the sum that the digits of all ranks stand for. Overwrites them."""
        terms: list[Tensor] = []
        carry = torch.zeros_like(self._wide)
        for number, steps in zip(numbers, digits, strict=False):
            steps += carry
            if number < numbers[-1]:
                carry = torch.mul(steps, 2.0**-DIGIT_BITS, out=self._wide).round_()
                steps.sub_(carry, alpha=2.0**DIGIT_BITS)
            terms.append(steps.mul_(2.0 ** _grid(number)))
        return _round_once(terms or [carry]).view(self.like.shape)


def totals(sums: Sequence[ExactSum], world: World) -> list[tuple[Tensor, int]]:
    """Return the total of each sum, as `ExactSum.total` does. Every rank calls it with the same sums.

    Ranks wait for each other at every exchange, so what all sums exchange goes together.
    """
    heads = torch.stack([one._head() for one in sums])
    world.sum_(heads)
    used = []
    for weight, refused, *there in heads.tolist():
        if refused:
            raise RunError(f"{refused} contribution(s) are not finite; nothing was averaged")
        assert weight < 2**WEIGHT_BITS, f"weights add up to {weight}, more than 2**{WEIGHT_BITS}"
        places = [place for place, ranks in enumerate(there) if ranks]
        used.append((weight, range(LOWEST + places[0], LOWEST + places[-1] + 1) if places else range(0)))
    digits = [one._stack(numbers) for one, (_, numbers) in zip(sums, used, strict=True)]
    _add_over_ranks(digits, world)
    return [(one._round(numbers, own), weight)
            for one, (weight, numbers), own in zip(sums, used, digits, strict=True)]


def _add_over_ranks(tensors: list[Tensor], world: World) -> None:
    """Replace tensors by their sums over ranks.

    They go all at once if they are small and on one device, else one by one.
    """
    if len({tensor.device for tensor in tensors}) > 1 or sum(tensor.numel() for tensor in tensors) > TOGETHER:
        for tensor in tensors:
            world.sum_(tensor)
        return
    together = torch.cat([tensor.flatten() for tensor in tensors])
    world.sum_(together)
    for tensor, part in zip(tensors, together.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def _round_once(terms: list[Tensor]) -> Tensor:
    """Return the sum, rounded once, of vectors each at most about half the grid of the next. Overwrites them.

    The rounding errors of the first additions are added up and come in last. If that tail itself must be rounded, it is
    rounded to odd, which keeps it on its side of every tie (Boldo & Melquiond, IEEE Trans. Computers 2008).
    """
    if len(terms) <= 2:
        return sum(terms[1:], start=terms[0])
    head, errors = terms.pop(), []
    while terms:
        head, error = _two_sum(head, terms.pop())
        errors.append(error)
    tail = errors.pop()
    while errors:
        tail, lost = _two_sum(errors.pop(), tail)
        if lost.device.type != "cpu" or _largest(lost):  # to look would make a device wait
            even = tail.view(torch.int64) % 2 == 0
            tail = torch.where(even & (lost != 0), torch.nextafter(tail, lost * math.inf), tail)
    return head.add_(tail)


def _two_sum(large: Tensor, small: Tensor) -> tuple[Tensor, Tensor]:
    """Return large + small and the rounding error. large must be 0 or not the smaller one. Overwrites both."""
    total = large + small
    return total, small.sub_(torch.sub(total, large, out=large))


def _grid(number: int) -> int:
    """Return the exponent of a digit's grid step."""
    return DIGIT_BITS * number + OFFSET


def _digit_of(magnitude: float) -> int:
    """Return the number of the digit that holds the leading bits of numbers up to this magnitude."""
    exponent = math.frexp(magnitude)[1]  # magnitude < 2**exponent
    return max(LOWEST, math.ceil((exponent - OFFSET) / DIGIT_BITS) - 1)


def _largest(vector: Tensor) -> float:
    """Return the largest magnitude in a vector. It is not finite if the vector is not."""
    if not vector.numel():
        return 0.0
    return _magnitude(*fetch(*torch.aminmax(vector)))


def _magnitude(low: Tensor, high: Tensor) -> float:
    """Return the larger magnitude of two numbers on the CPU. It is NaN if they are."""
    return max(-float(low), float(high))


def _places(marks: Tensor, count: int) -> Tensor:
    """Return the places of the `count` numbers of a vector that are not 0."""
    if marks.device.type == "cpu":
        return marks.nonzero().view(-1)
    return (marks == 0).to(torch.uint8).argsort(stable=True)[:count]  # a device would be waited for, to count them


@cache
def _scales(device: torch.device) -> Tensor:
    """Return what brings the numbers of a running sum onto whole numbers, by the span of the sum from FINEST to 52."""
    return upload(torch.tensor([2.0 ** (52 - span) for span in range(FINEST, 53)]), device)
