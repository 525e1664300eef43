"""Colours, and paints that mix two of them by a texture."""

import colorsys
from typing import NamedTuple

from fedsim.data.datasets.streets.texture import Material

Colour = tuple[float, float, float]  # RGB, 0..255


class Paint(NamedTuple):
    """What a surface looks like: a texture that mixes two colours."""

    material: Material
    dark: Colour  # where the texture is 0
    light: Colour  # where it is 1

    def shaded(self, factor: float) -> "Paint":
        """The same paint in more or less light."""
        return Paint(self.material, scaled(self.dark, factor), scaled(self.light, factor))


def scaled(colour: Colour, factor: float) -> Colour:
    """The colour, that much brighter."""
    red, green, blue = colour
    return factor * red, factor * green, factor * blue


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour by hue (turns), saturation and value (0..1)."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return 255 * red, 255 * green, 255 * blue


def plain(colour: Colour) -> Paint:
    """A surface of one colour."""
    return Paint(Material.PLAIN, colour, colour)


def two_tone(material: Material, colour: Colour, contrast: float) -> Paint:
    """A colour and the same `contrast` times as bright where the texture is dark."""
    return Paint(material, scaled(colour, contrast), colour)
