"""The scenes that panels and figures show."""

import numpy as np
import pytest
from layouts import draw, write_folder

from fedsim.data.cache import load
from fedsim.data.datasets import on_disk
from fedsim.data.datasets.folder import Folder
from fedsim.report.scenes import SHOWN_SCENES, load_shown


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
    assert load_shown(scenes, source, "val").images.shape == (SHOWN_SCENES, 6, 8, 3)
