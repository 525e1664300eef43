"""Data sets by name; each is one small module."""

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from fedsim.errors import SettingsError

if TYPE_CHECKING:  # it imports numpy, and the command line reads names alone
    from fedsim.data.scene_set import Source

# Name -> module and class, imported when asked for. What a class is made from, its arguments say: `root`, the folder
# of the data set; `drives`, how many to make; `classes`, how many to tell apart where there is a choice.
SOURCES = {
    "streets": ("streets", "Streets"),
    "camvid": ("camvid", "CamVid"),
    "cityscapes": ("cityscapes", "Cityscapes"),
    "cityscapes-sequences": ("cityscapes", "CityscapesSequences"),
    "folder": ("folder", "Folder"),
}


def open_source(name: str, root: Path | None, drives: int, classes: int | None = None) -> "Source":
    """A data set by name, of the options it has a use for. Raises SettingsError, DataError."""
    module, kind = SOURCES[name]
    source = getattr(import_module(f"fedsim.data.datasets.{module}"), kind)
    uses = signature(source).parameters
    if classes is not None and "classes" not in uses:
        raise SettingsError(f"--classes is {classes}, but {name} has a fixed number of classes; leave it out")
    given = {"root": root, "drives": drives, "classes": classes}
    return source(**{option: value for option, value in given.items() if option in uses and value is not None})
