"""Picture files: listed, opened, or refused by name."""

import re
import threading
import warnings
from io import BytesIO
from os.path import isdir, isfile  # Path's methods raise PermissionError instead of saying no
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from fedsim.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif")  # in capitals too
LITTER = ("thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "@eadir", "#recycle", "#snapshot", "@tmp", "__macosx",
          "$recycle.bin", "system volume information", "lost+found")
FORMATS = ("PNG", "JPEG")  # only these, because some of Pillow's decoders start other programs
UPRIGHT = dict(enumerate((Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
                          Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE,
                          Image.Transpose.ROTATE_90), start=2))  # EXIF orientation -> what makes the picture upright
NOTES = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # parts of a PNG that may be larger than Pillow reads
SPELLING = {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}  # of the names that Pillow gives to formats
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
    return [path for path in _listing(folder) if path.suffix.lower() in SUFFIXES and isfile(path)]


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
    """Read and decode a picture. Raises DataError.

    A picture that is to be turned before it is shown is refused, because nobody knows whether its label was drawn
    before or after turning.
    """
    image, orientation = _decode(path)
    if orientation != 1:
        raise DataError(f"{path} is marked as turned or mirrored (EXIF orientation {orientation}), but "
                        "its label has no such mark; turn picture and label alike, and save both without the mark",
                        "pictures that are marked as turned")
    return image


def read_upright(path: Path) -> np.ndarray:
    """Read a picture as `read_picture` does, and turn it as EXIF says: for pictures that have no label."""
    image, orientation = _decode(path)
    return np.asarray(rgb(image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image))


def _decode(path: Path) -> tuple[Image.Image, int]:
    """Return the picture of a file and its EXIF orientation, 1 if it has none that means anything. Raises DataError."""
    try:
        image = _open(path, path)
        if image is None:
            image = _open(path, BytesIO(_without_notes(path.read_bytes())))
        if image is None:
            raise ValueError("its notes are too large")
        return image, _orientation(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path} claims to have more than {Image.MAX_IMAGE_PIXELS:,} pixels, which is too many to "
                        "open safely; shrink it", UNREADABLE) from error
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there any more; restore it, and do not change pictures while they are read",
                        UNREADABLE) from error
    except PermissionError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); make it readable for yourself",
                        UNREADABLE) from error
    except Exception as error:  # Pillow's decoders throw nearly anything at a damaged file
        raise DataError(f"{path} cannot be read as a picture: it {_what_is_wrong(path, error)}", UNREADABLE) from error


def _open(path: Path, file: Path | BytesIO) -> Image.Image | None:
    """Return the decoded picture; None if the notes in a PNG are larger than Pillow reads."""
    # One thread at a time, because warning filters belong to the whole process. Decoding needs no lock.
    try:
        with _HEADER, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(file, formats=FORMATS)
        with image:
            image.load()
            return image
    except ValueError:
        if isinstance(file, Path) and format_of(path) == "PNG":
            return None
        raise


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8. A mark that cannot be read, or has another value, means nothing: 1."""
    try:
        with _HEADER, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the marks' errors, without the name of a file
            mark = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # any other value in the marks may be damaged
        return 1
    return mark if isinstance(mark, int) and mark in UPRIGHT else 1


def _without_notes(png: bytes) -> bytes:
    """Return a PNG without its texts and its colour profile, which pixels do not depend on."""
    kept, place = [png[:8]], 8
    while place + 12 <= len(png):
        length = int.from_bytes(png[place:place + 4], "big")
        if png[place + 4:place + 8] not in NOTES:
            kept.append(png[place:place + 12 + length])
        place += 12 + length
    return b"".join(kept)


def format_of(path: Path) -> str:
    """Return the format of a file by its first bytes, "" if it is unknown. Decodes nothing. Raises OSError."""
    with open(path, "rb") as file:
        start = file.read(16).ljust(16, b"\0")  # as many as Pillow looks at
    Image.init()
    for name in Image.ID:
        _, accepts = Image.OPEN[name]
        if accepts and accepts(start) is True:
            return SPELLING.get(name, name)
    return ""


def _what_is_wrong(path: Path, error: Exception) -> str:
    """Return the end of a sentence on a file that is no picture: what it is, and what to do."""
    try:
        found, size = format_of(path), path.stat().st_size
    except OSError:
        found, size = "", 1
    if not size:
        return "is empty; get the file anew"
    if found in FORMATS:
        return f"is a damaged or incomplete {found} ({_reason(error)}); get the file anew"
    if found:
        return f"is {found}; save it as PNG or JPEG"
    if path.is_dir():
        return "is a folder, not a picture"
    return "is neither PNG nor JPEG; save it as one of these"


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
