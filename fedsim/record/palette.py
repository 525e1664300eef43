"""How lines tell algorithms apart, the same in every figure; colours that the colour-blind tell apart too."""

from typing import NamedTuple

from fedsim.catalogue import NAMES

# Okabe & Ito 2008 (https://jfly.uni-koeln.de/color/), without yellow, which is too faint on white.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
GREY = "#777777"


class Line(NamedTuple):
    """A line of a figure, as matplotlib takes it."""

    colour: str
    dash: str | tuple[int, tuple[float, ...]]
    marker: str


_DASHED = (0, (4, 1.5))
_LINES = {
    "central": Line(BLACK, "-", "s"), "local": Line(GREY, "-", "x"),
    "avg": Line(BLUE, "-", "o"), "prox": Line(GREEN, "-", "^"), "admm": Line(VERMILION, "-", "D"),
    "scaffold": Line(PURPLE, "-", "v"), "dyn": Line(ORANGE, "-", "P"), "nova": Line(SKY, "-", "X"),
    "avgm": Line(BLUE, _DASHED, "o"), "adagrad": Line(GREEN, _DASHED, "^"), "adam": Line(PURPLE, _DASHED, "v"),
    "yogi": Line(ORANGE, _DASHED, "P"),
}
_DOTTED = (0, (1, 1.2))
assert set(_LINES) == set(NAMES)


def line_of(algo: str) -> Line:
    """The line of an algorithm. A user's own ones share a colour that none of ours has with this dash."""
    return _LINES.get(algo, Line(VERMILION, _DOTTED, "*"))
