"""The scenes that panels and figures show: always the same ones of a split."""

from typing import NamedTuple

import numpy as np

from fedsim.data.scene_set import SceneSet, Source
from fedsim.errors import DataError

SHOWN_SCENES = 4  # of a split, evenly spread: the columns of a panel


class Shown(NamedTuple):
    """Scenes to look at."""

    names: list[str]
    images: np.ndarray  # (K, h, w, 3) uint8 RGB
    labels: np.ndarray  # (K, h, w) uint8 class index or VOID


def which_shown(scenes: SceneSet) -> np.ndarray:
    """The indices of the shown scenes, (K,) int64."""
    return np.unique(np.linspace(0, len(scenes) - 1, SHOWN_SCENES).astype(np.int64))


def shown_scenes(scenes: SceneSet, source: Source, split: str) -> Shown:
    """The shown scenes of a split. The network sees pictures at its own size; people see them as the data set has them.

    scenes: that split, from that source.
    """
    where = which_shown(scenes)
    try:
        images = np.stack([source.scene(split, index).image for index in where.tolist()])
    except DataError:  # a file has gone since it was read into the cache: no reason to end a run
        images = scenes.images[where].transpose(0, 2, 3, 1)
    return Shown([scenes.names[index] for index in where], images, np.array(scenes.labels[where]))
