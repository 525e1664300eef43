"""Momentum across rounds: what is carried on, how long steps become, and that no bit depends on ranks or kills.

Each test names a mutation that it was seen to catch.
"""

from dataclasses import dataclass, replace

import pytest
import quadratics
import scenery
import torch
from federations import altered
from quadratics import bowls, play
from torch import Tensor

from fedsim.aggregation import Mean, Median
from fedsim.algorithms import ConsensusFedADMM, FedADMM, FedAvg, FedNova, LocalOnly, PerCarFedADMM, Scaffold
from fedsim.federation import local_training
from fedsim.federation.attacks import Attack
from fedsim.federation.bundles import to_tensors
from fedsim.federation.federation import Federation
from fedsim.federation.local_work import Steps
from fedsim.federation.optimizers import SGD, Adam, Velocity
from fedsim.federation.rounds import initial_state, run_round, sample
from fedsim.federation.traffic import count_traffic
from fedsim.record import snapshot
from fedsim.settings.fields import CHOICES

RULES = CHOICES["momentum_across_rounds"]
CARRIED = [rule for rule in RULES if rule != "none"]
AHEAD = ["average nesterov", "own nesterov"]  # rules beside Nesterov's momentum, see `carrying`
BETA = 0.9


@dataclass(frozen=True)
class Slope:
    """A car with a linear objective, so every gradient is the same. `images` is its weight."""

    slope: Tensor  # (d,)
    images: int = 1

    @property
    def centre(self) -> Tensor:
        return self.slope

    def __len__(self) -> int:
        return self.images

    def batch(self, positions: object, augment: object) -> tuple[Tensor, "Slope"]:
        return torch.empty(0, dtype=torch.float64), self


def slopes(*rows: list[float], images: tuple[int, ...] | None = None) -> list[Slope]:
    return [Slope(torch.tensor(row, dtype=torch.float64), images[car] if images else 1)
            for car, row in enumerate(rows)]


def carrying(made: Federation, rule: str, **changes) -> Federation:
    """Return the federation with another rule for momentum, and other fields of local training.

    rule: with " nesterov" after it, for Nesterov's momentum.
    """
    rule, _, nesterov = rule.partition(" ")
    training = replace(made.training, across_rounds=rule, **changes)
    return altered(made, training=replace(training, optimizer=replace(training.optimizer, nesterov=True))
                   if nesterov else training)


def linear(algorithm, cars, rule, *, steps: int = 5, work=None, **others) -> Federation:
    made = quadratics.federation(algorithm, cars, steps=steps, momentum=BETA, theta=torch.zeros(2).double(),
                                 work=work, **others)
    return carrying(made, rule, criterion=lambda w, car: w @ car.slope)


@pytest.fixture
def ended(monkeypatch):
    """(car, the momentum it began with, the momentum it ended with) of every car that is played, in order."""
    seen, usual = [], local_training.train_locally

    def train_locally(*others, car, momentum=None, **keys):
        result = usual(*others, car=car, momentum=momentum, **keys)
        seen.append((car, momentum, result.momentum))
        return result

    monkeypatch.setattr("fedsim.federation.car.train_locally", train_locally)
    return seen


@pytest.mark.parametrize("optimizer", [SGD(BETA, weight_decay=0.1), SGD(BETA, nesterov=True), Adam()],
                         ids=["sgd", "nesterov", "adam"])
@pytest.mark.parametrize("rule", ["average", "own"])
def test_one_car_in_short_rounds_is_one_long_round_to_the_bit(rule, optimizer):
    """Three rounds of two steps are one of six. Catches a momentum that is damped, rounded, averaged with zeros.

    So a federation of one car is centralised training whose momentum never stops. Without the rule they differ.
    """
    made = scenery.federation(FedAvg(), [5], local=scenery.training(momentum=BETA, augment="none", work=Steps(2)))
    short, fresh = (carrying(made, one, optimizer=optimizer) for one in (rule, "none"))
    long = altered(fresh, training=replace(fresh.training, work=Steps(6)))
    theta, expected, other = (play(altered(one, model=scenery.segnet()), rounds).shared.theta
                              for one, rounds in ((short, 3), (long, 1), (fresh, 3)))
    assert torch.equal(theta, expected) and not torch.equal(other, expected)


