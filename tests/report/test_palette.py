"""Algorithms are told apart by their lines."""

import pytest
from PIL import Image
from records import make_records

from fedsim.algorithms import ALGORITHMS
from fedsim.report.palette import line_style, line_styles
from fedsim.report.run_figures import draw_miou
from fedsim.settings.registry import NAMES


def test_each_algorithm_has_a_style_of_its_own():
    styles = [line_style(name) for name in NAMES]
    assert line_styles(NAMES) == styles and len({*styles}) == len(NAMES)


def test_rows_of_one_algorithm_are_told_apart_and_keep_its_colour():
    first, central, second, third = line_styles(["avg", "central", "avg", "avg"])
    assert first == line_style("avg") and central == line_style("central")
    assert len({first.colour, second.colour, third.colour}) == len({first.marker, second.marker, third.marker}) == 3
    assert second.colour == "#66AAD1"  # 60 % of #0072B2 on white


def test_an_algorithm_added_to_fedsim_has_a_line(tmp_path, monkeypatch):
    """Catches a list of names that whoever adds an algorithm would have to know of: a run ended without a report."""
    monkeypatch.setitem(ALGORITHMS, "new", ALGORITHMS["avg"])
    draw_miou(make_records(rounds=2, cars=2, algo="new"), tmp_path / "miou.png", {})
    assert Image.open(tmp_path / "miou.png").size == (1320, 640)
    assert line_style("new") not in [line_style(name) for name in ("avg", "admm", "yogi")]


@pytest.mark.parametrize("count", [2, 6, 9])
def test_algorithms_without_a_style_get_different_lines_in_one_figure(count):
    styles = line_styles(["avg", *(f"mine:{index}" for index in range(count)), "avgm"])
    assert styles[0] == line_style("avg") and styles[-1] == line_style("avgm") and len({*styles}) == count + 2
