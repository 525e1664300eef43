"""What weather, lens and sensor do to the picture of a scene, in five severities; labels stay as they are.

After Hendrycks & Dietterich 2019 (arXiv:1903.12261), whose corruptions are of photographs, for a camera behind a
windscreen: distances are those of a street, blur is that of driving, faults are those of a sensor in a car.

    weather    fog, rain, snow                        light      dusk, glare, low-contrast
    lens       motion-blur, defocus, lens-dirt        sensor     noise, jpeg, pixelation, lost-rows
      picture    from grey levels to light and back, blur, smooth noise

Every size is a share of the picture's width or height, and noise is that of an area and not of a pixel, so
a picture looks the same whether it is perturbed before or after it is shrunk.
"""

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from fedsim.errors import SettingsError

if TYPE_CHECKING:  # the command line reads names alone
    from numpy.random import Generator
    from torch import Tensor

SEVERITIES = 5
# Name -> module and function, imported when asked for. A function makes from a picture (3, H, W) float32 RGB in 0..1, a
# severity from 1 and a generator the perturbed picture, whose values may lie a little outside of 0..1.
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
    """A kind of PERTURBATIONS at a severity of 1 to SEVERITIES, written kind:severity."""

    kind: str
    severity: int

    @classmethod
    def parse(cls, text: str) -> "Perturbation":
        """The perturbation that `fog:3` names. Raises SettingsError for an unknown kind or severity."""
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
        """The perturbed image: (3, H, W) uint8 RGB on the CPU, of 24 pixels a side at least, to a new one alike.

        Severities take the same draws from the same generator, so that more of the same rain falls.
        """
        module, function = PERTURBATIONS[self.kind]
        perturb = getattr(import_module(f"fedsim.data.perturbations.{module}"), function)
        picture: Tensor = perturb(image.float().div_(255), self.severity, random)
        return picture.mul(255).round_().clamp_(0, 255).byte()
