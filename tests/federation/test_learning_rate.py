"""The course of the learning rate: torch's own schedulers, and what settings make of it."""

import math

import pytest
import torch

from fedsim.federation.learning_rate import Curve

ROUNDS = 20


def rates(make) -> list[float]:
    """The shares that a scheduler of torch gives to each round."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    schedule, found = make(optimizer), []
    for _ in range(ROUNDS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(("shape", "make"), [
    ("cosine", lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ROUNDS)),
    ("poly", lambda optimizer: torch.optim.lr_scheduler.PolynomialLR(optimizer, ROUNDS, power=0.9)),
    ("steps", lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [ROUNDS // 2, 3 * ROUNDS // 4])),
    ("constant", lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0))])
def test_shapes_are_torchs(shape, make):
    """Catches a course that is a round late."""
    assert [Curve(shape).share(number, ROUNDS) for number in range(1, ROUNDS + 1)] == pytest.approx(rates(make))


def test_the_cosine_has_the_bits_that_it_always_had():
    """So runs of earlier versions are repeated. Catches another order of the same products."""
    for number in range(1, 17):
        assert 0.3 * Curve("cosine").share(number, 16) == 0.3 * 0.5 * (1 + math.cos(math.pi * (number - 1) / 16))


def test_a_floor_is_where_the_course_ends():
    """From the whole rate to a little above the floor. Catches a rate that is cut off there."""
    shares = [Curve("cosine", floor=0.2).share(number, 100) for number in range(1, 101)]
    assert shares[0] == 1 and shares == sorted(shares, reverse=True) and 0.2 < shares[-1] < 0.201
    assert shares[50] == pytest.approx(0.6)


def test_a_warmup_rises_by_equal_steps():
    """Catches a first round with a rate of 0, and a warm-up of one round too many."""
    shares = [Curve(warmup=3).share(number, 10) for number in range(1, 11)]
    assert shares == [0.25, 0.5, 0.75] + [1.0] * 7
