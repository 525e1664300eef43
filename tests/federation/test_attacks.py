"""Hostile cars: who they are, what arrives from them, what becomes of the others, and who withstands them.

Each test names a mutation that it was seen to catch.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from federations import altered
from quadratics import SOLO, UNEQUAL, Bowl, bowls, federation, play, reports
from scenery import CPU, labels_of, on_ranks, scene_set

from fedsim.aggregation import AGGREGATORS, Mean
from fedsim.algorithms import ALGORITHMS, FedAvg, Scaffold
from fedsim.algorithms.scaffold import Contribution as Pair
from fedsim.classes import VOID
from fedsim.data.augment import Flip
from fedsim.data.car_scenes import CarScenes
from fedsim.federation.attacks import ATTACKS, Attack, Mislabelled, flip_labels, hostile_cars
from fedsim.federation.bundles import to_tensors
from fedsim.federation.rounds import initial_state, run_round
from fedsim.record.round_record import round_record

FEDERATED = {name: kind() for name, kind in ALGORITHMS.items() if not (kind.personal or kind.pooled)}
EVERY = pytest.mark.parametrize("name", FEDERATED)
SENT = [name for name in ATTACKS if name != "label-flip"]  # attacks on what is sent
SIZE = 20_000


def vector(seed: int, size: int = SIZE) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def length(of: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(of))


def disguised(name, contribution, theta, sends_model=False, round_number=1, car=2, seed=5):
    return Attack(name, frozenset([2, 3]), seed).disguise(
        contribution, theta, sends_model, round_number=round_number, car=car)


@pytest.mark.parametrize(("name", "factor"), [("sign-flip", -4.0), ("scale", 10.0)])
def test_a_flipped_or_scaled_move_is_just_that(name, factor):
    """theta - 4 (w - theta), theta + 10 (w - theta). Catches a sign, a factor, and a model scaled with its theta."""
    theta, w = vector(1), vector(2)
    assert torch.equal(disguised(name, w, theta, sends_model=True), theta + factor * (w - theta))
    assert torch.equal(disguised(name, w, theta), factor * w)
    pair = disguised(name, Pair(w, theta), theta)
    assert torch.equal(pair.move, factor * w) and torch.equal(pair.control, factor * theta)


def test_noise_is_ten_times_as_long_as_the_move_and_as_long_everywhere():
    """Whatever the move's direction, which noise has nothing to do with.

    Catches a norm for each coordinate in the place of one for all, a variance for a deviation, noise added to the
    move, and the same noise for both vectors.
    """
    theta, move = vector(1), vector(2)
    move[SIZE // 2 :] = 0
    noise = disguised("gaussian", move, theta)
    assert length(noise) == pytest.approx(10 * length(move), rel=0.02)
    assert length(noise[: SIZE // 2]) == pytest.approx(length(noise[SIZE // 2 :]), rel=0.03)
    assert abs(float(noise @ move)) < 4 * length(noise) * length(move) / SIZE**0.5
    assert abs(float(noise.mean())) < 4 * length(noise) / SIZE
    model = disguised("gaussian", theta + move, theta, sends_model=True)
    torch.testing.assert_close(model - theta, noise, rtol=1e-9, atol=1e-9)
    pair = disguised("gaussian", Pair(move, 3 * move), theta)
    assert torch.equal(pair.move, noise) and length(pair.control) == pytest.approx(30 * length(move), rel=0.02)
    assert abs(float(pair.move @ pair.control)) < 4 * length(pair.move) * length(pair.control) / SIZE**0.5


def test_noise_belongs_to_seed_round_and_car():
    """Catches a draw with a state, and one that leaves out one of them."""
    theta, move = vector(1), vector(2)
    first = disguised("gaussian", move, theta)
    torch.manual_seed(1)
    assert torch.equal(disguised("gaussian", move, theta), first)
    for other in ({"round_number": 2}, {"car": 3}, {"seed": 6}):
        assert not torch.equal(disguised("gaussian", move, theta, **other), first)


@pytest.mark.parametrize("name", ATTACKS)
def test_honest_cars_and_those_with_flipped_labels_send_what_they_learned(name):
    """The very object. Catches an attack by every car."""
    sent = vector(2)
    assert disguised(name, sent, vector(1), car=1) is sent
    assert (disguised(name, sent, vector(1)) is sent) == (name == "label-flip")
    attack = Attack(name, frozenset([2, 3]), 5)
    assert [attack.flips_labels_of(car) for car in range(5)] == [name == "label-flip" and car in (2, 3)
                                                                  for car in range(5)]


def test_hostile_cars_are_drawn_by_the_seed_alone():
    """As many as asked for, of all cars, every one as often. Catches a draw with replacement, and the first cars."""
    for cars, attackers in ((5, 0), (5, 1), (5, 2), (5, 4), (100, 30)):
        drawn = hostile_cars(3, cars, attackers)
        assert drawn == hostile_cars(3, cars, attackers) and len(drawn) == attackers
        assert drawn <= set(range(cars)) and all(type(car) is int for car in drawn)
    often = np.bincount([car for seed in range(500) for car in hostile_cars(seed, 5, 2)], minlength=5)
    assert often.min() > 160 and often.max() < 240, "200 expected"


def test_flipped_labels_are_an_involution_that_leaves_void():
    """Class c and C - 1 - c change places. Catches C - c, and void that becomes a class."""
    labels = torch.tensor([0, 1, 5, 9, 10, VOID])
    assert flip_labels(labels, 11).tolist() == [10, 9, 5, 1, 0, VOID]
    assert torch.equal(flip_labels(flip_labels(labels, 11), 11), labels)
    assert flip_labels(labels, 11).dtype == labels.dtype


@pytest.mark.parametrize("augment", [lambda: None, lambda: Flip(0, 1, 0)], ids=["as-they-are", "mirrored"])
def test_a_hostile_cars_scenes_have_their_pictures_and_wrong_labels(augment):
    """The scene set stays as it is. Catches pictures that change, and labels of scenes that are not mirrored along."""
    scenes, indices, where = scene_set(6), np.arange(1, 6), np.array([4, 0, 2])
    labels = labels_of(scenes)
    honest, hostile = CarScenes(scenes, indices, CPU), Mislabelled(scenes, indices, CPU)
    images, right = honest.batch(where, augment())
    for _ in range(2):
        same, wrong = hostile.batch(where, augment())
        assert torch.equal(same, images) and same.stride() == images.stride()
        assert torch.equal(wrong, torch.where(right == VOID, VOID, 10 - right)) and bool((right == VOID).any())
    assert len(hostile) == len(honest) and np.array_equal(labels_of(scenes), labels)


@dataclass(frozen=True)
class Seen(Mean):
    """The mean, and what arrives: slot -> parts."""

    arrived: dict[int, list[torch.Tensor]] = field(default_factory=dict)

    def gather(self, like, owners, chosen, world, folder):
        gathering = super().gather(like, owners, chosen, world, folder)
        usual = gathering.add

        def add(slot, parts, weight):
            self.arrived[slot] = [part.clone() for part in parts]
            return usual(slot, parts, weight)

        gathering.add = add
        return gathering


def a_round(name, *, world=SOLO, **others):
    """(federation, what arrives from every car of this rank, the state) of the second round, all cars taking part."""
    made = federation(FEDERATED[name], bowls(images=UNEQUAL), world=world, **others)
    state, seen = play(altered(made, attack=None, clip_norm=None), 1), Seen()
    made = altered(made, aggregator=seen)
    return made, seen.arrived, state, run_round(made, state)


def equal(parts, others) -> bool:
    return all(torch.equal(one, other) for one, other in zip(parts, others, strict=True))


@pytest.mark.parametrize("attack", SENT)
@EVERY
def test_an_attack_changes_what_arrives_of_hostile_cars_and_nothing_else(name, attack):
    """What honest cars send, what all cars report and keep. Catches an attack that the car's memory knows of.

    And numbers, such as FedNova's step lengths, that are attacked.
    """
    bad = Attack(attack, frozenset([1, 4]), 9)
    made, plain, before, honest = a_round(name)
    other, arrived, _, result = a_round(name, attack=bad)
    theta = before.shared.theta
    for car in range(5):
        expected = plain[car]
        if car in bad.cars:
            origin = theta if made.method.algorithm.sends_model else torch.zeros_like(theta)
            assert all(torch.equal(ours, theirs) == (not theirs.ndim)
                       for ours, theirs in zip(arrived[car], expected, strict=True))
            factor = {"sign-flip": -4.0, "scale": 10.0}.get(attack)
            if factor:
                torch.testing.assert_close(arrived[car][0] - origin, factor * (expected[0] - origin), rtol=0,
                                           atol=1e-13)
        else:
            assert equal(arrived[car], expected)
        kept = [to_tensors(which.memory(end.state, car)) if which.memory(end.state, car) is not None else []
                for which, end in ((made, honest), (other, result))]
        assert equal([torch.as_tensor(part) for part in kept[0]], [torch.as_tensor(part) for part in kept[1]])
    assert reports(result) == reports(honest)
    assert not torch.equal(result.state.shared.theta, honest.state.shared.theta)
    if honest.state.mean_dual is not None:
        assert torch.equal(result.state.mean_dual, honest.state.mean_dual)


@EVERY
def test_noise_is_the_same_on_any_rank(name):
    """What arrives, on 1 rank and on 3. Catches a draw by rank, or by a car's place on it."""
    attack = Attack("gaussian", frozenset([0, 3]), 9)
    alone = a_round(name, attack=attack)[1]
    apart = {car: parts for found in on_ranks(3, lambda world: a_round(name, world=world, attack=attack)[1])
             for car, parts in found.items()}
    assert set(apart) == set(alone) == set(range(5)) and all(equal(apart[car], alone[car]) for car in range(5))


