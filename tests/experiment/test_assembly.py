"""The work of cars, as it is put together from settings.

Each test names a mutation that it was seen to catch.
"""

import pytest
from scenery import SOLO
from test_bad_input import FAST, refused  # noqa: F401 a fixture
from test_torchrun import command, digests, start

import fedsim
from fedsim.data.car_scenes import CarScenes
from fedsim.errors import SettingsError
from fedsim.experiment.assembly import assemble
from fedsim.federation.federation import Federation
from fedsim.federation.measuring import measure_statistics
from fedsim.federation.rounds import count_work, initial_state, run_round
from fedsim.main import main
from fedsim.settings.compatible import check
from fedsim.settings.fields import Settings
from fedsim.system.console import SILENT

SMALL = {"image_size": "32x24", "width": 4, "threads": 1, "cars": 4}
WORKS = [{"local_steps": 3}, {"local_epochs": 0.3}, {"local_epochs": 1}, {"local_epochs": "1:3"}, {"batch_size": 7},
         {"local_epochs": "1:3", "accumulate": 3}]


def put_together(**given) -> Federation:
    settings = Settings(**SMALL | given)
    return assemble(settings, check(settings), SOLO, SILENT).federation


def work_of(federation: Federation) -> list[tuple[int, int]]:
    """The pictures and the sequential steps after each of three rounds in which all cars take part."""
    state, counts = initial_state(federation), []
    for _ in range(3):
        state = count_work(federation, state, [*range(len(federation.fleet.cars))])
        counts.append((state.pictures, state.sequential_steps))
    return counts


@pytest.mark.parametrize("work", WORKS, ids=str)
def test_wide_centralised_training_does_the_work_of_a_federation_in_its_time(work):
    """With equal and with unequal cars. Catches a batch of batch size times cars, and --local-steps for each car."""
    for partition in ("drive", "quantity", "dirichlet"):
        given = {"partition": partition} | work
        wide = put_together(algo="central-wide", **given)
        assert work_of(wide) == work_of(put_together(algo="avg", **given))
        assert len(wide.fleet.cars) == 1 and wide.training.batch_size == 4 * given.get("batch_size", 2)


@pytest.mark.parametrize("algo", ["admm", "central", "central-wide"])
def test_a_step_over_three_batches_of_two_is_counted_as_one_of_six_scenes(algo):
    """So are pictures, the automatic penalty's step length, and a last step with fewer; the statistics of BatchNorm are
    measured on as many batches of two as ever. Catches steps that are counted in batches."""
    for work in ({"local_steps": 2}, {"local_epochs": 0.3}, {"local_epochs": "1:3"}):
        parts, whole = (put_together(algo=algo, partition="quantity", batch_size=size, accumulate=batches, **work)
                        for size, batches in ((2, 3), (6, 1)))
        assert work_of(parts) == work_of(whole)
        assert parts.step_length(0.1, initial_state(parts)) == whole.step_length(0.1, initial_state(whole))
        assert parts.training.batch_size == (8 if algo == "central-wide" else 2)
        assert parts.training.measured_batches == whole.training.measured_batches


def test_statistics_are_measured_on_as_many_scenes_whoever_trains(monkeypatch):
    """A federation of four cars measures 4 x 4 batches of two scenes. So does centralised training of either kind.

    Catches a single car that measures a single car's share, which costs centralised training some mIoU.
    """
    counts, usual = [], CarScenes.batch
    monkeypatch.setattr(CarScenes, "batch", lambda self, positions, *augment: (
        counts.append(len(positions)), usual(self, positions, *augment))[1])
    for algo, batches in (("avg", [2] * 16), ("central", [2] * 16), ("central-wide", [8] * 4)):
        made = put_together(algo=algo)
        state = run_round(made, initial_state(made)).state
        counts.clear()
        measure_statistics(made, state)
        assert counts == batches


def test_wide_steps_may_suit_a_network_that_cannot_train_on_one_scene():
    """Batches of three leave one over from a car's 100 scenes, and from all 400. Wide batches have eleven or twelve.

    Catches a check of the cars' batches, or of the pooled scenes, in the place of the wide ones.
    """
    given = {"model": "torchvision:deeplabv3_mobilenet_v3_large", "width": None, "rounds": 2, "batch_size": 3}
    with pytest.raises(SettingsError, match="cannot train on a single scene"):
        put_together(algo="central", **given)
    put_together(algo="central-wide", **given)
    with pytest.raises(SettingsError, match="cannot train on a single scene"):  # 100 scenes are 11 steps and 1 over
        put_together(algo="avg", accumulate=3, **given)
    put_together(algo="central", accumulate=3, **given)  # 400 are 44 steps and 4 over, two batches of two


def test_parts_of_pictures_are_trained_on_and_whole_ones_are_scored(tiny_camvid, tmp_path):
    """Stopped, and resumed on two ranks, with other options of training.

    Catches scores of parts, and places that depend on where a car is played.
    """
    more = ("--crop", "16x12", "--scale-range", "0.5,2", "--colour-jitter", "0.3", "--lr-schedule", "constant",
            "--loss", "ohem+0.5*lovasz", "--accumulate", "2", "--nesterov", "--momentum-across-rounds", "own")
    assert main(command(tiny_camvid, tmp_path / "whole", *more)) == 0
    assert main([*command(tiny_camvid, tmp_path / "halves", *more), "--rounds", "1"]) == 0
    done = start(2, "-m", "fedsim.main", "--resume", str(tmp_path / "halves"), "--rounds", "3")
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "halves")[-1] == digests(tmp_path / "whole")[-1]
    assert fedsim.load(tmp_path / "whole").card.input_size == (32, 24)


@pytest.mark.parametrize(("given", "says"), [
    (("--crop", "48x12"), "--crop is 48x12, which is larger than the pictures, 32x24; take a smaller part"),
    (("--crop", "4x4"), "4x4"), (("--crop", "big"), "--crop is 'big'; write WIDTHxHEIGHT in pixels"),
    (("--scale-range", "2,1"), "--scale-range is '2,1'; write LEAST,MOST, two numbers above 0"),
    (("--scale-range", "0,1"), "two numbers above 0"), (("--colour-jitter", "-1"), "at least 0 and at most 10"),
    (("--lr-schedule", "constant", "--lr-floor", "0.1"), "--lr-floor belongs to a learning rate that falls")])
def test_parts_that_cannot_be_are_refused(refused, given, says):  # noqa: F811
    assert says in refused(*FAST, *given)
