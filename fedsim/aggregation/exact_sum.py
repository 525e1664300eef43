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

    Holds a float64 vector for each digit in use, two or three in practice, however many are added.
    """

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.digits: dict[int, Tensor] = {}  # digit number -> float64 counts of its grid's steps
        self.weight = 0
        self.refused = 0
        self._digit = torch.empty_like(like)
        self._wide = torch.empty_like(like, dtype=torch.float64)

    def add(self, vector: Tensor, weight: int) -> bool:
        """Add weight times vector, shaped and typed as `like`; False, and `total` raises, if it is not finite."""
        largest = _bound(vector)
        if not math.isfinite(largest):
            self.refused += 1
            return False
        self.weight += weight
        rest, digit, number = vector.clone(), self._digit, HIGHEST + 1
        while largest and number > LOWEST:
            number = min(number - 1, _digit_of(largest))
            if _grid(number) < -126 and rest.dtype == torch.float32:
                rest, digit = rest.double(), self._wide  # float32 has no 2**132 to scale by
            # Scaling by a power of two, rounding and taking off what was rounded are all exact.
            torch.mul(rest, 2.0 ** -_grid(number), out=digit).round_()
            if number not in self.digits:
                self.digits[number] = torch.zeros_like(self._wide)
            # By way of a float64 copy: adding float32 to float64 directly takes longer than both.
            self.digits[number].add_(self._wide.copy_(digit), alpha=weight)
            largest = _bound(rest.sub_(digit, alpha=2.0 ** _grid(number)))
        return True

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
        """A digit as whole numbers."""
        if number not in self.digits:
            return torch.zeros_like(self.like, dtype=torch.int64)
        return self.digits[number].long()


def _grid(number: int) -> int:
    """The exponent of a digit's grid step."""
    return DIGIT_BITS * number + OFFSET


def _digit_of(magnitude: float) -> int:
    """The digit that holds the leading bits of numbers up to this magnitude."""
    exponent = math.frexp(magnitude)[1]  # magnitude < 2**exponent
    return max(LOWEST, math.ceil((exponent - OFFSET) / DIGIT_BITS) - 1)


def _bound(vector: Tensor) -> float:
    """A bound on the largest magnitude in a vector, 0 for a zero one alone; not finite if the vector isn't."""
    norm = float(torch.linalg.vector_norm(vector))  # cheapest; its squares may leave float32's range
    if (norm and math.isfinite(norm)) or not vector.numel():
        return norm
    low, high = torch.aminmax(vector)
    return max(-float(low), float(high))
