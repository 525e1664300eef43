"""Write segmented pictures as files: overlays, colours and class indices.

    DIR/overlay/NAME.jpg    the picture under the colours of its classes; JPEG, because a photograph as PNG takes
                            longer to write than a small network needs to segment it
    DIR/colour/NAME.png     class colours, by a palette
    DIR/index/NAME.png      class indices, 8 bits of grey
    DIR/classes.json        the index and the colour of each class
"""

import json
import zlib
from dataclasses import dataclass
from os.path import isdir, isfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fedsim.classes import ClassTable
from fedsim.errors import OutputError
from fedsim.system.files import replacing, write_whole
from fedsim.system.names import fit_name

QUALITY = 90  # quality of a JPEG, in percent
RUNS = {"compress_type": zlib.Z_RLE}  # of a PNG: label maps are runs, and get smaller in half the time


def is_result(folder: Path) -> bool:
    """Return whether a folder holds what `Predictions` writes."""
    return isfile(folder / "classes.json") and all(isdir(folder / kind) for kind in ("overlay", "colour", "index"))


@dataclass(frozen=True)
class Predictions:
    """A folder of segmented pictures, in which every file is whole at any moment."""

    folder: Path
    classes: ClassTable
    alpha: float  # opacity of the colours over the picture, 0..1

    def describe(self) -> None:
        """Write classes.json. Raises OutputError if the disk refuses."""
        classes = [{"index": index, "name": name, "colour": colour}
                   for index, (name, colour) in enumerate(zip(self.classes.names, self.classes.colours, strict=True))]
        text = json.dumps({"classes": classes}, indent=1, ensure_ascii=False) + "\n"
        try:
            write_whole(self.folder / "classes.json", text)
        except OSError as error:
            raise _cannot_write(self.folder / "classes.json", error) from error

    def write(self, name: str, picture: np.ndarray, labels: np.ndarray) -> None:
        """Write the three files of a picture (h, w, 3) uint8 with its labels (h, w) uint8.

        name: without a suffix; it may begin with folders. Raises OutputError if the disk refuses.
        """
        index, colour = Image.fromarray(labels), Image.fromarray(labels)
        colour.putpalette([level for colour in self.classes.colours for level in colour])
        overlay = Image.blend(Image.fromarray(picture), colour.convert("RGB"), self.alpha)
        self._save(overlay, f"overlay/{name}.jpg", quality=QUALITY)
        self._save(colour, f"colour/{name}.png", **RUNS)
        self._save(index, f"index/{name}.png", **RUNS)

    def _save(self, image: Image.Image, name: str, **options: Any) -> None:
        path = self.folder / name
        path = path.with_name(fit_name(path.stem, path.suffix))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as new:
                image.save(new, **options)
        except OSError as error:
            raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path} ({error.strerror or error}); make room, or choose another --out")
