"""The four lights a drive can be recorded in."""

from dataclasses import dataclass, replace

import numpy as np

from fedsim.data.datasets.streets.paint import Colour


@dataclass(frozen=True)
class Light:
    """What time of day and weather do to every colour."""

    gain: float  # 1 = colours as painted
    tint: Colour  # factors around 1 for R, G, B
    sky: tuple[Colour, Colour]  # between and in the clouds; as seen, not dimmed
    haze: Colour  # what far things fade into
    visibility: float  # metres at which 1/e of a colour is left
    noise: float  # standard deviation of the sensor's noise, of 255
    lamps: bool  # lamps and some windows are lit


def light_of(drive_light: Light, rng: np.random.Generator) -> Light:
    """The light of one frame: exposure, haze and noise change along a drive."""
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
