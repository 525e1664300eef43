"""Commands that an overview of a run tells."""

import shlex

import pytest

from fedsim.own_code import options_that_say_it
from fedsim.record.overview import read_environment


@pytest.mark.parametrize("algo", ["my.module:Mine", "my module:Mine", "$(x):'y'"])
def test_the_option_for_own_code_survives_a_shell(algo):
    """Catches a name that is not quoted."""
    assert shlex.split(options_that_say_it({"algo": algo, "model": "segnet"})) == ["--algo", algo]


def test_an_algorithm_of_fedsims_own_needs_no_option():
    assert options_that_say_it({"algo": "admm", "model": "torchvision:fcn_resnet50"}) == ""


@pytest.mark.parametrize("text", [None, "", "[1]", "{", "[" * 100_000])
def test_a_damaged_environment_is_an_empty_one(tmp_path, text):
    """Catches a traceback of `fedsim list` in a folder with one damaged run."""
    if text is not None:
        (tmp_path / "environment.json").write_text(text)
    assert read_environment(tmp_path) == {}
