"""Names of files: printable, and never too long."""

import os

import pytest

from fedsim.system.files import beside, write_whole
from fedsim.system.names import fit_name, printable


def test_bytes_that_are_no_text_are_replaced_and_all_else_stays():
    assert printable("stra\udcdfe") == "stra\ufffde" and printable("straße 日 😀") == "straße 日 😀"


@pytest.mark.parametrize("name", [
    "a" * 255, "ü" * 127, "日" * 85, "a." + "b" * 253, "a" * 251 + ".png", "\udcff" * 255])
def test_every_name_of_the_file_system_can_be_written_whole(tmp_path, name):
    path = tmp_path / name
    write_whole(path, "text")
    assert os.listdir(tmp_path) == [name] and path.read_text() == "text"
    assert beside(path) == beside(path) and beside(path).name.startswith(".")


def test_a_name_that_fits_stays_and_long_ones_stay_apart():
    assert fit_name("a" * 251, ".png") == "a" * 251 + ".png"
    one, other = fit_name("a" * 252 + "b", ".png"), fit_name("a" * 252 + "c", ".png")
    assert one != other and len(one) == len(other) == 255 and one.endswith(".png")
