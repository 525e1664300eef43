"""The style of a drive: everything that its scenes have in common."""

from dataclasses import dataclass

import numpy as np

from fedsim.data.datasets.streets.camera import HEIGHT, WIDTH
from fedsim.data.datasets.streets.drives import KINDS, LIGHTS, Drive, Kind, Light, Range
from fedsim.data.datasets.streets.paint import Colour, Paint, hsv, scale, two_tone
from fedsim.data.datasets.streets.texture import Material, textures
from fedsim.seeds import stream


@dataclass(frozen=True)
class Style:
    """The place, light, camera, measures and paints of a drive. Lengths are in metres."""

    kind: Kind
    light: Light
    textures: np.ndarray  # (materials, rows, columns) uint8
    camera_height: float
    focal: float  # pixels of the id image
    horizon: float  # row of the id image
    road_half: float
    pavement: float
    verge: float
    setback: float
    sun: float  # -1 = it stands on the left and shines on the houses on the right, 1 = the other way
    asphalt: Paint
    paving: Paint
    kerb: Colour
    grass: Paint
    bark: Paint
    foliage: tuple[Paint, ...]
    walls: tuple[Paint, ...]
    roofs: tuple[Paint, ...]
    fences: tuple[Paint, ...]
    poles: tuple[Colour, ...]
    clothes: tuple[tuple[Colour, Colour], ...]  # two colours that go together
    coats: tuple[Paint, ...]  # paints of cars
    signs: tuple[Colour, ...]

    @property
    def edge(self) -> float:
        """The distance in metres from the middle of the road to the plots."""
        return self.road_half + self.pavement + self.verge


def style_of(drive: Drive) -> Style:
    """Draw the style of a drive, from the drive's own random stream."""
    rng = stream(0, "streets", drive.split, drive.number)
    kind = KINDS[drive.kind]
    return Style(
        kind=kind,
        light=LIGHTS[drive.light],
        textures=textures(rng),
        camera_height=rng.uniform(1.3, 2.1),
        focal=WIDTH * rng.uniform(0.95, 1.2),
        horizon=HEIGHT * rng.uniform(0.41, 0.5),
        road_half=rng.uniform(*kind.road_half),
        pavement=rng.uniform(*kind.pavement),
        verge=rng.uniform(*kind.verge),
        setback=rng.uniform(*kind.setback),
        sun=rng.choice([-1.0, 1.0]),
        asphalt=_paint(rng, Material.ASPHALT, (0, 1), (0, 0.08), (0.38, 0.47), 0.72),
        paving=_paint(rng, Material.PAVING, (0, 0.15), (0.12, 0.12), (0.6, 0.75), 0.6),
        kerb=hsv(0.1, 0.05, rng.uniform(0.6, 0.85)),
        grass=_paint(rng, Material.GRASS, (0.16, 0.32), (0.55, 0.55), (0.4, 0.6), 0.55),
        bark=_paint(rng, Material.BARK, (0.04, 0.1), (0.45, 0.45), (0.25, 0.45), 0.5),
        foliage=_foliage(rng),
        walls=_walls(rng),
        roofs=_roofs(rng),
        fences=_fences(rng),
        poles=tuple(hsv(rng.random(), 0.2, rng.uniform(0.12, 0.4)) for _ in range(3)),
        clothes=_clothes(rng),
        coats=_coats(rng),
        signs=(*(hsv(hue, 0.9, 0.85) for hue in (0.0, 0.61, 0.13)), hsv(0.4, 0.7, 0.4), hsv(0.0, 0.0, 0.93)),
    )


def _paint(rng: np.random.Generator, material: Material, hue: Range, saturation: Range, value: Range,
           contrast: float) -> Paint:
    """Draw a two-tone paint of a colour in these ranges."""
    colour = hsv(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))
    return two_tone(material, colour, contrast)


def _foliage(rng: np.random.Generator) -> tuple[Paint, ...]:
    """Draw three greens that are close to the green of the season."""
    season = rng.uniform(0.21, 0.34)
    hues = season - 0.03, season + 0.03
    return tuple(_paint(rng, Material.FOLIAGE, hues, (0.55, 0.55), (0.45, 0.7), 0.3) for _ in range(3))


def _walls(rng: np.random.Generator) -> tuple[Paint, ...]:
    """Draw four kinds of brick, from red to cream and sometimes blue, with darker joints."""
    joint = rng.uniform(0.4, 0.6)
    hues = rng.choice([0.0, 0.04, 0.08, 0.12, 0.15, 0.6], 4) + rng.uniform(-0.03, 0.03, 4)
    return tuple(two_tone(Material.BRICK, hsv(hue, rng.uniform(0.15, 0.45), rng.uniform(0.5, 0.8)), joint)
                 for hue in hues.tolist())


def _roofs(rng: np.random.Generator) -> tuple[Paint, ...]:
    """Draw two roofs of the same red, brown or slate."""
    hue = rng.choice([0.02, 0.06, 0.6])
    return tuple(_paint(rng, Material.TILES, (hue, hue), (0.4, 0.4), (0.4, 0.6), 0.6) for _ in range(2))


def _fences(rng: np.random.Generator) -> tuple[Paint, ...]:
    """Draw two fences, one for each side: slats of wood or white paint, dark between them."""
    return tuple(_paint(rng, Material.SLATS, (0.03, 0.13), (0.15, 0.5), (0.65, 0.9), 0.2) for _ in range(2))


def _clothes(rng: np.random.Generator) -> tuple[tuple[Colour, Colour], ...]:
    """Draw six pairs of a light and a dark shade."""
    pairs = []
    for _ in range(6):
        colour = hsv(rng.random(), rng.uniform(0.4, 0.9), rng.uniform(0.75, 1.0))
        pairs.append((scale(colour, rng.uniform(0.15, 0.35)), colour))
    return tuple(pairs)


def _coats(rng: np.random.Generator) -> tuple[Paint, ...]:
    """Draw eight coats of cars; about half are white, grey or black."""
    return tuple(_paint(rng, Material.ENAMEL, (0, 1), rng.choice([(0, 0.08), (0.6, 0.9)]), (0.2, 0.95), 0.8)
                 for _ in range(8))
