"""The data set `streets`: scenes that are drawn, so nothing is downloaded.

A drive stands for a recording of one place in one light. It has its own town, weather, camera and palette, so that cars
with a drive each differ as much as real ones. A scene depends only on split, drive and frame. Frames of a drive are so
far apart that they share its style and nothing else.

    drives     the drives, the kinds of place, the lights      frame      where everything stands in a frame
    style      what the scenes of a drive share                ground     sky, horizon and street
    paint      colours and paints                              objects    everything that stands on the ground
    texture    the patterns of paints                          canvas     the image of ids that is painted into
    camera     from metres to pixels                           render     from ids to picture and label
"""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import PIL

from fedsim import seeds
from fedsim.classes import CAMVID_11
from fedsim.data.datasets.streets.camera import SCENE_SIZE
from fedsim.data.datasets.streets.canvas import Canvas
from fedsim.data.datasets.streets.drives import FRAMES, Drive, drives_of, light_of
from fedsim.data.datasets.streets.frame import camera_of, paint_frame
from fedsim.data.datasets.streets.render import label, picture
from fedsim.data.datasets.streets.style import style_of
from fedsim.data.scene_set import Scene
from fedsim.errors import SettingsError

_style_of = lru_cache(maxsize=2)(style_of)  # making the textures takes longer than drawing a scene


def draw_scene(drive: Drive, frame: int) -> Scene:
    """Draw one scene. It does not depend on the scenes that were drawn before, nor on the process."""
    rng = seeds.stream(0, "streets", drive.split, drive.number, frame)
    style = _style_of(drive)
    camera = camera_of(style, rng)
    canvas = Canvas()
    paint_frame(canvas, camera, style, rng)
    image = picture(canvas, camera, light_of(style.light, rng), style.textures, rng)
    return Scene(f"{drive.name}/{frame:04d}", drive.name, image, label(canvas))


class Streets:
    """The data set of drawn streets, with `drives` training drives."""

    name = "streets"
    classes = CAMVID_11
    image_size = (SCENE_SIZE[0] // 2, SCENE_SIZE[1] // 2)

    def __init__(self, drives: int) -> None:
        if drives < 1:
            raise SettingsError(f"streets was asked for {drives} training drives; it needs at least 1")
        self._train_drives = drives

    def splits(self) -> tuple[str, ...]:
        return tuple(FRAMES)

    def identity(self, split: str) -> dict[str, object]:
        """Return the drives and a digest of the code that draws them, so that changed code draws anew."""
        code = hashlib.sha256()
        for path in (Path(seeds.__file__), *sorted(Path(__file__).parent.glob("*.py"))):
            code.update(path.read_bytes())
        return {
            "name": self.name,
            "split": split,
            "drives": [*self.drives(split)],
            "frames": FRAMES[split],
            "code": code.hexdigest(),
            "libraries": {"numpy": np.__version__, "pillow": PIL.__version__},
        }

    def count(self, split: str) -> int:
        return len(self._drives_of(split)) * FRAMES[split]

    def drives(self, split: str) -> tuple[str, ...]:
        return tuple(drive.name for drive in self._drives_of(split))

    def notes(self, split: str) -> list[str]:
        return []

    def picture(self, split: str, name: str) -> np.ndarray:
        drive, _, frame = name.rpartition("/")
        return draw_scene(next(one for one in self._drives_of(split) if one.name == drive), int(frame)).image

    def scenes(self, split: str) -> Iterator[Scene]:
        return (draw_scene(drive, frame) for drive in self._drives_of(split) for frame in range(FRAMES[split]))

    def _drives_of(self, split: str) -> tuple[Drive, ...]:
        return drives_of(split, self._train_drives)