@pytest.mark.parametrize("rule", [*RULES, *AHEAD, "none nesterov"])
@pytest.mark.parametrize("others", [{}, {"work": Steps(3)}], ids=["epochs", "steps"])
def test_the_step_length_is_how_far_unit_gradients_move_theta(rule, others):
    """In every round, from the first on, under a learning rate that falls. This is h of rho = kappa / h.

    Catches a length without the velocity at hand, the limit taken from the first round on, and the length of plain
    momentum in the place of Nesterov's.
    """
    made = linear(FedAvg(), slopes([1.0, 1.0], [1.0, 1.0]), rule, rounds=12, cosine=True, weighting="uniform", **others)
    state = initial_state(made)
    for _ in range(6):
        result = run_round(made, state)
        moved, length = float(state.shared.theta[0] - result.state.shared.theta[0]), made.step_length(result.lr, state)
        assert moved == pytest.approx(length, rel=1e-12)
        state = result.state


def test_the_length_of_many_short_rounds_is_the_limit():
    """lr K / (1 - beta), whoever carries the momentum. Fresh momentum stays behind it by more than half."""
    lengths = {}
    for rule in (*RULES, *AHEAD):
        made = linear(FedAvg(), slopes([1.0, 1.0]), rule)
        lengths[rule] = made.step_length(0.05, play(made, 40))
    limit = 0.05 * 5 / (1 - BETA)
    assert lengths.pop("none") < limit / 2
    assert lengths == pytest.approx(dict.fromkeys(lengths, limit), rel=1e-3)


