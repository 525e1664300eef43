"""Exact sums, added over ranks and rounded once: the same bits on any number of ranks.

Mostly the running sums of all ranks lie on grids so alike that float64 holds their sum. Then they are added as they
are, and the few numbers set aside are sent along: an exact sum sends hardly more than an all-reduce of float64 vectors.
Otherwise every rank cuts its sum into digits, which always add up.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedsim.aggregation.digits import HIGHEST, LOWEST, WEIGHT_BITS, Digits
from fedsim.aggregation.exact_sum import FEW, ExactSum
from fedsim.distributed.world import World
from fedsim.errors import RunError
from fedsim.system.transfer import upload

TOGETHER = 2**22  # so many numbers, 32 MiB, are exchanged at once


class _Head(NamedTuple):
    """The facts about a sum that a rank tells before anything is exchanged."""

    weight: float
    refused: float
    grid: float  # the exponent of the running sum's grid; infinite without one
    bound: float  # the largest magnitude that the running sum can have
    beside: float  # numbers set aside
    digits: float  # a bit for each digit in use

    @classmethod
    def of(cls, one: ExactSum) -> "_Head":
        grid, bound = (one.running.exponent, one.running.bound) if one.running else (np.inf, 0.0)
        return cls(one.weight, one.refused, grid, bound, one.beside,
                   sum(1 << (number - LOWEST) for number in one.digits.used))


class _Sum:
    """One of the sums, and the heads of all ranks."""

    def __init__(self, own: ExactSum, heads: np.ndarray, rank: int) -> None:
        """Read the heads of all ranks, (ranks, fields). Raises RunError if a vector was not finite on any rank."""
        weight, refused, grid, bound, beside, used = heads.T  # the fields of _Head
        self.own, self.rank, self.weight = own, rank, int(weight.sum())
        if refused.sum():
            raise RunError(f"{int(refused.sum())} contribution(s) are not finite; nothing was averaged")
        assert self.weight < 2**WEIGHT_BITS, f"weights add up to {self.weight}, more than 2**{WEIGHT_BITS}"
        self.beside: list[int] = beside.astype(int).tolist()
        self.grid = float(grid.min())
        # Half of what fits, because the bounds are rounded.
        self.bound = float(bound.sum())
        fits = self.grid == np.inf or self.bound <= 2.0 ** (self.grid + 52)
        self.fits = fits and not used.any() and FEW * sum(self.beside) <= own.like.numel()
        self.uncut = bool(sum(self.beside) or self.grid < np.inf)
        mask = int(np.bitwise_or.reduce(used.astype(int)))
        self.digits = [number for number in range(LOWEST, HIGHEST + 1) if mask >> (number - LOWEST) & 1]

    def parts(self) -> list[Tensor]:
        """Take the tensors that this rank holds. `add_up` needs their sums over ranks."""
        if not self.fits:
            return self.own.take_digits(self.digits)
        running, places, numbers = self.own.take_running()
        before, after = sum(self.beside[: self.rank]), sum(self.beside[self.rank + 1 :])
        return [running, *(torch.nn.functional.pad(row, (before, after)) for row in (places.double(), numbers))]

    def add_up(self, parts: list[Tensor]) -> Tensor:
        """Return the sum over all ranks, each number rounded once. parts: of all ranks, overwritten."""
        if self.fits:
            total, places, numbers = parts
            if sum(self.beside):
                self._add_aside(total, places, numbers)
        else:
            digits = Digits(self.own.like.numel(), self.own.like.device)
            digits.used = dict(zip(self.digits, parts, strict=True))
            total = digits.round()
        return total.view(self.own.like.shape)

    def _add_aside(self, total: Tensor, places: Tensor, numbers: Tensor) -> None:
        """Add to the running sums (d,), in place, the numbers at these places, both on the CPU."""
        places, order = places.long().unique(return_inverse=True)
        there = upload(places, total.device)
        digits = Digits(len(places), total.device)
        digits.cut(total[there], largest=self.bound, grid=int(self.grid))
        digits.cut(numbers, places=upload(order, total.device))
        total[there] = digits.round()


def totals(sums: Sequence[ExactSum], world: World) -> list[tuple[Tensor, int]]:
    """Return the total of each exact sum over all ranks, float64 with the shape of `like`, and the sum of weights.

    Every rank calls it with the same sums. They are empty afterwards. Ranks wait for each other at every exchange, so
    small sums go together.

    Raises RunError on every rank if a vector was not finite on any rank.
    """
    known = _tell(sums, world)
    if any(one.uncut and not one.fits for one in known):
        for one in known:
            if not one.fits:
                one.own.cut()
        known = _tell(sums, world)
    parts = [one.parts() for one in known]
    _add_over_ranks([part for some in parts for part in some], world)
    return [(one.add_up(some), one.weight) for one, some in zip(known, parts, strict=True)]


def _tell(sums: Sequence[ExactSum], world: World) -> list[_Sum]:
    """Exchange the heads of all sums."""
    row = [number for one in sums for number in _Head.of(one)]
    heads = world.table({world.rank: row}, world.size, len(row)).reshape(world.size, len(sums), -1)
    return [_Sum(one, heads[:, place], world.rank) for place, one in enumerate(sums)]


def _add_over_ranks(tensors: list[Tensor], world: World) -> None:
    """Replace tensors by their sums over ranks.

    They go all at once if they are small and on one device, else one by one.
    """
    if world.size == 1:
        return
    if len({tensor.device for tensor in tensors}) > 1 or sum(tensor.numel() for tensor in tensors) > TOGETHER:
        for tensor in tensors:
            world.sum_(tensor)
        return
    together = torch.cat([tensor.flatten() for tensor in tensors])
    world.sum_(together)
    for tensor, part in zip(tensors, together.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
