"""How lines tell algorithms apart, the same in every figure; colours that the colour-blind tell apart too."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from fedsim.settings.registry import NAMES

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
_PALER, _MARKERS = (0.6, 0.35), "<>p*"  # of further lines of one algorithm
assert set(_LINES) == set(NAMES)


def line_of(algo: str) -> Line:
    """The line of an algorithm. A user's own ones share a colour that none of ours has with this dash."""
    return _LINES.get(algo, Line(VERMILION, _DOTTED, "*"))


def lines_of(algos: Sequence[str]) -> list[Line]:
    """A line for each, in order: a further one of an algorithm, or of a user's own, is paler and has another marker."""
    lines, seen = [], Counter[Line]()
    for line in map(line_of, algos):
        again = seen[line]
        seen[line] += 1
        if again:
            line = line._replace(colour=_paler(line.colour, _PALER[(again - 1) % len(_PALER)]),
                                 marker=_MARKERS[(again - 1) % len(_MARKERS)])
        lines.append(line)
    return lines


def _paler(colour: str, share: float) -> str:
    """A colour #RRGGBB mixed with white, of which it keeps this share."""
    return "#" + "".join(f"{round(255 - share * (255 - int(colour[place:place + 2], 16))):02X}" for place in (1, 3, 5))
