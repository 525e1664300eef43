"""Files that are written whole or not at all."""

import errno
import os

import pytest

from fedsim.system.files import beside, replacing, write_whole


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    """Catches a block that writes in place, and a half of a file that stays."""
    path = tmp_path / "kept.txt"
    path.write_text("old")
    for error in (OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()):
        with pytest.raises(type(error)), replacing(path) as new:
            new.write_text("ne")
            raise error
        assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("refused", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_old_file(tmp_path, monkeypatch, refused):
    path = tmp_path / "kept.txt"
    path.write_text("old")
    monkeypatch.setattr(os, refused, lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        write_whole(path, "new")
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Catches a rename before the sync: after a loss of power, an empty file under the final name."""
    asked, sync, rename = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (asked.append("sync"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (asked.append("rename"), rename(*paths)))
    write_whole(tmp_path / "new.txt", "Gävle\n")
    assert asked == ["sync", "rename"] and (tmp_path / "new.txt").read_bytes() == "Gävle\n".encode()


def test_the_file_beside_has_the_suffix_that_writers_go_by(tmp_path):
    path = tmp_path / "drive.1" / "scene.0.png"
    assert (beside(path).suffix, beside(path).parent) == (".png", path.parent) and beside(path).name.startswith(".")
