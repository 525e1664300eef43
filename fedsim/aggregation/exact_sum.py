"""Sums of vectors that depend on neither order nor placement.

Floating-point addition is not associative, so a plain sum over cars would change with the number of ranks.
Here every number is cut into digits on fixed grids (pre-rounding, after Demmel & Nguyen, "Parallel
Reproducible Summation", IEEE Trans. Computers 2015); digits add without rounding in float64, and the carry
into canonical digits happens once at the end. The sum is exact; its one rounding is that of the result.
"""

import math

import torch
from torch import Tensor

from fedsim.errors import RunError
from fedsim.world import World

DIGIT_BITS = 28  # a digit of one contribution is at most 2**28 grid steps
WEIGHT_BITS = 52 - DIGIT_BITS  # so weights may add up to 2**24 before a float64 digit could round
OFFSET = -20  # with grids 2**-20 and 2**-48, two digits hold a float32 weight of usual size
LOWEST = -5  # grid 2**-160, below the last bit of every float32
HIGHEST = 5  # grid 2**120, so that its digit holds every float32


class ExactSum:
    """Σ weight · vector over contributions, exact for float32 vectors and integer weights.

    Holds one float64 vector per digit in use, two or three in practice, however many contributions there are.
    """

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.digits: dict[int, Tensor] = {}  # digit number -> float64, whole multiples of its grid
        self.weight = 0
        self.refused = 0
        self._scratch = torch.empty_like(like, dtype=torch.float64), torch.empty_like(like, dtype=torch.float64)

    def add(self, vector: Tensor, weight: int) -> None:
        """Add weight times vector, shaped as `like`. One that is not finite is refused: `total` raises."""
        largest = _largest(vector)
        if not math.isfinite(largest):
            self.refused += 1
            return
        self.weight += weight
        rest, digit = self._scratch
        rest.copy_(vector)
        number = HIGHEST + 1
        while largest and number > LOWEST:
            number = min(number - 1, _digit_of(largest))
            # Adding and subtracting 1.5 * 2**52 grid steps rounds to whole grid steps.
            shift = 1.5 * 2.0 ** (52 + _grid(number))
            torch.add(rest, shift, out=digit).sub_(shift)
            if number not in self.digits:
                self.digits[number] = torch.zeros_like(rest)
            self.digits[number].add_(digit, alpha=weight)
            # The norm bounds the largest magnitude from above, and costs a third of finding it.
            largest = float(torch.linalg.vector_norm(rest.sub_(digit)))

    def total(self, world: World) -> tuple[Tensor, int]:
        """The sum over all ranks, float64 shaped as `like`, and the sum of weights. Every rank calls it.

        Raises RunError on every rank if a contribution to any of them was not finite.
        """
        head = torch.zeros(2 + HIGHEST - LOWEST + 1, dtype=torch.int64)
        head[0], head[1] = self.weight, self.refused
        for number in self.digits:
            head[2 + number - LOWEST] = 1
        world.sum_(head)
        weight, refused, used = int(head[0]), int(head[1]), head[2:]
        if refused:
            raise RunError(f"{refused} contribution(s) are not finite; nothing was averaged")
        assert weight < 2**WEIGHT_BITS, f"weights add up to {weight}, more than 2**{WEIGHT_BITS}"
        numbers = [LOWEST + place for place in used.nonzero().flatten().tolist()]
        total = torch.zeros_like(self.like, dtype=torch.float64)
        carry = torch.zeros_like(self.like, dtype=torch.int64)
        for number in range(min(numbers), max(numbers) + 1) if numbers else ():
            steps = self._steps(number)
            world.sum_(steps)
            steps += carry
            if number < max(numbers):
                # Canonical digits lie in [-2**27, 2**27): the same however the sum was spread over ranks.
                carry = (steps + 2 ** (DIGIT_BITS - 1)) >> DIGIT_BITS
                steps -= carry << DIGIT_BITS
            total += steps.double() * 2.0 ** _grid(number)
        return total, weight

    def _steps(self, number: int) -> Tensor:
        """A digit as a whole number of grid steps."""
        if number not in self.digits:
            return torch.zeros_like(self.like, dtype=torch.int64)
        return (self.digits[number] * 2.0 ** -_grid(number)).long()


def _grid(number: int) -> int:
    """The exponent of a digit's grid step."""
    return DIGIT_BITS * number + OFFSET


def _digit_of(magnitude: float) -> int:
    """The digit that holds the leading bits of numbers up to this magnitude."""
    exponent = math.frexp(magnitude)[1]  # magnitude < 2**exponent
    return max(LOWEST, math.ceil((exponent - OFFSET) / DIGIT_BITS) - 1)


def _largest(vector: Tensor) -> float:
    """The largest magnitude in a vector, 0 for an empty one."""
    if not vector.numel():
        return 0.0
    low, high = torch.aminmax(vector)
    return max(-float(low), float(high))
