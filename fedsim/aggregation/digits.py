"""Exact sums as digits on fixed grids: any finite numbers fit, and they are rounded once, at the end.

A number is cut into digits on grids 2**28 apart (pre-rounding, after Demmel & Nguyen, "Parallel Reproducible
Summation", IEEE Trans. Computers 2015). Digits add up without rounding, in any order.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fedsim.system.transfer import fetch, upload

DIGIT_BITS = 28  # a digit of one contribution is at most 2**28 grid steps
WEIGHT_BITS = 52 - DIGIT_BITS  # weights below 2**24, and as many cuts at most, add up to 2**53 steps: exact
OFFSET = -20  # with grids 2**-20 and 2**-48, two digits hold a float32 weight of usual size
LOWEST = -5  # grid 2**-160, below the last bit of every float32
HIGHEST = 5  # grid 2**120, so that its digit holds every float32
BLOCK = 2**17  # numbers that are worked on at once: so many stay in the caches of a core


class Digits:
    """A vector of exact sums. It holds a float64 vector for each digit in use: two or three in practice."""

    def __init__(self, length: int, device: torch.device) -> None:
        self.length, self.device = length, device
        self.used: dict[int, Tensor] = {}  # digit number -> float64 (length,) counts of its grid's steps

    def cut(self, rest: Tensor, weight: int = 1, first: int = 0, places: Tensor | None = None,
            largest: float | None = None, grid: int | None = None) -> None:
        """Add weight times the float64 numbers `rest` at the places from `first` on, or at `places`. Overwrites `rest`.

        largest: their largest magnitude, if it is known. grid: the exponent of a grid that they lie on, if one is
        known; then nobody has to look what each digit leaves.
        """
        if places is not None:
            self._cut(rest, weight, 0, places, largest, grid)
            return
        for begin, block in blocks(rest):
            self._cut(block, weight, first + begin, None, largest, grid)

    def _cut(self, rest: Tensor, weight: int, first: int, places: Tensor | None, largest: float | None,
             grid: int | None) -> None:
        largest, number = largest_of(rest) if largest is None else largest, HIGHEST + 1
        while largest and number > LOWEST:
            number = min(number - 1, _digit_of(largest))
            # Scaling by a power of two, rounding and taking off what was rounded are all exact.
            digit = torch.mul(rest, 2.0 ** -_grid(number)).round_()
            rest.sub_(digit, alpha=2.0 ** _grid(number))
            if grid is None:
                largest = largest_of(rest)
            elif grid < _grid(number):
                largest = 2.0 ** (_grid(number) - 1)  # at most half a step is left
            else:
                largest = 0.0
            if places is None:
                self._of(number)[first : first + len(digit)].add_(digit, alpha=weight)
            else:
                self._of(number).index_add_(0, places, upload(digit, places.device), alpha=weight)

    def _of(self, number: int) -> Tensor:
        if number not in self.used:
            self.used[number] = torch.zeros(self.length, dtype=torch.float64, device=self.device)
        return self.used[number]

    def round(self) -> Tensor:
        """Return the sums, float64 (length,), each rounded once."""
        total = torch.zeros(self.length, dtype=torch.float64, device=self.device)
        if self.used:
            for first, block in blocks(total):
                block.copy_(self._round(first, block))
        return total

    def _round(self, first: int, like: Tensor) -> Tensor:
        """Return the sums from the place `first` on, as many as `like` has."""
        carry, terms, highest = torch.zeros_like(like), [], max(self.used)
        for number in range(min(self.used), highest + 1):
            steps = carry
            if number in self.used:
                steps = self.used[number][first : first + len(like)] + carry
            if number < highest:
                carry = torch.mul(steps, 2.0**-DIGIT_BITS).round_()
                steps = steps - carry * 2.0**DIGIT_BITS
            terms.append(steps * 2.0 ** _grid(number))
        return _round_once(terms)


def blocks(vector: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the parts of a vector that are worked on at once, and their first places: on a device all of it."""
    if vector.device.type != "cpu" or len(vector) <= BLOCK:
        yield 0, vector
        return
    for first in range(0, len(vector), BLOCK):
        yield first, vector[first : first + BLOCK]


def largest_of(vector: Tensor) -> float:
    """Return the largest magnitude in a vector. It is not finite if the vector is not."""
    if not vector.numel():
        return 0.0
    return magnitude(*fetch(*torch.aminmax(vector)))


def magnitude(low: Tensor, high: Tensor) -> float:
    """Return the larger magnitude of two numbers on the CPU. It is NaN if they are."""
    return max(-float(low), float(high))


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
        if lost.device.type != "cpu" or largest_of(lost):  # to look would make a device wait
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


def _digit_of(size: float) -> int:
    """Return the number of the digit that holds the leading bits of numbers up to this magnitude."""
    exponent = math.frexp(size)[1]  # size < 2**exponent
    return max(LOWEST, math.ceil((exponent - OFFSET) / DIGIT_BITS) - 1)
