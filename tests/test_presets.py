"""The presets in launch/presets: each is one that `--config` takes, and is what it says it is."""

import re
from pathlib import Path

import pytest
from commandline import parse

from fedsim.federation.participation import number_of_cars
from fedsim.settings import compatible
from fedsim.settings.fields import Settings, read_settings

PRESETS = sorted((Path(__file__).parent.parent / "launch" / "presets").glob("*.toml"))


def test_there_are_presets_to_begin_with_to_publish_with_and_to_grow_with():
    assert {path.stem for path in PRESETS} == {
        "streets-quick", "streets-short-rounds", "camvid-paper", "camvid-best", "camvid-short-rounds",
        "camvid-full-size", "thousand-cars"}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_goes_together_and_says_how_it_is_used(path):
    """Catches a setting that has been renamed, one that the algorithm does not read, and a command that is no more."""
    settings = parse(["--config", str(path)])
    command, = re.findall(r"^#   fedsim run (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert f"--config launch/presets/{path.name}" in command
    compatible.check(settings)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_says_nothing_that_is_a_default(path):
    """But for what it is about: the algorithm, the cars, the split."""
    about = {"algo", "cars", "eval_split", "lr", "partition", "momentum", "model"}
    defaults = vars(Settings())
    assert not [name for name, value in read_settings(path).items() if value == defaults[name] and name not in about]


def test_two_of_three_cars_take_part_in_the_papers_setting():
    settings = read_settings(next(path for path in PRESETS if path.stem == "camvid-paper"))
    assert number_of_cars(settings["cars"], settings["participation"]) == 2
