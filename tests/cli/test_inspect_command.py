"""fedsim data inspect: what it tells of every car, and what it leaves."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedsim.cli import main
from fedsim.data.partition.skew import jensen_shannon
from fedsim.data.pixels import resize_picture


@pytest.fixture
def inspect(monkeypatch, capsys, tmp_path, tiny_camvid):
    """The command on the tiny data set, with what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str, root: Path | None = tiny_camvid) -> str:
        arguments = ["fedsim", "data", "inspect", "--data", "camvid", *options]
        arguments += ["--data-root", str(root)] if root else []
        monkeypatch.setattr("sys.argv", arguments)
        main()
        return capsys.readouterr().out

    return run


def labels(root: Path, names: list[str]) -> np.ndarray:
    """Pixels of each class in the files of these scenes."""
    return sum(np.bincount(np.asarray(Image.open(root / "trainannot" / f"{name}.png")).ravel(), minlength=12)[:11]
               for name in names)


def test_numbers_are_those_of_the_files(inspect, tiny_camvid, tmp_path):
    """Pixels counted anew from the label files. Catches counts of other scenes, and void counted.

    Colours are those of pictures at the network's size, so that no picture is cached at its own.
    """
    inspect("--partition", "quantity", "--cars", "4", "--out", "out")
    told = json.loads((tmp_path / "out" / "inspection.json").read_text())
    split = json.loads((tmp_path / "out" / "partition.json").read_text())
    pool = labels(tiny_camvid, [name for car in split["cars"] for name in car["scenes"]])
    assert list(told["pixels"].values()) == pool.tolist() and told["training_scenes"] == 18
    for car, dealt in zip(told["cars"], split["cars"], strict=True):
        own = labels(tiny_camvid, dealt["scenes"])
        assert list(car["pixels"].values()) == own.tolist() and car["scenes"] == len(dealt["scenes"])
        assert car["divergence_bits"] == pytest.approx(jensen_shannon(own, pool))
        pictures = np.stack([resize_picture(np.asarray(Image.open(tiny_camvid / "train" / f"{name}.png")), (120, 90))
                             for name in dealt["scenes"]])
        assert car["colour_mean"] == pytest.approx(pictures.mean((0, 1, 2)))
        assert car["colour_deviation"] == pytest.approx(pictures.std((0, 1, 2)))


def test_a_data_set_is_looked_for_in_its_default_folder(inspect, tiny_camvid, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "camvid").symlink_to(tiny_camvid)
    inspect("--cars", "4", "--out", "out", root=None)
    assert json.loads((tmp_path / "out" / "inspection.json").read_text())["training_scenes"] == 18


def test_a_sheet_a_car_a_heat_map_and_tables_are_left(inspect, tmp_path):
    said = inspect("--cars", "5", "--out", "out")
    out = tmp_path / "out"
    sheets = sorted(path.name for path in (out / "cars").iterdir())
    assert sheets == [f"car-0{i}-d{i}.png" for i in range(5)]
    with Image.open(out / "cars" / "car-00-d0.png") as sheet:
        assert sheet.size == (5 * 48 + 4 * 6, 2 * 36 + 1)  # five scenes, each a picture over its label
    with Image.open(out / "classes.png") as heat_map:
        assert heat_map.width > 500
    text = (out / "inspection.md").read_text()
    for car in ("00 d0", "04 d4"):
        assert car in said and f"| {car} |" in text
    assert "JS from pool, bits" in said and str(out / "classes.png").removeprefix(str(tmp_path) + "/") in said


def test_sheets_show_pictures_at_their_own_size_and_under_their_conditions(inspect, tmp_path, tiny_camvid):
    """Catches sheets of the network's small pictures, and those of another weather than the car's."""
    seen = {}
    for scheme in ("drive", "condition"):
        inspect("--cars", "5", "--partition", scheme, "--image-size", "12x9", "--out", scheme)
        with Image.open(tmp_path / scheme / "cars" / next(os.walk(tmp_path / scheme / "cars"))[2][0]) as sheet:
            seen[scheme] = np.asarray(sheet)[:36, :48]
    names = json.loads((tmp_path / "drive" / "partition.json").read_text())["cars"]
    originals = [np.asarray(Image.open(tiny_camvid / "train" / f"{car['scenes'][0]}.png")) for car in names]
    assert any(np.array_equal(seen["drive"], one) for one in originals)
    assert not any(np.array_equal(seen["condition"], one) for one in originals)


def test_several_faults_are_listed_by_kind(inspect, tiny_camvid, tmp_path, capsys):
    root = Path(shutil.copytree(tiny_camvid, tmp_path / "own"))
    names = sorted(path.name for path in (root / "trainannot").iterdir())
    for name in names[:3]:
        (root / "trainannot" / name).write_bytes(b"")
    Image.new("L", (48, 36), 77).save(root / "trainannot" / names[3])
    with pytest.raises(SystemExit) as stopped:
        inspect("--cars", "2", "--out", "out", root=root)
    told = capsys.readouterr()
    assert stopped.value.code == 2 and not (tmp_path / "out").exists()
    assert re.search(r"^[a-z ]+ \(3\):\n  .*own/trainannot/", told.out, re.MULTILINE)
    assert "labels with numbers of no class (1):" in told.out and all(name in told.out for name in names[:4])
    assert f"fedsim: {root} has 4 faults, listed above by kind" in told.err


def test_what_it_leaves_is_a_partition_for_a_run(inspect, tmp_path):
    inspect("--cars", "3", "--partition", "condition", "--image-size", "32x24", "--out", "one")
    inspect("--partition", "one/partition.json", "--image-size", "32x24", "--out", "two")
    split, again = (json.loads((tmp_path / name / "partition.json").read_text()) for name in ("one", "two"))
    assert split == again and all(car["condition"] for car in split["cars"])


def test_without_a_place_it_makes_one_of_its_own(inspect, tmp_path):
    inspect("--cars", "2")
    inspect("--cars", "2")
    assert len(list((tmp_path / "inspections").iterdir())) == 2


def test_classes_that_a_car_lacks_or_that_only_one_has_are_told(inspect, tiny_camvid, tmp_path):
    """A data set where car d0 alone has class 3 and car d1 lacks class 5 besides."""
    import shutil

    root = tmp_path / "uneven"
    shutil.copytree(tiny_camvid, root)
    for path in (root / "trainannot").iterdir():
        label = np.array(Image.open(path))
        label[(label == 3) & (not path.name.startswith("d0"))] = 0
        label[(label == 5) & path.name.startswith("d1")] = 0
        label[label == 9] = 0
        Image.fromarray(label).save(path)
    said = inspect("--cars", "5", "--out", "out", root=root)
    assert "WARNING: only one car has Road (d0)" in said
    assert "4 of 5 cars lack classes that others have: d1 (Road, Tree), d2 (Road), d3 (Road), d4 (Road)" in said
    assert "WARNING: no training scene has Pedestrian" in said
    assert json.loads((tmp_path / "out" / "inspection.json").read_text())["cars"][1]["lacks"] == ["Road", "Tree"]


@pytest.mark.parametrize(("options", "says"), [
    (["--cars", "19"], "there are 18 training scenes"), (["--partition", "nope"], "--partition is 'nope'"),
    (["--algo", "avg"], "there is no option"), (["--out", "full"], "already holds")])
def test_a_mistake_gets_one_sentence_and_status_2(inspect, capsys, tmp_path, options, says):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        inspect(*options)
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and says in told and len(told.splitlines()) == 1
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
