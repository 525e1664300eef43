"""The colour, dash and marker of each algorithm's line, the same in every figure.

Colour-blind people can tell the colours apart too.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

# Okabe & Ito 2008 (https://jfly.uni-koeln.de/color/), without yellow, which is too faint on white.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
GREY = "#777777"


class LineStyle(NamedTuple):
    """A line's colour, dash and marker, in words of matplotlib."""

    colour: str
    dash: str | tuple[int, tuple[float, ...]]
    marker: str


_DASHED, _DOTTED = (0, (4, 1.5)), (0, (1, 1.2))
_STYLES = {
    "central": LineStyle(BLACK, "-", "s"), "central-wide": LineStyle(BLACK, _DOTTED, "s"),
    "local": LineStyle(GREY, "-", "x"),
    "avg": LineStyle(BLUE, "-", "o"), "prox": LineStyle(GREEN, "-", "^"), "admm": LineStyle(VERMILION, "-", "D"),
    "scaffold": LineStyle(PURPLE, "-", "v"), "dyn": LineStyle(ORANGE, "-", "P"), "nova": LineStyle(SKY, "-", "X"),
    "avgm": LineStyle(BLUE, _DASHED, "o"), "adagrad": LineStyle(GREEN, _DASHED, "^"),
    "adam": LineStyle(PURPLE, _DASHED, "v"), "yogi": LineStyle(ORANGE, _DASHED, "P"),
}
# Algorithms that have no style above, such as a user's own, take these in turn.
_FREE_STYLES = [LineStyle(VERMILION, _DOTTED, "*"), LineStyle(BLUE, _DOTTED, "h"), LineStyle(GREEN, _DOTTED, "d"),
                LineStyle(PURPLE, _DOTTED, "H"), LineStyle(ORANGE, _DOTTED, "8"), LineStyle(SKY, _DOTTED, "p")]
_PALER, _MARKERS = (0.6, 0.35), "<>p*"  # for further lines of the same style


def line_style(algo: str) -> LineStyle:
    """Return the style of a figure's only algorithm."""
    return line_styles([algo])[0]


def line_styles(algos: Sequence[str]) -> list[LineStyle]:
    """Return a style for each line of a figure. A further line of one style is paler and has another marker.

    algos: the algorithm of each line, in order; one may occur several times.
    """
    unknown = [algo for algo in dict.fromkeys(algos) if algo not in _STYLES]
    known = _STYLES | {algo: _FREE_STYLES[index % len(_FREE_STYLES)] for index, algo in enumerate(unknown)}
    styles, seen = [], Counter[LineStyle]()
    for style in (known[algo] for algo in algos):
        again = seen[style]
        seen[style] += 1
        if again:
            style = style._replace(colour=_mix_with_white(style.colour, _PALER[(again - 1) % len(_PALER)]),
                                   marker=_MARKERS[(again - 1) % len(_MARKERS)])
        styles.append(style)
    return styles


def _mix_with_white(colour: str, share: float) -> str:
    """Return a colour #RRGGBB of which this share is kept."""
    return "#" + "".join(f"{round(255 - share * (255 - int(colour[start:start + 2], 16))):02X}" for start in (1, 3, 5))
