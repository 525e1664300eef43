"""A car's work in a round: whole epochs, and steps that go on in the order of scenes.

Each test names a mutation that it was seen to catch.
"""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from quadratics import bowls
from quadratics import federation as quadratic
from scenery import federation, on_ranks, training

from fedsim.algorithms import FedADMM, FedAvg, FedNova
from fedsim.federation.local_work import Epochs, PartOfEpoch, Steps, Together, Turn
from fedsim.federation.rounds import initial_state, run_round, simulate
from fedsim.record.round_record import round_record

TURN = Turn(seed=5, round=1, car=2, scenes=11, batch_size=3)  # four batches, the last of two scenes
WORKS = [Epochs(1, 1), Epochs(2, 4), Steps(1), Steps(3), Steps(9), PartOfEpoch(0.25), PartOfEpoch(1.5)]


def rounds(work, count, turn=TURN) -> list[list[np.ndarray]]:
    """The positions of every step, round by round."""
    return [list(work.positions(replace(turn, round=number))) for number in range(1, count + 1)]


@pytest.mark.parametrize("work", WORKS, ids=repr)
def test_steps_and_pictures_are_those_that_are_played(work):
    """Catches a last batch that counts as a whole one, and the pictures of the first epoch in each round."""
    for number, steps in enumerate(rounds(work, 9), 1):
        turn = replace(TURN, round=number)
        assert work.steps(turn) == len(steps) and work.steps(turn) in work.choices(TURN.batches)
        assert work.pictures(turn) == sum(map(len, steps))
        assert all(1 <= len(positions) <= 3 for positions in steps) and {*map(len, steps)} <= work.sizes(turn) <= {2, 3}


@pytest.mark.parametrize("work", WORKS, ids=repr)
def test_every_epoch_has_every_scene_once_in_an_order_of_its_own(work):
    """Catches an order that starts anew in every round of one step, and one order for all epochs or cars."""
    steps = list(chain(*rounds(work, 12)))
    epochs = [np.concatenate(steps[first : first + 4]) for first in range(0, len(steps) - 3, 4)]
    assert len(epochs) >= 3 and all(sorted(epoch) == list(range(11)) for epoch in epochs)
    others = [np.concatenate(rounds(work, 12, replace(TURN, **{name: 9}))[0]) for name in ("car", "seed")]
    shown = [tuple(order[:11]) for order in (*epochs, *others)]
    assert len({order[: min(map(len, shown))] for order in shown}) == len(shown)


