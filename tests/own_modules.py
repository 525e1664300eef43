"""Modules of a user's own in the working directory, for one test."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def write_module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> Iterator[str]:
    """Write a module into a folder, make it the working directory, and yield the module's name. Undo it afterwards."""
    monkeypatch.chdir(folder)
    (folder / f"{name}.py").write_text(code)
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    path = list(sys.path)
    yield name
    sys.path[:] = path
