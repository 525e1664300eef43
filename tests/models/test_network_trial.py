"""A network of a user's own is tried before training: one test for each kind of fault, and all right ones pass."""

import pytest
import torch
from federations import altered
from own_networks import FAULTS, RIGHT, Own
from scenery import CLASSES, CPU, ONE_AT_A_TIME, federation, on_ranks, training
from test_bad_input import FAST, on_disk, refused  # noqa: F401 a fixture
from test_torchrun import command, digests

from fedsim.algorithms import FedAvg
from fedsim.errors import SettingsError
from fedsim.experiment.network_trial import check_network, is_known, try_network
from fedsim.federation.rounds import initial_state, run_round
from fedsim.inference.segmenter import Segmenter
from fedsim.main import main
from fedsim.models import build_model
from fedsim.models.flat import FlatModel

SIZE = (32, 24)


def build(make):
    """What makes the same network each time."""
    def build():
        torch.manual_seed(1)
        return make(CLASSES)

    return build


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_a_sentence_with_its_tensor(fault):
    """By its qualified name. Each of these was trained before, or ended in a traceback."""
    make, says = FAULTS[fault]
    with pytest.raises(SettingsError) as refusal:
        check_network("mine", build(make), CLASSES, SIZE, CPU)
    said = str(refusal.value)
    assert said.startswith("--model mine: ") and says in said and "\n" not in said
    assert "raises" not in says or "own_networks.py:" in said


@pytest.mark.parametrize("name", RIGHT)
def test_what_no_car_changes_may_be_in_a_network(name):
    """And all that follows the rules of --batchnorm. Catches a trial that asks for too much, and one that trains."""
    made = check_network("mine", build(RIGHT[name]), CLASSES, SIZE, CPU)
    for (key, ours), theirs in zip(made.state_dict().items(), build(RIGHT[name])().state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key


def test_statistics_with_a_momentum_of_their_own_can_be_pooled():
    make, _ = FAULTS["a momentum of its own"]
    check_network("mine", build(make), CLASSES, SIZE, CPU, recalibrates=False)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("name", ["segnet-small", "segnet-basic", "segnet", "torchvision:lraspp_mobilenet_v3_large"])
def test_every_network_of_fedsims_own_passes_and_needs_no_trial(name, norm):
    model = build_model(name, CLASSES, None if ":" in name else 4, norm)
    assert is_known(model) and try_network(model, CLASSES, (48, 40), CPU) is None


@pytest.fixture
def use(monkeypatch):
    """A function that puts a network in the place of segnet-small."""
    def use(make):
        for place in ("fedsim.experiment.assembly", "fedsim.models.card"):
            monkeypatch.setattr(f"{place}.build_model", lambda name, classes, width, norm, options: make(classes))

    return use


@pytest.mark.parametrize("batchnorm", ["pooled", "average", "local-statistics", "recalibrate"])
@pytest.mark.parametrize("name", ["batch norm over all batches", "instance norm with statistics", "position"])
def test_the_number_of_ranks_changes_no_bit(name, batchnorm):
    """1 and 3 ranks, with part of the cars. Catches a count of batches that goes from car to car: with momentum=None a
    layer weighs each batch by it. Catches statistics of InstanceNorm that belong to no car."""
    def play(world):
        made = federation(FedAvg(), [3, 1, 4, 2], batchnorm=batchnorm, world=world, local=training(batch_size=1))
        with ONE_AT_A_TIME:
            module = build(RIGHT[name])()
        made = altered(made, participation=0.75, model=FlatModel(module, CPU))
        state = initial_state(made)
        for _ in range(3):
            state = run_round(made, state).state
        return state.digest(), [state.own_norms[car].statistics for car in sorted(state.own_norms)]

    alone, = on_ranks(1, play)
    everywhere = on_ranks(3, play)
    assert {digest for digest, _ in everywhere} == {alone[0]}
    there = sorted((norms.tolist() for _, own in everywhere for norms in own))
    assert there == sorted(norms.tolist() for norms in alone[1])


@pytest.mark.parametrize("name", ["position", "tied", "a frozen norm beside a trained one", "the old weight norm",
                                  "dropout", "drawn like", "batch norm over all batches"])
def test_a_network_of_ones_own_is_trained_resumed_and_loaded(use, tiny_camvid, tmp_path, name):
    """The bits of a run left alone, and the weights of its end. Catches buffers that no file holds, lost on loading."""
    use(RIGHT[name])
    options = ("--batchnorm", "pooled") if "batch" in name else ()
    assert main(command(tiny_camvid, tmp_path / "whole", *options)) == 0
    assert main([*command(tiny_camvid, tmp_path / "halves", *options), "--rounds", "1"]) == 0
    assert main(["--resume", str(tmp_path / "halves"), "--rounds", "3"]) == 0
    halves, whole = digests(tmp_path / "halves"), digests(tmp_path / "whole")
    assert [theta for theta, _ in halves] == [theta for theta, _ in whole]  # a run of one round has scored it
    assert halves[-1] == whole[-1]
    model = Segmenter.load(tmp_path / "whole")
    again = build(RIGHT[name])().load_state_dict(model.module.state_dict(), strict=False)
    assert not again.unexpected_keys
    assert model.module(torch.zeros(1, 3, 24, 32)).isfinite().all()


def test_a_network_is_refused_before_a_run_leaves_anything(use, refused, tiny_camvid):  # noqa: F811
    use(FAULTS["a running mean of its own"][0])
    said = refused(*on_disk(tiny_camvid), own_code=True)
    assert said.startswith("--model segnet-small: its ema changes in a training step")


class Late(Own):
    """A network that changes a buffer, or fails, only in some later step."""

    error: type[BaseException] | None = None

    def add(self) -> None:
        self.register_buffer("steps", torch.zeros(()))
        self.calls = 0

    def use(self, x):
        self.calls += 1
        if self.calls > 12 and self.error:
            raise self.error
        if self.calls > 12:
            self.steps += 1
        return x


@pytest.mark.parametrize(("error", "says"), [
    (None, "the network changed its steps"), (OSError, "--model segnet-small raises OSError ("),
    (SystemExit, "--model segnet-small raises SystemExit ("), (StopIteration, "raises StopIteration (")])
def test_what_a_network_does_late_is_told_too(use, monkeypatch, tiny_camvid, tmp_path, capsys, error, says):
    """With the round, and its file and line. Catches a buffer that travels from car to car, a fault of fedsim's own
    files, and an end without a word."""
    use(Late)
    monkeypatch.setattr(Late, "error", error)
    assert main(command(tiny_camvid, tmp_path / "run")) == 1
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and says in told and "round" in told
    assert error is None or "test_network_trial.py:" in told