def test_a_bound_on_moves_holds_for_hostile_cars():
    """Catches a clip before the attack."""
    for attack in SENT:
        _, arrived, before, _ = a_round("avg", attack=Attack(attack, frozenset([1, 4]), 9), clip_norm=0.25)
        moves = [length(arrived[car][0] - before.shared.theta) for car in range(5)]
        assert max(moves) <= 0.25 * (1 + 1e-12) and moves[1] == pytest.approx(0.25) == moves[4]


SPREAD = 0.1  # honest cars' centres are so far from one point


def alike(hostile: int) -> list[Bowl]:
    """Five cars of one curvature, four with centres that differ a little; the hostile one wants to go elsewhere."""
    made = bowls()
    middle = made[0].centre
    return [Bowl(made[0].matrix, middle + (3.0 if car == hostile else SPREAD) * bowl.centre / length(bowl.centre))
            for car, bowl in enumerate(made)]


def distance(hostile, attack, aggregator) -> float:
    """How far theta ends from where the honest cars alone would take it."""
    cars = alike(hostile)
    made = federation(FedAvg(), cars, weighting="uniform", aggregator=aggregator, lr=0.2,
                      attack=Attack(attack, frozenset([hostile]), 9))
    # All curvatures are one, so that FedAvg goes to the mean of the centres.
    honest = sum(car.centre for number, car in enumerate(cars) if number != hostile) / 4
    return length(play(made, 15).shared.theta - honest)


