"""Picture files: listed, opened, or refused by name."""

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from os.path import isdir  # Path's methods raise PermissionError instead of saying no
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from fedsim.data.datasets.picture_bytes import (
    FIRST_BYTES,
    ORIENTATION,
    describe_stranger,
    name_odd_jpeg,
    png_chunks,
    strip_png,
    tell_format,
)
from fedsim.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif")  # in capitals too
LITTER = ("thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "@eadir", "#recycle", "#snapshot", "@tmp", "__macosx",
          "$recycle.bin", "system volume information", "lost+found")
FORMATS = ("PNG", "JPEG")  # only these, because some of Pillow's decoders start other programs
UPRIGHT = dict(enumerate((Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
                          Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE,
                          Image.Transpose.ROTATE_90), start=2))  # EXIF orientation -> what makes the picture upright
UNREADABLE = "pictures that cannot be read"
_HEADER = threading.Lock()


def natural(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts names by the numbers in them: frame-2 before frame-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def is_litter(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or left behind by an operating system."""
    return name.startswith(".") or name.casefold() in LITTER


def folders(folder: Path) -> list[Path]:
    """List the folders in a folder, in the order of their names. Raises DataError."""
    return [path for path in _listing(folder) if isdir(path)]


def pictures(folder: Path) -> list[Path]:
    """List the pictures in a folder, in the order of their names. Raises DataError."""
    return [path for path in _listing(folder) if path.suffix.lower() in SUFFIXES and not isdir(path)]


def read_lines(path: Path) -> list[str]:
    """Read a text file: UTF-8, any line ends, with or without a byte order mark. Raises DataError."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; add it") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8; save it again as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({_reason(error)}); make it readable for yourself") from error


def open_picture(path: Path) -> Image.Image:
    """Read and decode a picture. Raises DataError as `open_with_header` does."""
    return open_with_header(path)[0]


def open_with_header(path: Path) -> tuple[Image.Image, bytes]:
    """Read and decode a picture; return it with the first bytes of its file. Raises DataError.

    A picture that is to be turned before it is shown is refused, because nobody knows whether its label was drawn
    before or after turning.
    """
    image, orientation, header = _decode(path)
    if orientation != 1:
        raise DataError(f"{path} is marked as turned or mirrored (EXIF orientation {orientation}), and nobody knows "
                        "whether its label was drawn before or after turning; turn picture and label alike, and save "
                        "both without the mark",
                        "pictures that are marked as turned")
    return image, header


def read_upright(path: Path) -> np.ndarray:
    """Read a picture as `read_picture` does, and turn it as EXIF says: for pictures that have no label."""
    image, orientation, _ = _decode(path)
    return np.asarray(rgb(image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image))


def format_of(path: Path) -> str:
    """Return the format of a file by its first bytes, "" if it is unknown. Decodes nothing. Raises OSError."""
    with open(path, "rb") as file:
        return tell_format(file.read(FIRST_BYTES))


def _decode(path: Path) -> tuple[Image.Image, int, bytes]:
    """Return the picture of a file, its EXIF orientation, 1 to 8, and the file's first bytes. Raises DataError."""
    try:
        data = _read(path)
        form = tell_format(data)
        if form not in FORMATS:
            raise ValueError(describe_stranger(data))
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there any more; restore it, and do not change pictures while they are read",
                        UNREADABLE) from error
    except OSError as error:
        remedy = "make it readable for yourself" if isinstance(error, PermissionError) else "check path and disk"
        raise DataError(f"{path} cannot be read ({_reason(error)}); {remedy}", UNREADABLE) from error
    except ValueError as error:
        raise DataError(f"{path} cannot be read as a picture: it {error}", UNREADABLE) from error
    try:
        return *(_decode_png(data) if form == "PNG" else _open(data)), data[:FIRST_BYTES]
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path} claims to have more than {Image.MAX_IMAGE_PIXELS:,} pixels, which is too many to "
                        "open safely; shrink it", UNREADABLE) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders throw nearly anything at a damaged file
        odd = name_odd_jpeg(data) if form == "JPEG" else None
        what = f"is {odd}; save it as PNG or as a JPEG of 8 bits" if odd else (
            f"is a damaged or incomplete {form} ({_reason(error)}); get the file anew")
        raise DataError(f"{path} cannot be read as a picture: it {what}", UNREADABLE) from error


def _read(path: Path) -> bytes:
    """Return all bytes of a PNG or JPEG, and the first bytes of any other file. Raises OSError."""
    with open(path, "rb") as file:
        first = file.read(FIRST_BYTES)
        return first + file.read() if tell_format(first) in FORMATS else first


def _decode_png(data: bytes) -> tuple[Image.Image, int]:
    """Decode a PNG as `_open` does, if need be without its texts and colour profile.

    Pillow refuses a PNG for texts and profiles that are large or damaged, but the picture may be whole.
    """
    for _ in png_chunks(data):  # raises ValueError for damage that Pillow does not notice
        pass
    try:
        return _open(data)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise
    except Exception:
        for texts in (ORIENTATION, ()):
            with suppress(Exception):
                return _open(strip_png(data, texts))
        raise


def _open(data: bytes) -> tuple[Image.Image, int]:
    """Return the picture in the bytes of a PNG or JPEG, and its EXIF orientation. Raises nearly anything."""
    with _quietly():
        image = Image.open(BytesIO(data), formats=FORMATS)
    with image:
        image.load()
        return image, _orientation(image)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a picture, 1 to 8; 1 (upright) if it has none, or one that means nothing."""
    try:
        with _quietly():
            mark = image.getexif().get(ExifTags.Base.Orientation)
        return int(mark) if mark in UPRIGHT else 1
    except Exception:  # Pillow's reader throws nearly anything at damaged EXIF
        return 1


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence Pillow's warnings, which name no file, and turn the one about too many pixels into an error.

    One thread at a time, because warning filters belong to the whole process. Decoding needs no lock.
    """
    with _HEADER, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def picture_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of a picture in pixels. Raises DataError."""
    return open_picture(path).size


def read_picture(path: Path) -> np.ndarray:
    """Read a picture as (h, w, 3) uint8 RGB. It may be grey, of 16 bits or transparent. Raises DataError."""
    return np.asarray(rgb(open_picture(path)))


def rgb(image: Image.Image) -> Image.Image:
    """Convert a picture to RGB: look up its palette, drop its transparency, scale 16 bits down to 8."""
    if image.mode == "I;16":  # in colour, Pillow has dropped the lower eight bits already
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image.info.pop("transparency", None)
    return image if image.mode == "RGB" else image.convert("RGB")


def _listing(folder: Path) -> list[Path]:
    """List what is in a folder, in the order of names, without hidden files and litter. Raises DataError."""
    try:
        return sorted((path for path in folder.iterdir() if not is_litter(path.name)),
                      key=lambda path: natural(path.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be read as a folder ({_reason(error)}); it must exist, and you must "
                        "be allowed to read it") from error


def _reason(error: Exception) -> str:
    """Describe an error in a few words. The path at the end of Pillow's text is left out: the message names it."""
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).split(" '")[0]
