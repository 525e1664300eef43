"""The data sets by name; each is one small module."""

from importlib import import_module
from inspect import signature
from os.path import isdir
from pathlib import Path
from typing import TYPE_CHECKING

from fedsim.errors import DataError, SettingsError
from fedsim.system.paths import path_from_environment

if TYPE_CHECKING:  # it imports numpy, and the command line reads names alone
    from fedsim.data.scene_set import Source

# Name -> module and class, imported when the data set is opened. A class takes those of these arguments that it needs:
# `root`, the folder of the data set; `drives`, the number of training drives; `classes`, the number of classes.
SOURCES = {
    "streets": ("streets", "Streets"),
    "camvid": ("camvid", "CamVid"),
    "cityscapes": ("cityscapes", "Cityscapes"),
    "cityscapes-sequences": ("cityscapes", "CityscapesSequences"),
    "folder": ("folder", "Folder"),
}


FETCHED = ("camvid",)  # the data sets that `fedsim data fetch NAME` downloads


def default_root(name: str) -> Path | None:
    """Return the folder in which a data set lies if no other is named; None for streets, which needs no folder.

    It is $FEDSIM_DATA/NAME, else data/NAME in the current folder. Both data sets of Cityscapes read the same files.
    """
    if name == "streets":
        return None
    return (path_from_environment("FEDSIM_DATA") or Path("data")) / name.removesuffix("-sequences")


def open_source(name: str, root: Path | None, drives: int, classes: int | None = None) -> "Source":
    """Return a data set by its name. It gets only the options that it uses.

    root: its folder; None for the default one. Raises SettingsError for an option that does not go with the data set,
    DataError if its folder is not there or holds other files.
    """
    if root is None and (root := default_root(name)) and not isdir(root):
        where = "" if root.is_absolute() else f" in {Path.cwd()}"
        remedy = (f"`fedsim data fetch {name}` gets it, or name" if name in FETCHED
                  else "put the data set there, or name")
        raise DataError(f"--data {name}: there is no folder {root}{where}; {remedy} its folder with --data-root")
    module, kind = SOURCES[name]
    source = getattr(import_module(f"fedsim.data.datasets.{module}"), kind)
    uses = signature(source).parameters
    if classes is not None and "classes" not in uses:
        raise SettingsError(f"--classes is {classes}, but {name} has a fixed number of classes; leave it out")
    given = {"root": root, "drives": drives, "classes": classes}
    return source(**{option: value for option, value in given.items() if option in uses and value is not None})
