"""The scenes that are shown, and panels of them."""

import numpy as np
import pytest
from layouts import draw, save, write_folder
from scenery import grey_scenes

from fedsim.classes import CAMVID_11
from fedsim.data.cache import load
from fedsim.data.datasets import on_disk
from fedsim.data.datasets.folder import Folder
from fedsim.report.scenes import GAP, TILE_WIDTH, load_shown, panel


@pytest.fixture
def source(tmp_path, monkeypatch) -> Folder:
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))
    return Folder(write_folder(tmp_path / "data", {f"town/{i}": draw(3, i) for i in range(10)}, "val"))


def test_only_the_shown_scenes_are_read(source, monkeypatch):
    """Catches decoding the split up to the last scene that is shown."""
    scenes, everything, opened = load(source, "val", None), list(source.scenes("val")), []
    read = on_disk.read_picture
    monkeypatch.setattr(on_disk, "read_picture", lambda path: opened.append(path.stem) or read(path))
    shown = load_shown(scenes, source, "val")
    assert opened == ["0", "3", "6", "9"] and shown.names == [f"town/{stem}" for stem in opened]
    assert np.array_equal(shown.images, [everything[int(stem)].image for stem in opened])
    assert np.array_equal(shown.labels, [everything[int(stem)].label for stem in opened])


def test_pictures_of_the_cache_stand_in_for_files_that_have_gone(source):
    scenes = load(source, "val", (8, 6))
    for kind in ("images", "labels"):
        (source.root / kind / "val/town/9.png").unlink()
    assert [image.shape[:2] for image in load_shown(scenes, source, "val").images] == [(12, 16)] * 3 + [(6, 8)]


@pytest.mark.parametrize("change", ["add", "remove", "swap"])
def test_shown_scenes_are_those_of_their_names_although_the_split_has_changed(source, change):
    """Catches scenes found by their places: each shown picture would be another scene's."""
    scenes = load(source, "val", (8, 6))
    everything = {scene.name: scene.image for scene in source.scenes("val")}
    again = Folder(source.root)  # as a process that starts now lists the files
    for kind in ("images", "labels"):
        folder = source.root / kind / "val/town"
        if change == "add":
            save(draw(3).label, folder / "00.png")
        elif change == "remove":
            (folder / "1.png").unlink()
        else:
            (folder / "9.png").rename(folder / "90.png")
    shown = load_shown(scenes, again, "val")
    assert shown.names == ["town/0", "town/3", "town/6", "town/9"]
    for name, image in zip(shown.names[:3], shown.images, strict=False):
        assert np.array_equal(image, everything[name])
    assert shown.images[3].shape == ((6, 8, 3) if change == "swap" else (12, 16, 3))


def test_scenes_of_several_sizes_are_shown_at_the_size_of_the_first():
    images, labels, predictions = (list(one) for one in grey_scenes(2))
    labels[1], predictions[1] = labels[1][:, :40], predictions[1][:, :10]
    assert panel(images, labels, predictions, CAMVID_11).shape == (3 * 60 + 2 * GAP, 2 * 80 + GAP, 3)


def test_a_panel_stacks_scene_truth_and_prediction_with_void_black():
    picture = panel(*grey_scenes(3), CAMVID_11)
    assert picture.dtype == np.uint8 and picture.shape == (3 * 60 + 2 * GAP, 3 * 80 + 2 * GAP, 3)
    road = CAMVID_11.colours[3]
    for column in range(3):
        left = column * (80 + GAP)
        scene, truth, prediction = (picture[top : top + 60, left : left + 80]
                                    for top in (0, 60 + GAP, 2 * (60 + GAP)))
        assert (scene == 77).all() and (prediction == road).all()
        assert (truth[:30] == road).all() and (truth[30:] == 0).all()
    assert (picture[60 : 60 + GAP] == 255).all() and (picture[:, 80 : 80 + GAP] == 255).all()


def test_a_panel_of_large_labels_is_scaled_down_without_inventing_colours():
    """Mutation: bilinear scaling of labels blends Road and void."""
    images, labels, predictions = grey_scenes(2)
    labels = labels.repeat(12, axis=1).repeat(12, axis=2)  # 720 × 960
    picture = panel(images, labels, predictions, CAMVID_11)
    height = TILE_WIDTH * 3 // 4
    assert picture.shape == (3 * height + 2 * GAP, 2 * TILE_WIDTH + GAP, 3)
    truth = picture[height + GAP : 2 * height + GAP, :TILE_WIDTH]
    assert {tuple(colour) for colour in truth.reshape(-1, 3).tolist()} == {CAMVID_11.colours[3], (0, 0, 0)}
