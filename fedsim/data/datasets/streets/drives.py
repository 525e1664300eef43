"""The drives: their names, the kind of place and the light of each.

There can be any number of training drives, and drive k is the same whatever their number. Validation and test have
drives of their own, of all kinds and lights.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from fedsim.data.datasets.streets.paint import Colour

Range = tuple[float, float]
Count = tuple[int, int]  # fewest and most in a scene

# Every kind in every light. The first four are the cars of a run with default settings, and differ most.
COMBINATIONS = (
    ("town", "day"), ("suburb", "dusk"), ("country", "rain"), ("town", "fog"),
    ("suburb", "day"), ("country", "dusk"), ("town", "rain"), ("suburb", "fog"),
    ("country", "day"), ("town", "dusk"), ("suburb", "rain"), ("country", "fog"),
)
# Two drives of each kind, all four lights; no combination is that of one of the first four training drives.
VAL_COMBINATIONS = (4, 5, 6, 7, 9, 11)

FRAMES = {"train": 100, "val": 12, "test": 10}  # scenes of a drive


class Drive(NamedTuple):
    """One recording: a place, a light and, by its split and number, a random stream of its own."""

    split: str
    number: int  # counts the drives of its split, from 0
    kind: str
    light: str

    @property
    def name(self) -> str:
        """The name, such as "town-day-00"; outside of training it starts with the split, "test-town-day-00"."""
        held_out = "" if self.split == "train" else f"{self.split}-"
        return f"{held_out}{self.kind}-{self.light}-{self.number:02d}"


def drive_of(split: str, number: int) -> Drive:
    """Return the drive of this number in a split."""
    if split == "val":
        return Drive(split, number, *COMBINATIONS[VAL_COMBINATIONS[number]])
    return Drive(split, number, *COMBINATIONS[number % len(COMBINATIONS)])


def drives_of(split: str, train_drives: int) -> tuple[Drive, ...]:
    """Return all drives of a split: `train_drives` for training, 6 for validation, 12 for test."""
    count = {"train": train_drives, "val": len(VAL_COMBINATIONS), "test": len(COMBINATIONS)}[split]
    return tuple(drive_of(split, number) for number in range(count))


@dataclass(frozen=True)
class Kind:
    """A kind of place. Lengths are in metres, shares are probabilities, counts are for a scene."""

    road_half: Range  # half the road's width
    pavement: Range  # its width on either side
    verge: Range  # width of the grass between pavement and plots
    lot: Range  # length of a plot along the street
    house_share: float  # share of plots with a house
    storeys: Count
    setback: Range  # from the plot's edge to the house
    detached: float  # share of houses with a gap to the next one
    fence_share: float  # share of plots with a fence
    hedge_share: float  # share of plots with a hedge, among those without a fence
    trees: Count  # tall ones on the plots
    street_trees: Count  # low ones on the pavement
    poles: Count
    signs: Count
    parked_share: float  # share of sides of the street with parked cars
    parked: Count  # on such a side
    moving: Count
    pedestrians: Count
    cyclists: Count
    skyline: Range  # height of houses or woods on the horizon


KINDS = {
    "town": Kind(road_half=(3.6, 5.0), pavement=(2.0, 3.4), verge=(0.0, 0.2), lot=(8, 14),
                 house_share=0.93, storeys=(2, 5), setback=(0.0, 0.8), detached=0.2,
                 fence_share=0.5, hedge_share=0.1, trees=(0, 2), street_trees=(1, 4),
                 poles=(3, 5), signs=(1, 3), parked_share=0.5, parked=(1, 3), moving=(0, 2),
                 pedestrians=(3, 6), cyclists=(1, 3), skyline=(8, 18)),
    "suburb": Kind(road_half=(3.0, 3.9), pavement=(1.4, 2.2), verge=(0.3, 1.2), lot=(10, 15),
                   house_share=0.75, storeys=(1, 2), setback=(2.5, 6.0), detached=0.7,
                   fence_share=0.75, hedge_share=0.6, trees=(4, 8), street_trees=(1, 3),
                   poles=(3, 5), signs=(1, 2), parked_share=0.4, parked=(1, 3), moving=(0, 2),
                   pedestrians=(2, 5), cyclists=(1, 3), skyline=(4, 9)),
    "country": Kind(road_half=(2.7, 3.4), pavement=(0.7, 1.2), verge=(0.6, 2.0), lot=(13, 20),
                    house_share=0.3, storeys=(1, 2), setback=(3.0, 8.0), detached=0.8,
                    fence_share=0.65, hedge_share=0.5, trees=(7, 12), street_trees=(0, 1),
                    poles=(3, 4), signs=(1, 2), parked_share=0.2, parked=(1, 2), moving=(1, 2),
                    pedestrians=(1, 4), cyclists=(1, 3), skyline=(3, 7)),
}


@dataclass(frozen=True)
class Light:
    """The effect of time of day and weather on all colours."""

    gain: float  # 1 = colours as painted
    tint: Colour  # factors around 1 for R, G, B
    sky: tuple[Colour, Colour]  # between and in the clouds; as seen, not dimmed
    haze: Colour  # the colour that far things fade into
    visibility: float  # metres at which 1/e of a colour is left
    noise: float  # standard deviation of the sensor's noise, of 255
    lamps: bool  # lamps and some windows are lit


def light_of(drive_light: Light, rng: np.random.Generator) -> Light:
    """Return the light of one frame. Exposure, haze and noise change during a drive."""
    return replace(
        drive_light,
        gain=drive_light.gain * rng.uniform(0.8, 1.2),
        visibility=drive_light.visibility * rng.uniform(0.7, 1.5),
        noise=drive_light.noise * rng.uniform(0.5, 1.8),
    )


LIGHTS = {
    "day": Light(gain=1.0, tint=(1.04, 1.0, 0.94), sky=((126, 172, 236), (206, 222, 240)),
                 haze=(186, 204, 226), visibility=420, noise=4, lamps=False),
    "dusk": Light(gain=0.42, tint=(1.16, 0.95, 0.86), sky=((136, 76, 74), (196, 116, 84)),
                  haze=(116, 70, 66), visibility=260, noise=3, lamps=True),
    "rain": Light(gain=0.6, tint=(0.9, 1.0, 1.06), sky=((124, 134, 144), (154, 164, 172)),
                  haze=(128, 138, 146), visibility=120, noise=5, lamps=True),
    "fog": Light(gain=0.85, tint=(1.0, 1.0, 1.0), sky=((196, 192, 196), (208, 206, 208)),
                 haze=(202, 199, 202), visibility=55, noise=3, lamps=False),
}
