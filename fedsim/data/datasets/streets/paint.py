"""Colours, and paints that mix two colours by a texture."""

import colorsys
from typing import NamedTuple

from fedsim.data.datasets.streets.texture import Material

Colour = tuple[float, float, float]  # RGB, 0..255


class Paint(NamedTuple):
    """The look of a surface: a texture that mixes two colours."""

    material: Material
    dark: Colour  # where the texture is 0
    light: Colour  # where it is 1

    def shade(self, factor: float) -> "Paint":
        """Return the same paint, `factor` times as bright."""
        return Paint(self.material, scale(self.dark, factor), scale(self.light, factor))


def scale(colour: Colour, factor: float) -> Colour:
    """Return the colour, `factor` times as bright."""
    red, green, blue = colour
    return factor * red, factor * green, factor * blue


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Return a colour, given its hue in turns, and saturation and value in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return 255 * red, 255 * green, 255 * blue


def plain(colour: Colour) -> Paint:
    """Return a paint of one colour."""
    return Paint(Material.PLAIN, colour, colour)


def two_tone(material: Material, colour: Colour, contrast: float) -> Paint:
    """Return a paint of a colour, which is `contrast` times as bright where the texture is dark."""
    return Paint(material, scale(colour, contrast), colour)
