"""fedsim in a script: what `fedsim.run` and `fedsim.load` give back, and that they leave the program as it was."""

import inspect
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fedsim
from fedsim.errors import OutputError, SettingsError
from fedsim.main import main
from fedsim.settings.fields import Settings

ROOT = Path(__file__).parent.parent
SMALL = {"rounds": 2, "image_size": "32x24", "width": 4, "threads": 1}


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> fedsim.Result:
    return fedsim.run(algo="avg", cars=3, **SMALL, out=str(tmp_path_factory.mktemp("api") / "run"))


def test_a_result_has_metrics_model_and_paths(result):
    assert [record["round"] for record in result.metrics] == [0, 1, 2]
    assert result.miou == result.metrics[-1]["global"]["miou"]
    assert result.settings.cars == 3 and result.settings.weighting == "images"
    assert result.report.is_file() and result.directory.name == "run"
    saved = load_file(result.directory / "checkpoints" / "model.safetensors")
    state = result.model.state_dict()
    assert not result.model.training and all(torch.equal(saved[name], state[name]) for name in saved)


def test_it_is_the_run_of_the_command_to_the_bit(result, tmp_path):
    """Catches a setting that the function drops."""
    words = ["--algo", "avg", "--cars", "3", "--rounds", "2", "--image-size", "32x24", "--width", "4", "--threads", "1"]
    assert main([*words, "--out", str(tmp_path / "typed")]) == 0
    typed = fedsim.Result.read(tmp_path / "typed")
    assert [one["theta_sha256"] for one in typed.metrics] == [one["theta_sha256"] for one in result.metrics]


def test_a_model_is_loaded_and_segments_pictures_of_any_size(result):
    pictures = [np.random.default_rng(0).integers(0, 256, size, np.uint8) for size in ((60, 80, 3), (33, 47, 3))]
    labels = fedsim.load(result.directory).labels(picture for picture in pictures)
    assert [one.shape for one in labels] == [(60, 80), (33, 47)] and all(one.max() < 11 for one in labels)


def test_cars_that_never_communicate_have_models_of_their_own(tmp_path):
    result = fedsim.run(algo="local", cars=2, **SMALL | {"rounds": 1}, out=str(tmp_path / "run"))
    assert len(result.models) == 2 and all(name.startswith("car-0") for name in result.models)
    with pytest.raises(KeyError):
        _ = result.model


def test_a_run_goes_on_and_refuses_what_would_change_it(result, tmp_path):
    """Catches arguments that equal their default and are taken for none: the run had another learning rate."""
    out = str(tmp_path / "run")
    first = fedsim.run(algo="avg", cars=2, lr=0.1, lr_schedule="constant", **SMALL | {"rounds": 1}, out=out)
    assert len(fedsim.run(resume=out, rounds=2).metrics) == 3 and len(first.metrics) == 2
    with pytest.raises(SettingsError, match=r"--lr is 0\.2, but"):
        fedsim.run(resume=out, rounds=3, lr=0.2)


def test_numbers_may_stand_for_words_and_paths_for_text(tmp_path):
    """Catches a run that can't go on: its config.toml has the word, its checkpoints were of the number."""
    out = tmp_path / "run"
    first = fedsim.run(algo="admm", cars=2, rho=0.1, local_epochs=1, option={"score_mean": True}, out=out,
                       **SMALL | {"rounds": 1})
    metrics = fedsim.run(resume=out, rounds=2, rho=0.1).metrics
    assert len(metrics) == 3
    assert ["mean_of_cars" in record for record in metrics] == [False, True, True] and metrics[:2] == first.metrics


def test_centralised_training_sees_as_many_pictures_as_all_cars(tmp_path):
    """By steps and by parts of an epoch. Catches a central run that takes the steps of one car."""
    for number, work in enumerate(({"local_steps": 3}, {"local_epochs": 0.1})):
        avg, central = (fedsim.run(algo=algo, cars=2, **work, **SMALL, out=str(tmp_path / f"{algo}-{number}"))
                        for algo in ("avg", "central"))
        for one, other in zip(avg.metrics, central.metrics, strict=True):
            assert one["pictures"] == other["pictures"]
            assert other["sequential_steps"] == 2 * one["sequential_steps"]


def test_the_program_keeps_its_random_numbers_and_its_threads(tmp_path):
    torch.manual_seed(7)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(7)
    fedsim.run(cars=2, **SMALL | {"rounds": 1, "threads": threads + 1}, out=str(tmp_path / "run"))
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == threads


def test_it_runs_in_a_thread_too(tmp_path):
    """Where Python lets nobody listen to signals, as in some notebooks."""
    found = []
    worker = threading.Thread(target=lambda: found.append(
        fedsim.run(cars=2, **SMALL | {"rounds": 1}, out=str(tmp_path / "run"))))
    worker.start()
    worker.join()
    assert len(found[0].metrics) == 2


@pytest.mark.parametrize(("arguments", "error", "says"), [
    ({"algo": "avgg"}, SettingsError, "--algo is 'avgg'"), ({"lr": -1.0}, SettingsError, "--lr is -1"),
    ({"resume": "nowhere"}, OutputError, "there is no run in it"), ({"cars": 2, "rho": "1", "algo": "avg"},
                                                                    SettingsError, "--rho")])
def test_mistakes_are_errors_that_say_what_to_do(arguments, error, says):
    with pytest.raises(error, match=says):
        fedsim.run(**arguments)


def test_a_setting_that_there_is_not_and_a_device_are_named(result):
    """Catches a device that is any other word for the CPU."""
    with pytest.raises(SettingsError, match="no setting 'carz'; known are algo, cars"):
        fedsim.run(carz=3)
    with pytest.raises(SettingsError, match="device is 'gpu'; choose from auto, cpu, cuda"):
        fedsim.load(result.directory, device="gpu")


def test_numbers_may_be_numpys():
    """As a sweep over numpy.logspace has them. Catches a type that only looks like Python's, and a truth value."""
    settings = Settings(lr=np.float32(0.5), cars=np.int64(3), rho=np.float64(0.25), width=np.uint8(4))
    assert settings == Settings(lr=0.5, cars=3, rho="0.25", width=4)
    assert {type(value) for value in (settings.lr, settings.cars, settings.width)} == {int, float}
    for wrong in ({"cars": np.float64(3)}, {"cars": np.bool_(True)}, {"lr": True}):
        with pytest.raises(SettingsError, match="expected"):
            Settings(**wrong)


def test_importing_fedsim_takes_no_torch_and_names_are_found(result):
    script = "import sys, fedsim; assert 'torch' not in sys.modules; assert 'run' in dir(fedsim); fedsim.run"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        fedsim.walk  # noqa: B018
    assert inspect.signature(fedsim.run).parameters.keys() == inspect.signature(Settings).parameters.keys()
    assert "rounds" in fedsim.run.__doc__