def test_the_order_does_not_depend_on_how_it_is_cut_into_rounds():
    """12 rounds of a step, 4 of three, one of twelve. Catches a position that counts rounds."""
    cut = [np.concatenate(list(chain(*rounds(Steps(steps), 12 // steps)))) for steps in (1, 3, 12)]
    assert all(np.array_equal(one, cut[0]) for one in cut)
    assert np.array_equal(np.concatenate(list(chain(*rounds(PartOfEpoch(0.75), 4)))), cut[0])


@pytest.mark.parametrize(("share", "batches", "steps"), [
    (0.25, 50, 13), (0.1, 30, 3), (0.25, 1, 1), (0.001, 7, 1), (1.5, 4, 6), (0.75, 4, 3), (0.3, 10, 3)])
def test_a_share_of_an_epoch_is_rounded_up(share, batches, steps):
    """Catches 0.1 * 30 = 3.0000000000000004 as 4, and a car without a step."""
    assert PartOfEpoch(share).choices(batches) == [steps]


@pytest.mark.parametrize("algorithm", [FedAvg(), FedADMM(), FedNova()], ids=["avg", "admm", "nova"])
@pytest.mark.parametrize("work", [Steps(3), PartOfEpoch(0.4)], ids=repr)
def test_steps_are_the_same_on_any_number_of_ranks_and_as_recorded(algorithm, work):
    """To the bit, cars of other sizes. Catches a position kept by a rank, and epochs that are counted."""
    def play(world):
        made = federation(algorithm, [5, 9, 2, 7], world=world, local=training(batch_size=2, work=work))
        state, seen = initial_state(made), []
        for _ in range(3):
            result = run_round(made, state)
            state = result.state
            record = round_record("avg", made, state, result, None, (), {})
            seen.append((state.digest(), state.pictures, state.sequential_steps,
                         [entry["steps"] for entry in record["cars"]]))
        return seen

    alone, = on_ranks(1, play)
    assert on_ranks(2, play) == [alone] * 2
    steps = [3, 3, 3, 3] if work == Steps(3) else [2, 2, 1, 2]
    assert [row[3] for row in alone] == [steps] * 3 and [row[2] for row in alone] == [max(steps) * n for n in (1, 2, 3)]


@pytest.mark.parametrize("steps", [1, 4])
def test_the_penalty_follows_the_steps(steps):
    """rho auto = kappa / (lr K) without momentum, whatever the cars' sizes. Catches a penalty of an epoch."""
    made = quadratic(FedADMM(), bowls(images=(1, 2, 9, 4, 4)), work=Steps(steps), lr=0.05)
    result = next(simulate(made, initial_state(made)))
    assert result.residuals.penalty == pytest.approx(0.7 / (0.05 * steps))
    assert all(report.steps == steps for report in result.reports.values())


def test_a_run_that_resumes_needs_nothing_to_go_on_in_the_order():
    """From the state after two of four rounds, to the bit. Catches a position that only the process knows."""
    def made():
        return federation(FedAvg(), [5, 9, 2], local=training(batch_size=2, work=Steps(3)))

    whole, again = made(), made()
    states = [result.state for _, result in zip(range(4), simulate(whole, initial_state(whole)), strict=False)]
    after = [result.state for _, result in zip(range(2), simulate(again, states[1]), strict=False)]
    assert torch.equal(after[-1].shared.theta, states[-1].shared.theta)


@pytest.mark.parametrize("scenes", [(6, 6, 6), (5, 5), (5, 9, 2, 7), (1, 40)], ids=repr)
@pytest.mark.parametrize("work", WORKS, ids=repr)
def test_one_car_does_the_work_of_all_in_the_time_of_the_slowest(work, scenes):
    """In every round, as many steps as the slowest car and as many pictures as all, spread evenly.

    Catches a batch of batch size times cars, which takes the steps of the mean car; draws of one car for all; and
    pictures that are counted from the pooled scenes, which differ in a part of an epoch.
    """
    together, total = Together(work, scenes, 2), sum(scenes)
    for number in range(1, 9):
        turn = Turn(5, number, 0, total, 2 * len(scenes))
        cars = [Turn(5, number, car, own, 2) for car, own in enumerate(scenes)]
        steps = list(together.positions(turn))
        assert together.steps(turn) == len(steps) == max(len(list(work.positions(one))) for one in cars)
        assert together.pictures(turn) == sum(map(len, steps)) == sum(
            sum(map(len, work.positions(one))) for one in cars)
        assert max(map(len, steps)) - min(map(len, steps)) <= 1
        assert together.sizes(turn) == {*map(len, steps)}


@pytest.mark.parametrize("work", [Epochs(2, 2), Steps(3), PartOfEpoch(0.4)], ids=repr)
def test_the_scenes_of_all_cars_come_in_shuffled_epochs(work):
    """Catches rounds that skip pictures or repeat them, and an order that starts anew in every round."""
    together, total = Together(work, (5, 9, 2, 7), 2), 23
    seen = np.concatenate([np.concatenate(list(together.positions(Turn(5, number, 0, total, 8))))
                           for number in range(1, 14)])
    epochs = seen[:len(seen) // total * total].reshape(-1, total)
    assert len(epochs) >= 3 and all(sorted(epoch) == list(range(total)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


@pytest.mark.parametrize("work", WORKS, ids=repr)
def test_a_single_car_does_its_own_work(work):
    """If the batch size divides its scenes. Catches an order of scenes that is not the car's."""
    together = Together(work, (12,), 3)
    for number in range(1, 5):
        turn = Turn(5, number, 0, 12, 3)
        assert list(map(list, together.positions(turn))) == list(map(list, work.positions(turn)))
