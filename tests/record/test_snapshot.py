"""Taken apart and put together, a state is the same to the bit, whatever algorithm it is of.

Each test names a mutation that it was seen to catch.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import pytest
import quadratics
import torch
from quadratics import UNEQUAL, bowls
from scenery import federation, on_ranks
from torch import Tensor

from fedsim.algorithms import ALGORITHMS, BalancedFedADMM, ConsensusFedADMM, FedADMM, FedAvg, PerCarFedADMM
from fedsim.algorithms.server_optimizers import SERVER_OPTIMIZERS, Plain
from fedsim.federation.batchnorm import NORM_RULES
from fedsim.federation.divergence import Watch
from fedsim.federation.rounds import initial_state, run_round, simulate
from fedsim.record.checkpoints import Checkpoints
from fedsim.record.snapshot import InvalidPart, car_tensors, global_tensors, is_empty, restore_car, restore_global

EVERY = {name: kind() for name, kind in ALGORITHMS.items()}
EVERY |= {"balanced": BalancedFedADMM(), "own-start": FedADMM(rho=1.0, local_start="own"),
          "after": ConsensusFedADMM(), "per-car": PerCarFedADMM()}
SERVERS = {"plain": Plain(), **{name: kind() for name, kind in SERVER_OPTIMIZERS.items()}}
PAIRS = [(name, server) for name, algorithm in EVERY.items() for server in SERVERS
         if server == "plain" or algorithm.free_server_step]
SIZES = [3, 2, 1]


def same(one, other) -> bool:
    """Bundles, to the bit."""
    if isinstance(one, Tensor):
        return (one.dtype, one.shape, one.numpy().tobytes()) == (other.dtype, other.shape, other.numpy().tobytes())
    if isinstance(one, tuple):
        return type(one) is type(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or (math.isnan(one) and math.isnan(other)))


def play(made, state, rounds):
    for _ in range(rounds):
        state = run_round(made, state).state
    return state


def through(made, fresh, state):
    """The state of a federation as a fresh one puts it together."""
    found = restore_global(initial_state(fresh), global_tensors(state))
    for car in state.memories:
        part = car_tensors(made, state, car)
        found = found if is_empty(state, part) else restore_car(fresh, found, car, part)
    return found


def all_of(made, state):
    """What has to be the same: everything."""
    return (state.digest(), state.shared, state.server, tuple(state.norms), state.mean_dual, state.watch,
            state.lr_factor, state.round, state.pictures, state.sequential_steps,
            tuple(kept(made, state).values()))


def kept(made, state):
    """What every car of the rank keeps."""
    return {car: (made.memory(state, car), tuple(state.own_norms.get(car, ()))) for car in made.fleet.scenes}


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize(("name", "server"), PAIRS)
def test_every_algorithm_and_server_optimiser_goes_on_to_the_bit(name, server, disk, tmp_path):
    """Two of five cars a round, of which some fail. Catches a count, mean dual or server state left at the start."""
    def make():
        return quadratics.federation(EVERY[name], bowls(images=UNEQUAL), server=SERVERS[server], weighting="images",
                                     participation=1.0 if EVERY[name].personal or EVERY[name].pooled else 0.6,
                                     folder=tmp_path if disk else None)

    made, fresh = make(), make()
    before = play(made, initial_state(made), 2)
    found = through(made, fresh, before)
    assert same(all_of(fresh, found), all_of(made, before))
    assert same(all_of(fresh, play(fresh, found, 2)), all_of(made, play(made, before, 2)))


@pytest.mark.parametrize("rule", [*NORM_RULES, "personal"])
def test_every_batchnorm_rule_goes_on_to_the_bit_also_on_other_ranks(rule, tmp_path):
    """One rank, then two, then three, a checkpoint between. Catches norms that stay with the rank they were made on."""
    algorithm = EVERY["local"] if rule == "personal" else EVERY["scaffold"]
    settings = {"batchnorm": "pooled" if rule == "personal" else rule}

    def go(rounds, world=None):
        made = federation(algorithm, SIZES, **settings, **({} if world is None else {"world": world}))
        checkpoints = Checkpoints(tmp_path, made, "this run")
        state = play(made, checkpoints.load(initial_state(made), pytest.fail), rounds)
        checkpoints.save(state)
        return state.digest(), kept(made, state)

    made = federation(algorithm, SIZES, **settings)
    whole = play(made, initial_state(made), 4)
    go(1)
    two, three = on_ranks(2, lambda world: go(1, world)), on_ranks(3, lambda world: go(2, world))
    assert not [result for result in [*two, *three] if isinstance(result, Exception)], (two, three)
    assert three[0][0] == whole.digest()
    cars = {car: own for _, cars in three for car, own in cars.items()}
    assert all(same(cars[car], own) for car, own in kept(made, whole).items())


class Odd(NamedTuple):
    best: Tensor
    count: int
    loss: float | None
    flag: bool
    least: float


class Keeps(FedAvg):
    """Keeps something odd, which is another after every round."""

    def __init__(self, *memories):
        super().__init__()
        object.__setattr__(self, "memories", memories)

    def init_memory(self, theta):
        return self.memories[0]

    def remember(self, memory):
        places = [place for place, one in enumerate(self.memories) if same(one, memory)]
        return self.memories[(places[-1] + 1) % len(self.memories)]


ODD = {
    "named": [Odd(torch.tensor([math.inf, math.nan]), 0, None, False, math.inf),
              Odd(torch.tensor([-0.0, 1e-45]), 2**62, math.nan, True, -math.inf)],
    "tuple": [(1.5, torch.arange(6).view(2, 3)), (-2.5, torch.arange(6, 12).view(2, 3))],
    "strides": [torch.zeros(3, 2).T, torch.arange(6.0).view(3, 2).T],
    "a number that becomes None": [1.0, None],
    "None that becomes a number": [None, 3],
    "numbers that become None": [(None, 2.0), (None, None)],
    "nothing": [None],
    "empty": [torch.zeros(0, 3)],
}


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("kind", ODD)
def test_what_an_own_algorithm_keeps_comes_back_whatever_it_is(kind, disk, tmp_path):
    """Round after round. Catches a part that is not written because what it holds is None now, which resumed with what
    the car kept before, bools that come back as ints, and infinities that are refused.
    """
    algorithm, cars = Keeps(*ODD[kind]), bowls()

    def make():
        made = quadratics.federation(algorithm, cars, folder=tmp_path if disk else None)
        return made, Checkpoints(tmp_path, made, "odd")

    made, checkpoints = make()
    state = initial_state(made)
    for number in range(1, 5):
        memories = {car: made.memories.save(car, algorithm.remember(made.memory(state, car)), state.memories.get(car))
                    for car in (range(5) if number % 2 else (0, 3))}
        state = replace(state, round=number, memories=state.memories | memories)
        checkpoints.save(state)
        fresh, others = make()
        found = others.load(initial_state(fresh), pytest.fail)
        for car in range(5):
            assert same(fresh.memory(found, car), made.memory(state, car)), (number, car)


def test_the_guards_history_and_the_learning_rate_after_a_rollback_go_on():
    """Catches a factor that starts at 1 again, and a guard that has forgotten what is usual."""
    def make():
        return quadratics.federation(FedADMM(rho=4.0, server_step=1.0), bowls(images=UNEQUAL), participation=0.4,
                                     lr=0.1, rounds=60, on_divergence="rollback")

    made, states = make(), []
    with pytest.raises(Exception, match="diverges again"):
        for result in simulate(made, initial_state(made)):
            states.append(result.state)
    back = next(number for number, state in enumerate(states) if state.lr_factor < 1)
    assert back + 3 < len(states)
    for start in (back - 1, back, back + 2):
        fresh = make()
        later = []
        with pytest.raises(Exception, match="diverges again"):
            for result in simulate(fresh, through(made, fresh, states[start])):
                later.append(result.state)
        assert [state.digest() for state in later] == [state.digest() for state in states[start + 1:]]
        assert [state.lr_factor for state in later] == [state.lr_factor for state in states[start + 1:]]
        assert later[-1].watch == states[-1].watch


def test_a_warning_is_given_once_in_a_run_also_if_it_goes_on():
    """Catches `warned` left behind."""
    made = quadratics.federation(FedAvg(), bowls())
    state = replace(initial_state(made), watch=Watch((1.0, 2.0), (), True))
    assert through(made, made, state).watch == state.watch


@pytest.mark.parametrize(("name", "value", "says"), [
    ("shared.theta", None, "has no shared.theta"),
    ("shared.theta", torch.zeros(5, dtype=torch.float64), r"is \(5,\)"),
    ("shared.theta", torch.zeros(4), "float32, not"),
    ("shared.theta", torch.full((4,), math.nan, dtype=torch.float64), "not finite"),
    ("shared.theta", torch.full((4,), math.inf, dtype=torch.float64), "not finite"),
    ("round", None, "has no round"), ("round", torch.tensor(-1), "counters are"),
    ("pictures", torch.empty(0), "counters are"), ("round", torch.tensor(1.0).double(), "counters are"),
    ("round", torch.tensor([1, 2]), "round is not a number"), ("round", torch.tensor(1.0), "not a number"),
    ("round", torch.tensor(1, dtype=torch.int8), "not a number"),
    ("lr_factor", torch.empty(0), "lr_factor is not"), ("lr_factor", torch.tensor(math.nan).double(), "not a number"),
    ("lr_factor", torch.tensor(2.0).double(), "not a number"),
    ("watch.steps", None, "watch.steps are not numbers"), ("watch.duals", torch.zeros(2, 2).double(), "not numbers"),
    ("watch.steps", torch.tensor([math.nan]).double(), "not numbers"),
])
def test_a_part_that_is_not_of_this_run_is_refused_by_name(name, value, says):
    """Catches each check left out."""
    made = quadratics.federation(FedAvg(), bowls())
    part = global_tensors(play(made, initial_state(made), 1))
    if value is None:
        del part[name]
    else:
        part[name] = value
    with pytest.raises(InvalidPart, match=says):
        restore_global(initial_state(made), part)
