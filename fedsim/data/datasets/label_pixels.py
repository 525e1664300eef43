"""The pixels of label files, as they are on disk: numbers, palettes, colours.

A label is a PNG, because lossy formats blur classes into classes that nobody drew. Its numbers are samples: grey of 1,
2, 4, 8 or 16 bits is not scaled, as a viewer would do.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np

from fedsim.data.datasets.picture_files import format_of, open_with_header, rgb
from fedsim.errors import DataError

Colour = tuple[int, int, int]
NOT_PNG, IN_COLOUR = "labels that are not PNG", "labels in colour or transparent"
DEPTH, KIND = 24, 25  # places in a PNG's bytes, after signature, length, "IHDR", width and height: bits, kind of colour
PALETTE = 3  # the kind of colour


def has_palette(path: Path) -> bool:
    """Return whether the first bytes of a file are those of a PNG with a palette. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(KIND + 1)[KIND:] == bytes([PALETTE])


class LabelImage:
    """A label file that has been decoded."""

    def __init__(self, path: Path) -> None:
        """Raises DataError if the file cannot be read or is no PNG."""
        with suppress(OSError):  # it is reported when the file is opened
            if (form := format_of(path)) == "JPEG":
                raise DataError(f"{path} is a JPEG, which blurs labels into classes that nobody drew; a label must be "
                                "a PNG", NOT_PNG)
            if form not in ("", "PNG"):
                raise DataError(f"{path} is {form}, but a label must be a PNG; save it as PNG", NOT_PNG)
        self.path = path
        self.image, header = open_with_header(path)
        if self.image.format != "PNG":
            raise DataError(f"{path} has changed while it was read; do not change a data set while it is in use",
                            NOT_PNG)
        self.depth = header[DEPTH]  # bits of a sample

    @property
    def size(self) -> tuple[int, int]:
        """The size of the label: (width, height) in pixels."""
        return self.image.size

    def palette(self) -> np.ndarray | None:
        """Return the colours of the label's palette, (K, 3) uint8; None if the label has no palette."""
        if self.image.mode != "P":
            return None
        return np.array(self.image.getpalette("RGB"), np.uint8).reshape(-1, 3)

    def numbers(self, remedy: str) -> np.ndarray:
        """Return the number of each pixel: (h, w) unsigned integers.

        Colours whose channels are equal are numbers too. Raises DataError that ends in the remedy for any others.
        """
        mode, pixels = self.image.mode, np.asarray(self.image)
        if mode == "L" and self.depth < 8:
            return pixels // (255 // (2**self.depth - 1))  # Pillow has scaled the samples to 8 bits
        if mode in ("1", "L", "P", "I;16"):
            return pixels.astype(np.uint8) if mode == "1" else pixels
        colours, alpha = (pixels[..., :-1], pixels[..., -1]) if mode in ("LA", "RGBA") else (pixels, None)
        if self.depth > 8:
            what = f"holds {self.depth} bits in each of several channels; save its numbers as one channel of grey"
        elif alpha is not None and alpha.min() < 255:
            what = "is transparent in places, and what lies there is no label; save it without transparency"
        elif (colours != colours[..., :1]).any():
            what = f"is in colour (mode {mode}), but its pixels must hold numbers"
        else:
            return np.ascontiguousarray(colours[..., 0])
        raise DataError(f"{self.path} {what}; {remedy}", IN_COLOUR)

    def colours(self) -> np.ndarray:
        """Return the colour of each pixel: (h, w, 3) uint8. Raises DataError for 16 bits in a channel."""
        if self.depth > 8:
            raise DataError(f"{self.path} holds {self.depth} bits in a channel, but colours of classes have 8; save it "
                            "with 8", IN_COLOUR)
        return np.asarray(rgb(self.image))