@pytest.mark.parametrize("rule", [*CARRIED, *AHEAD])
def test_scaffold_learns_the_cars_gradients_with_momentum_carried_on(rule):
    """Linear objectives: c_i becomes the car's slope. Catches dividing by the length of fresh momentum.

    That divisor is too small by a factor of nearly four, and the control variates overshoot until they overflow.
    """
    cars = slopes([1.0, -3.0], [2.0, 5.0], [0.0, 1.0])
    made = linear(Scaffold(), cars, rule)
    state = play(made, 200)
    for car, own in enumerate(cars):
        torch.testing.assert_close(made.memory(state, car), own.slope, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(state.shared.c, sum(own.slope for own in cars) / 3, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", [*CARRIED, *AHEAD])
def test_fednova_divides_by_the_length_of_each_cars_own_steps(rule):
    """Cars of 1 to 4 epochs with equal slopes have equal directions in every round. Catches a common divisor."""
    made = linear(FedNova(), slopes([1.0, 2.0], [1.0, 2.0], [1.0, 2.0]), rule, epochs=(1, 4))
    state, sent = initial_state(made), []
    contribute = FedNova.contribute

    def watch(self, local, shared, memory):
        sent.append(contribute(self, local, shared, memory))
        return sent[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FedNova, "contribute", watch)
        play(made, 4, state)
    directions = [contribution.direction for contribution, _ in sent if contribution.direction.any()]
    expected = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    assert len({contribution.step_length for contribution, _ in sent}) > 3
    for direction in directions:
        torch.testing.assert_close(direction, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("algorithm", [FedADMM(), ConsensusFedADMM(), PerCarFedADMM(dual_step="after"), Scaffold()],
                         ids=["admm", "admm-after", "admm-per-car", "scaffold"])
@pytest.mark.parametrize("rule", [*CARRIED, *AHEAD])
def test_exact_algorithms_still_find_the_minimiser(algorithm, rule):
    """With all cars, on quadratics: the fixed point has no velocity. Catches a momentum that is sent to cars twice."""
    cars = bowls()
    made = carrying(quadratics.federation(algorithm, cars, momentum=0.5, lr=0.04), rule)
    theta = play(made, 250).shared.theta
    torch.testing.assert_close(theta, quadratics.minimiser(cars), rtol=1e-7, atol=1e-7)


def test_the_dual_step_after_theta_adds_no_momentum_to_the_one_that_is_carried():
    """Momentum 0.9 by `step` in short rounds: Gong's order diverges, as the docs say, and consensus order does not."""
    cars = bowls()
    found = [play(carrying(quadratics.federation(algorithm, cars, momentum=0.9, lr=0.005), "step"), 250).shared.theta
             for algorithm in (ConsensusFedADMM(), FedADMM())]
    torch.testing.assert_close(found[0], quadratics.minimiser(cars), rtol=1e-7, atol=1e-7)
    assert float((found[1] - quadratics.minimiser(cars)).norm()) > 1e3


def test_the_average_is_weighted_as_theta_is(ended):
    """By images, over the cars that answered, and every car of the next round begins with it. Catches equal weights."""
    sizes = [3, 1, 4, 2]
    made = carrying(scenery.federation(FedAvg(), sizes, local=scenery.training(momentum=BETA)), "average")
    first = run_round(made, initial_state(made)).state
    expected = sum(after.v.double() * size for (_, _, after), size in zip(ended, sizes, strict=True)) / sum(sizes)
    torch.testing.assert_close(first.momentum.v, expected.float(), rtol=1e-6, atol=1e-9)
    units = [made.training.optimizer.unit_after(steps) for steps in (2, 1, 2, 1)]
    assert first.momentum.unit == pytest.approx(sum(map(lambda u, n: u * n, units, sizes)) / sum(sizes))
    run_round(made, first)
    assert all(torch.equal(before.v, first.momentum.v) for _, before, _ in ended[4:])


def test_a_car_goes_on_with_its_own_momentum_after_rounds_without_it(ended):
    """Half of the cars a round. Catches a momentum that is another car's, or that is lost while the car sits out."""
    made = altered(carrying(scenery.federation(FedAvg(), [2, 2, 2, 2], local=scenery.training(momentum=BETA)), "own"),
                   participation=0.5)
    play(made, 10)
    latest: dict[int, Velocity] = {}
    for car, before, after in ended:
        known = latest.get(car)
        assert torch.equal(before.v, known.v if known else torch.zeros_like(before.v)), car
        latest[car] = after
    assert len(ended) == 20 and len(latest) == 4


def test_the_step_is_the_move_of_theta_over_the_mean_number_of_steps(ended):
    """Weighted as theta is. Catches a division by the largest number of steps, and by another learning rate."""
    sizes = [3, 1, 4, 2]
    made = carrying(scenery.federation(FedAvg(), sizes, local=scenery.training(momentum=BETA)), "step")
    begin = initial_state(made)
    first = run_round(made, begin).state
    steps = (2 * 3 + 1 * 1 + 2 * 4 + 1 * 2) / 10
    expected = (begin.shared.theta - first.shared.theta) / (0.1 * steps)
    torch.testing.assert_close(first.momentum.v, expected, rtol=1e-6, atol=1e-9)
    run_round(made, first)
    assert all(torch.equal(before.v, first.momentum.v) for _, before, _ in ended[4:])


@pytest.mark.parametrize(("rule", "aggregator"), [*((rule, Mean()) for rule in CARRIED), ("average", Median())])
def test_every_number_of_ranks_and_every_continued_run_has_the_same_bits(rule, aggregator):
    """1, 2 and 4 ranks; and after two rounds, a fresh federation that is given the state as its checkpoint has it.

    Half of the cars take part. Catches a momentum that no checkpoint holds, and, with a median, which only the
    coordinator has, one that is not sent to the other ranks.
    """
    def begin(world):
        made = scenery.federation(FedADMM(), [2, 3, 1, 2], world=world, batchnorm="local",
                                  local=scenery.training(momentum=BETA))
        return altered(carrying(made, rule), participation=0.5, aggregator=aggregator)

    def four_rounds(world):
        return play(begin(world), 4).digest()

    def in_two_parts(world):
        made = begin(world)
        state, fresh = play(made, 2), begin(world)
        parts = {car: snapshot.car_tensors(made, state, car) for car in state.memories}
        found = snapshot.restore_global(initial_state(fresh), snapshot.global_tensors(state))
        for car, tensors in parts.items():
            found = snapshot.restore_car(fresh, found, car, tensors)
        return play(fresh, 2, found).digest()

    digests = {*scenery.on_ranks(1, four_rounds), *scenery.on_ranks(2, four_rounds),
               *scenery.on_ranks(4, four_rounds), *scenery.on_ranks(2, in_two_parts)}
    assert len(digests) == 1, digests


def test_norms_of_a_cars_own_begin_without_the_others_momentum(ended):
    """FedBN. Catches velocities of another car's norms, which a car would take for its own."""
    made = carrying(scenery.federation(FedAvg(), [2, 3], batchnorm="local",
                                       local=scenery.training(momentum=BETA)), "average")
    state = play(made, 2)
    d, own = made.model.theta.numel(), made.model.affine.numel()
    assert own and state.momentum.v.numel() == d and ended[-1][2].v.numel() == d + own
    assert all(before.v[:d].any() and not before.v[d:].any() for _, before, _ in ended[2:])


def test_cars_that_never_communicate_keep_their_own(ended):
    made = carrying(scenery.federation(LocalOnly(), [2, 3], local=scenery.training(momentum=BETA)), "own")
    play(made, 2)
    assert all(torch.equal(ended[car + 2][1].v, ended[car][2].v) for car in range(2))


def test_what_hostile_cars_send_is_disguised_and_bounded_with_its_momentum():
    """A flipped sign flips the velocity; a clipped move shortens it alike; a median is taken of velocities too."""
    plain = carrying(scenery.federation(FedAvg(), [2, 2, 2], local=scenery.training(momentum=BETA)), "average")
    attack = Attack("sign-flip", frozenset({0, 1, 2}), 5)
    flipped, clipped, median = (altered(plain, **change) for change in (
        {"attack": attack}, {"clip_norm": 1e-3}, {"aggregator": Median()}))
    honest, hostile, bounded, middle = (
        play(altered(made, model=scenery.segnet()), 1) for made in (plain, flipped, clipped, median))
    torch.testing.assert_close(hostile.momentum.v, -4 * honest.momentum.v, rtol=1e-5, atol=1e-8)
    assert float(bounded.momentum.v.norm()) < 0.1 * float(honest.momentum.v.norm())
    assert middle.momentum.v.any() and not torch.equal(middle.momentum.v, honest.momentum.v)


def test_a_mean_of_squares_below_zero_does_no_harm():
    """Adam's, which flipped signs can make. Catches the root of a negative number."""
    made = carrying(scenery.federation(FedAvg(), [2, 2]), "average", optimizer=Adam())
    hostile = altered(made, attack=Attack("sign-flip", frozenset({0, 1}), 5))
    state = play(hostile, 3)
    assert bool((state.momentum.square < 0).any()) and bool(state.shared.theta.isfinite().all())


def test_traffic_counts_the_momentum():
    """average: once down and once up for each car. step: theta of before for cars that sat out. own, none: nothing."""
    counted = {}
    for rule in RULES:
        made = carrying(scenery.federation(FedAvg(), [2, 2, 2, 2], local=scenery.training(momentum=BETA)), rule)
        made = altered(made, participation=0.5)
        first = run_round(made, initial_state(made))
        second = run_round(made, first.state)
        counted[rule] = [(one.bytes_up, one.bytes_down) for one in (first, second)]
        new = len(second.reports.keys() - first.reports.keys())
    d = 4 * made.model.theta.numel()
    assert counted["none"] == counted["own"] == [(2 * d, 2 * d)] * 2
    assert counted["average"] == [(4 * d + 8, 4 * d)] * 2  # and the velocity of unit gradients, a number
    assert new and counted["step"] == [(2 * d, 2 * d), (2 * d, (2 + new) * d)]
    adam = carrying(made, "average", optimizer=Adam())
    assert sum(part.numel() for part in to_tensors(adam.sent_like)) == 3 * made.model.theta.numel() + 1
    assert count_traffic(adam, sample(adam, 1), new=0)[1] == 2 * 3 * d




def test_a_round_without_enough_answers_leaves_the_momentum():
    local = scenery.training(momentum=BETA)
    made = carrying(scenery.federation(FedAvg(), [2, 2, 2], local=local), "average")
    first = play(made, 1)
    lost = altered(made, car_failures=1 - 1e-12)
    after = run_round(lost, first)
    assert not after.reports and after.state.momentum is first.momentum
