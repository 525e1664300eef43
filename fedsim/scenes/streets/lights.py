"""The four lights a drive can be recorded in."""

from dataclasses import dataclass

from fedsim.scenes.streets.paint import Colour


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


LIGHTS = {
    "day": Light(gain=1.0, tint=(1.04, 1.0, 0.94), sky=((96, 148, 226), (226, 232, 240)),
                 haze=(186, 204, 226), visibility=420, noise=4, lamps=False),
    "dusk": Light(gain=0.36, tint=(1.16, 0.95, 0.86), sky=((104, 52, 62), (196, 108, 78)),
                  haze=(116, 70, 66), visibility=260, noise=3, lamps=True),
    "rain": Light(gain=0.6, tint=(0.9, 1.0, 1.06), sky=((106, 116, 126), (152, 162, 170)),
                  haze=(128, 138, 146), visibility=120, noise=5, lamps=True),
    "fog": Light(gain=0.85, tint=(1.0, 1.0, 1.0), sky=((196, 192, 196), (208, 206, 208)),
                 haze=(202, 199, 202), visibility=55, noise=3, lamps=False),
}
