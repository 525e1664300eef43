"""A user's own algorithm is tried before training: one test for each kind of fault, and all right ones pass."""

import importlib.util
import sys

import pytest
import torch
from own_algorithms import FAULTS, HEAD, LATE_FAULTS, SHARED
from test_contract import FEDERATED

from fedsim.algorithms import ALGORITHMS
from fedsim.errors import SettingsError
from fedsim.experiment.algorithm_trial import SHORT, check_algorithm


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A function that makes an instance of the class Mine of a module, and returns it with the module's file."""
    def make(source: str):
        path = tmp_path / "mine.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("mine", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "mine", module)
        spec.loader.exec_module(module)
        return module.Mine(), path

    return make


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_a_sentence_with_its_place(fault, make):
    """The class that has it, its file and line. Each of these was accepted before, or told without a place."""
    own, path = make(FAULTS[fault].source())
    try:
        with pytest.raises(SettingsError) as refusal:
            check_algorithm(own, torch.linspace(-1, 1, 50), "mine:Mine")
    finally:
        torch.set_grad_enabled(True)  # one of them sets it otherwise
    said = str(refusal.value)
    assert said.startswith("--algo mine:Mine: ") and FAULTS[fault].says in said and "\n" not in said
    assert f"({path}:" in said or f"(class Mine, {path})" in said


@pytest.mark.parametrize("name", FEDERATED)
@pytest.mark.parametrize("length", [1, 50, SHORT + 1])
def test_every_algorithm_of_fedsims_own_passes(name, length):
    """With sgd and, where it may be, with adam, which has no step length. Catches a trial that asks for too much."""
    for step_length in (1.0, *([] if FEDERATED[name].needs_step_length else [None])):
        check_algorithm(FEDERATED[name], torch.linspace(-1, 1, length), "mine:Mine", step_length, robust=True)


RIGHT = """
from functools import cached_property
class Kept(NamedTuple):
    w: object
    count: int
    last: object

class Sent(NamedTuple):
    move: object
    length: float

class Mine(FedAvg):
    sends_model = False
    @cached_property
    def factor(self): return 0.5
    def init_shared(self, theta): return S(theta, 0)._replace(c=0)
    def init_memory(self, theta): return Kept(theta.new_zeros(theta.shape).double(), 0, None)
    def correction(self, w, shared, memory): return 0.01 * memory.w
    def contribute(self, local, shared, memory):
        draw = torch.Generator().manual_seed(int(local.w.view(torch.int32).sum()))
        move = self.factor * (local.w - shared.theta) + 1e-6 * torch.randn(local.w.shape, generator=draw)
        return Sent(move, float(move @ move)), Kept(memory.w + move, memory.count + 1, 0.5)
    def update(self, shared, mean, participation):
        return shared._replace(theta=shared.theta + mean.move, c=shared.c + 0.5)
"""


def test_what_is_unusual_and_right_passes(make):
    """Memory in float64, a cache on self, noise drawn from what was given, a whole number that becomes a float, None
    that becomes a number. Catches a trial that asks for more than bits that repeat."""
    own, _ = make(HEAD + SHARED + RIGHT)
    for length in (50, SHORT + 1):
        check_algorithm(own, torch.linspace(-1, 1, length), "mine:Mine")
    assert own.factor == 0.5 and set(ALGORITHMS)


def test_an_algorithm_may_need_the_vector_as_long_as_it_is(make):
    """Such as one that knows where a layer lies. Catches a trial with a short vector alone."""
    body = "first, rest = local.w.split([100, 5000])\nreturn torch.cat([first, 0 * rest{}]), memory"
    own, _ = make(FAULTS["NaN"]._replace(method="contribute", body=body.format("")).source())
    check_algorithm(own, torch.linspace(-1, 1, 5100), "mine:Mine")
    own, _ = make(FAULTS["NaN"]._replace(method="contribute", body=body.format("[1:]")).source())
    with pytest.raises(SettingsError, match="must be a tensor shaped as theta"):
        check_algorithm(own, torch.linspace(-1, 1, 5100), "mine:Mine")


@pytest.mark.parametrize("fault", LATE_FAULTS)
def test_what_shows_late_passes_the_trial(fault, make):
    """So that the tests of a run's own watch test what they say."""
    check_algorithm(make(LATE_FAULTS[fault].source())[0], torch.linspace(-1, 1, 50), "mine:Mine")