@pytest.mark.parametrize("name", [name for name, rule in AGGREGATORS.items() if rule.robust])
def test_a_robust_rule_withstands_a_hostile_car_in_rounds_that_few_cars_answer(name):
    """It moves theta no further than twice the honest cars' moves, or there is no step: 60 rounds.

    Catches, seen one by one: a trimmed mean of 4 or 3 answers that drops nobody, and a median of two answers.
    """
    made = federation(FedAvg(), alike(0), weighting="uniform", aggregator=AGGREGATORS[name](), car_failures=0.4,
                      attack=Attack("scale", frozenset([0]), 9))
    state, answers = initial_state(made), set()
    for _ in range(60):
        result = run_round(made, state)
        state = result.state
        honest = [report.drift for car, report in result.reports.items() if car != 0]
        if 0 in result.reports:
            answers.add(len(result.reports))
        assert result.step <= 2 * max(honest, default=0.0)
        record = round_record("avg", made, state, result, None, (), {})
        assert record["failed"] == result.failed and record["withstands"] == (
            made.method.aggregator.withstands([1] * len(result.reports), 5) if result.reports else None)
    assert answers >= {4, 5}, "rounds with the hostile car and few others were played"


@pytest.mark.parametrize("attack", SENT)
@pytest.mark.parametrize("hostile", [0, 3])
def test_robust_rules_withstand_what_moves_the_mean(attack, hostile):
    """One of five cars. They end within the honest cars' spread, the mean over ten times it away.

    Catches contributions that go into the mean whatever the aggregator, and an attack that nobody makes.
    """
    for name, kind in AGGREGATORS.items():
        away = distance(hostile, attack, kind())
        assert away > 10 * SPREAD if name == "mean" else away <= SPREAD, (name, away)


@pytest.mark.parametrize("name", [name for name, kind in AGGREGATORS.items() if kind().robust])
def test_robust_rules_are_the_same_on_any_number_of_ranks_under_attack(name):
    """1 and 3 ranks, FedAvg and SCAFFOLD, to the bit. Catches rows in the order of ranks."""
    for algorithm in (FedAvg(), Scaffold()):
        def play_on(world, algorithm=algorithm):
            made = federation(algorithm, alike(1), aggregator=AGGREGATORS[name](), world=world, weighting="uniform",
                              attack=Attack("gaussian", frozenset([1]), 9))
            return play(made, 6).shared.theta

        alone = play_on(SOLO)
        assert all(torch.equal(there, alone) for there in on_ranks(3, play_on))


def test_a_round_of_an_attacked_federation_repeats_to_the_bit():
    """From the same state. Catches a generator that goes on."""
    made = federation(FedAvg(), bowls(), attack=Attack("gaussian", hostile_cars(3, 5, 2), 3))
    state = initial_state(made)
    assert torch.equal(run_round(made, state).state.shared.theta, run_round(made, state).state.shared.theta)
