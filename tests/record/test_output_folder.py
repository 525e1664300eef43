"""The folder of a command's output: made once, never overwritten."""

from pathlib import Path

import pytest

from fedsim.errors import OutputError
from fedsim.record.output_folder import make_dated_folder, make_output_folder


def test_folders_of_one_second_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20250102-030405")
    names = [make_dated_folder("runs", "admm-streets") for _ in range(3)]
    stem = "admm-streets-20250102-030405"
    assert names == [Path("runs", stem), Path("runs", f"{stem}-2"), Path("runs", f"{stem}-3")]
    assert all(name.is_dir() and not any(name.iterdir()) for name in names)


def test_a_file_called_runs_is_an_output_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("")
    with pytest.raises(OutputError, match="a file is in the way"):
        make_dated_folder("runs", "admm-streets")


def test_a_folder_that_is_named_is_made_or_empty(tmp_path):
    """Catches files of a user's that are mixed with those of a command."""
    named = tmp_path / "deep" / "named"
    assert [make_output_folder(named, "unused", "x") for _ in range(2)] == [named, named] and named.is_dir()
    (named / "notes.txt").write_text("precious")
    with pytest.raises(OutputError, match="already holds a run or other files"):
        make_output_folder(str(named), "unused", "x")
