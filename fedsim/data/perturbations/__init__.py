"""Perturbations of pictures by weather, light, lens and sensor.

There are five severities. Labels stay as they are. After Hendrycks & Dietterich 2019 (arXiv:1903.12261), whose
corruptions are made for photographs. Here the camera stands behind a windscreen: the distances are those of a street,
the blur is that of driving, the faults are those of a sensor.

    weather    fog, rain, snow                        light      dusk, glare, low-contrast
    lens       motion-blur, defocus, lens-dirt        sensor     noise, jpeg, pixelation, lost-rows
      picture    shared by all: light, blur, smooth noise

All sizes are shares of the picture's width or height, and noise is given for an area, not for a pixel. So a picture
looks the same whether it is perturbed before or after it is shrunk.
"""

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from fedsim.errors import SettingsError

if TYPE_CHECKING:  # they are slow to import, and the command line reads only names
    from numpy.random import Generator
    from torch import Tensor

SEVERITIES = 5
# Name -> module and function, imported when a perturbation is used. A function takes a picture (3, H, W) float32 RGB in
# 0..1, a severity from 1 and a generator. It returns the perturbed picture, whose values may be a little out of 0..1.
PERTURBATIONS = {
    "sensor-noise": ("sensor", "read_noise"),
    "shot-noise": ("sensor", "shot_noise"),
    "motion-blur": ("lens", "motion_blur"),
    "defocus": ("lens", "defocus"),
    "fog": ("weather", "fog"),
    "rain": ("weather", "rain"),
    "snow": ("weather", "snow"),
    "dusk": ("light", "dusk"),
    "glare": ("light", "glare"),
    "low-contrast": ("light", "low_contrast"),
    "jpeg": ("sensor", "jpeg"),
    "pixelation": ("sensor", "pixelation"),
    "lens-dirt": ("lens", "dirt"),
    "lost-rows": ("sensor", "lost_rows"),
}


@dataclass(frozen=True)
class Perturbation:
    """A kind of PERTURBATIONS and a severity from 1 to SEVERITIES, written kind:severity."""

    kind: str
    severity: int

    @classmethod
    def parse(cls, text: str) -> "Perturbation":
        """Return the perturbation that a text such as fog:3 names. Raises SettingsError if it is unknown."""
        kind, _, severity = text.partition(":")
        if kind not in PERTURBATIONS:
            near = difflib.get_close_matches(kind, PERTURBATIONS, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise SettingsError(f"there is no perturbation {kind!r}{hint}; valid are {', '.join(PERTURBATIONS)}")
        if severity not in map(str, range(1, SEVERITIES + 1)):
            raise SettingsError(f"perturbation {text!r} needs a severity; write {kind}:1 to {kind}:{SEVERITIES}")
        return cls(kind, int(severity))

    def __str__(self) -> str:
        return f"{self.kind}:{self.severity}"

    def __call__(self, image: "Tensor", random: "Generator") -> "Tensor":
        """Perturb a picture: (3, H, W) uint8 RGB on the CPU, at least 24 pixels high and wide -> a new one.

        All severities take the same draws from the generator, so that a higher one shows more of the same rain.
        """
        module, function = PERTURBATIONS[self.kind]
        perturb = getattr(import_module(f"fedsim.data.perturbations.{module}"), function)
        picture: Tensor = perturb(image.float().div_(255), self.severity, random)
        return picture.mul(255).round_().clamp_(0, 255).byte()
