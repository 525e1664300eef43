"""Files of a data set: found, paired, opened, and refused in one sentence that names the file."""

import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from os.path import isdir, isfile  # Path's own raise where one may not look
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from fedsim.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")  # in capitals too
FORMATS = ("PNG", "JPEG")  # no others are tried: some of Pillow's decoders start other programs
UPRIGHT = dict(enumerate((Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
                          Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE,
                          Image.Transpose.ROTATE_90), start=2))  # by EXIF orientation
_HEADER = threading.Lock()


def natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names as people count: frame-2 before frame-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, in the order of their names. Raises DataError."""
    return [path for path in _listing(folder) if isdir(path)]


def pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, in the order of their names. Raises DataError."""
    return [path for path in _listing(folder) if path.suffix.lower() in SUFFIXES and isfile(path)]


def read_lines(path: Path) -> list[str]:
    """A user's text, whatever its line ends, with or without a byte order mark. Raises DataError."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({_reason(error)}); it must be UTF-8 that you may read") from error


def by_name(paths: Iterable[Path], ending: str = "") -> dict[str, Path]:
    """Pictures by what they are called without extension and, where they have it, without `ending`.

    Raises DataError where two are called the same, such as a.png and a.jpg.
    """
    named: dict[str, Path] = {}
    for path in paths:
        other = named.setdefault(path.stem.removesuffix(ending), path)
        if other != path:
            raise DataError(f"{other} and {path.name} have the same name but for their ends; take one of them out")
    return named


def pair(images: dict[str, Path], labels: dict[str, Path], labels_folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """(name, picture, label) in natural order. Raises DataError where one of the two is missing."""
    for name in sorted(images.keys() | labels.keys(), key=natural):
        if name not in labels:
            raise DataError(f"{images[name]} has no label in {labels_folder}; add the label or take the picture out"
                            + _others(images.keys() - labels.keys(), "pictures without a label"))
        if name not in images:
            raise DataError(f"{labels[name]} is the label of no picture; add the picture or take the label out"
                            + _others(labels.keys() - images.keys(), "labels without a picture"))
        yield name, images[name], labels[name]


def open_picture(path: Path) -> Image.Image:
    """The picture of a file, decoded. Raises DataError.

    A picture that is to be turned before it is shown is refused: nobody knows whether its label was drawn
    before or after.
    """
    image, turned = _decoded(path)
    if turned not in (0, 1):
        raise DataError(f"{path} is marked as turned or mirrored (EXIF orientation {turned}), which no label can be; "
                        "turn its pixels and label alike and save it without the mark")
    return image


def read_upright(path: Path) -> np.ndarray:
    """As `read_picture`, but turned and mirrored as it is to be shown: for pictures without a label."""
    image, turned = _decoded(path)
    return np.asarray(rgb(image.transpose(UPRIGHT[turned]) if turned in UPRIGHT else image))


def _decoded(path: Path) -> tuple[Image.Image, int]:
    """The picture of a file, and how EXIF says it is to be turned. Raises DataError."""
    try:
        # Filters of warnings belong to the whole process, so one thread at a time; decoding is outside.
        with _HEADER, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
        with image:
            image.load()
            return image, image.getexif().get(ExifTags.Base.Orientation, 1)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path} claims to have more than {Image.MAX_IMAGE_PIXELS:,} pixels, more than a picture is "
                        "trusted with; shrink it") from error
    except PermissionError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); make it readable for yourself") from error
    except Exception as error:  # Pillow's decoders throw nearly anything at a damaged file
        raise DataError(f"{path} cannot be read as a picture ({_reason(error)}); get it anew") from error


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of a picture. Raises DataError."""
    return open_picture(path).size


def read_picture(path: Path) -> np.ndarray:
    """(h, w, 3) uint8 RGB of a picture in grey or colour, of 8 or 16 bits, without its transparency."""
    return np.asarray(rgb(open_picture(path)))


def rgb(image: Image.Image) -> Image.Image:
    """A picture in RGB: colours of a palette looked up, transparency dropped, 16 bits scaled down to 8."""
    if image.mode == "I;16":  # in colour, Pillow has dropped the lower eight bits already
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image.info.pop("transparency", None)
    return image if image.mode == "RGB" else image.convert("RGB")


def _listing(folder: Path) -> list[Path]:
    """What is in a folder in the order of names, but for hidden files."""
    try:
        return sorted((path for path in folder.iterdir() if not path.name.startswith(".")),
                      key=lambda path: natural(path.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be read as a folder ({_reason(error)}); it must be there for you to "
                        "read") from error


def _others(names: set[str], what: str) -> str:
    return f" (one of {len(names)} {what})" if len(names) > 1 else ""


def _reason(error: Exception) -> str:
    """The error in a few words, without the path that Pillow ends with: the message names it already."""
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).split(" '")[0]
