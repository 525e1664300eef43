"""A drive that is held out of training: which scenes are left to train on, and which are scored."""

from collections.abc import Callable, Sequence

import numpy as np

from fedsim.data.partition import HELD_OUT, Scored
from fedsim.data.scene_set import SceneSet, Source
from fedsim.errors import SettingsError

LISTED = 30  # names of drives in a sentence


def check_drive(source: Source, drive: str | None) -> None:
    """Check that a drive can be held out. Opens no picture. If the drive is None, there is nothing to check.

    Raises SettingsError if the training split has no such drive, or no other one. Raises DataError as `Source.drives`
    does.
    """
    if drive is None:
        return
    known = source.drives("train")
    if drive not in known:
        raise SettingsError(f"--hold-out-drive is {drive!r}, but the training split of {source.name} has no such "
                            f"drive; it has {_list(known)}")
    if len(known) == 1:
        raise SettingsError(f"--hold-out-drive {drive} leaves nothing to train on: it is the only drive in the "
                            f"training split of {source.name}; leave the option out")


def trained_scenes(train: SceneSet, drive: str | None) -> SceneSet:
    """Return the training scenes of all drives but the one that is held out; all scenes if no drive is held out."""
    return train if drive is None else train.take(np.flatnonzero(_of_drive(train, drive) == 0))


def scored_scenes(load: Callable[[str], SceneSet], scored: Scored) -> SceneSet:
    """Return the scenes that are scored. load: loads a split of the data set."""
    scenes = load(scored.on_disk)
    if scored.split == HELD_OUT:
        assert scored.drive is not None, "settings were checked"
        return scenes.take(np.flatnonzero(_of_drive(scenes, scored.drive)))
    return trained_scenes(scenes, scored.drive) if scored.split == "train" else scenes


def _of_drive(scenes: SceneSet, drive: str) -> np.ndarray:
    """Return which scenes are of a drive, (N,) bool."""
    return np.array([one == drive for one in scenes.drives])


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
