"""fedsim data cache: entries are listed and cleared, and nothing else is touched."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from layouts import draw, write_folder

from fedsim.cli import main
from fedsim.data.cache import load
from fedsim.data.datasets.folder import Folder
from fedsim.system.files import lock


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A cache with two entries, one of them old, a damaged one, a half-built one, and files that are not its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FEDSIM_CACHE", str(folder))
    source = Folder(write_folder(tmp_path / "data", {f"a/{i}": draw(2, i) for i in range(3)}))
    for size in ((8, 6), (4, 3)):
        load(source, "train", size)
    for name in ("f" * 64, "e" * 64 + ".part"):
        (folder / name).mkdir()
        (folder / name / "images.npy").write_bytes(b"x" * 500_000)
    (folder / "mine.txt").write_text("mine")
    (folder / "notes").mkdir()
    (folder / ("d" * 64)).symlink_to(tmp_path / "data")
    return folder


@pytest.fixture
def cache(monkeypatch, capsys):
    def run(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["fedsim", "data", "cache", *arguments])
        main()
        return capsys.readouterr().out

    return run


def names(folder: Path) -> set[str]:
    return {path.name[:3] if len(path.name) > 60 else path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_entries_are_listed_with_what_they_hold(folder, cache):
    said = cache()
    assert "4 entries, 1.0 MB" in said and str(folder) in said
    assert "folder train 8x6" in said and "folder train 4x3" in said and "3" in said
    assert "damaged" in said and "incomplete" in said and "mine" not in said


def test_clearing_leaves_what_is_no_entry_or_is_being_written(folder, cache, tmp_path):
    held = load(Folder(tmp_path / "data"), "train", (8, 6))
    kept = np.array(held.images)
    with lock(folder / ("e" * 64 + ".lock")):
        assert "Removed 3 entries, 0.5 MB." in cache("--clear")
        assert names(folder) == {"eee", "ddd", "mine.txt", "notes"}
    assert np.array_equal(held.images, kept), "a run keeps what it has mapped"
    assert "Removed 1 entries" in cache("--clear") and names(folder) == {"ddd", "mine.txt", "notes"}
    assert (tmp_path / "data/classes.csv").exists() and "There are no entries" in cache()
    assert len(load(Folder(tmp_path / "data"), "train", (8, 6))) == 3


def test_only_old_entries_or_those_that_are_named_are_cleared(folder, cache):
    old, = (path for path in folder.glob("f" * 64))
    for path in (old / "images.npy", old):
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    assert "1 entries," in cache("--older-than", "30") and "40 d" in cache("--older-than", "30")
    assert "Removed 1 entries" in cache("--clear", "--older-than", "30") and "fff" not in names(folder)
    assert "Removed 1 entries" in cache("--clear", "eee") and "eee" not in names(folder)
    with pytest.raises(SystemExit):
        cache("--clear", "zz")


def test_opening_an_entry_makes_it_young(folder, cache, tmp_path):
    for path in folder.glob("*/meta.json"):
        for one in (*path.parent.iterdir(), path.parent):
            os.utime(one, (1, 1))
    load(Folder(tmp_path / "data"), "train", (8, 6))
    assert "Removed 1 entries" in cache("--clear", "--older-than", "30")
    assert "folder train 8x6" in cache() and "4x3" not in cache()


def test_a_cache_that_is_not_there_is_empty(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "no"))
    assert "There are no entries" in cache() and "Removed 0 entries" in cache("--clear")
    assert not (tmp_path / "no").exists()


def test_it_starts_without_torch(folder):
    program = "import sys; import fedsim.cli.cache; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
