"""The table of data sets: each opens by its name, with the options it has a use for."""

import numpy as np
import pytest
from layouts import draw, write_cityscapes, write_fastai, write_folder

from fedsim.data.datasets import SOURCES, default_root, open_source
from fedsim.errors import DataError, SettingsError

WRITE = {
    "camvid": lambda root: write_fastai(root, {f"0001TP_{i}": draw(32, i) for i in range(3)}, {"0016E5_1": draw(32)}),
    "cityscapes": lambda root: write_cityscapes(root, {f"aachen_00000{i}_000019": draw(34, i) for i in range(3)}),
    "folder": lambda root: write_folder(root, {name: draw(3, len(name)) for name in ("town/1", "town/20", "wood/1")}),
}


def open_small(name, tmp_path, classes=None):
    if name == "streets":
        return open_source(name, None, 2, classes)
    return open_source(name, WRITE[name.removesuffix("-sequences")](tmp_path), 2, classes)


@pytest.mark.parametrize("name", SOURCES)
def test_every_data_set_opens_by_its_name_and_gives_its_scenes(name, tmp_path):
    source = open_small(name, tmp_path)
    assert source.name == name and "train" in source.splits() and source.identity("train")
    scene = next(iter(source.scenes("train")))
    assert scene.image.shape == (*scene.label.shape, 3)
    assert scene.label[scene.label < 255].max() < len(source.classes)


@pytest.mark.parametrize("name", SOURCES)
def test_a_picture_alone_is_that_of_the_scene_of_its_name(name, tmp_path):
    """Catches a drive or frame that is off by one."""
    source, split = open_small(name, tmp_path), "val" if name == "streets" else "train"
    for scene in source.scenes(split):
        assert np.array_equal(source.picture(split, scene.name), scene.image)


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "camvid"])
def test_a_fixed_number_of_classes_cannot_be_chosen(name, tmp_path):
    with pytest.raises(SettingsError, match=f"--classes is 32, but {name} has a fixed number of classes"):
        open_small(name, tmp_path, 32)


def test_camvid_has_11_classes_unless_told(tmp_path):
    assert len(open_small("camvid", tmp_path).classes) == 11
    assert len(open_small("camvid", tmp_path, 32).classes) == 31


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "streets"])
@pytest.mark.parametrize("folder", ["data", "elsewhere"])
def test_a_data_set_is_looked_for_in_a_folder_of_its_name(name, folder, tmp_path, monkeypatch):
    """Below data, or below what FEDSIM_DATA names; both data sets of Cityscapes share one."""
    monkeypatch.chdir(tmp_path)
    if folder != "data":
        monkeypatch.setenv("FEDSIM_DATA", str(tmp_path / folder))
    kind = name.removesuffix("-sequences")
    with pytest.raises(DataError) as caught:
        open_source(name, None, 2)
    looked_for = f"data/{kind} in {tmp_path};" if folder == "data" else f"{tmp_path}/{folder}/{kind};"
    remedy = f"`fedsim data fetch {name}` gets it," if name == "camvid" else "put the data set there,"
    assert str(caught.value) == (f"--data {name}: there is no folder {looked_for} {remedy} or name its folder with "
                                 "--data-root")
    WRITE[kind](tmp_path / folder / kind)
    there = open_source(name, tmp_path / folder / kind, 2)
    assert open_source(name, None, 2).identity("train") == there.identity("train")
    assert default_root(name).resolve() == tmp_path / folder / kind


def test_streets_needs_no_folder():
    assert default_root("streets") is None


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "streets"])
def test_a_root_that_is_not_there_is_named(name, tmp_path):
    with pytest.raises(DataError, match=f"there is no directory {tmp_path}/nowhere; --data-root must name that of"):
        open_source(name, tmp_path / "nowhere", 2)
