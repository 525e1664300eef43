"""Augmentation: other views of a car's scenes, drawn anew for every batch.

Every draw belongs to (seed, round, car), so that neither the number of ranks nor a resumed run changes it.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fedsim.classes import VOID
from fedsim.data import AUGMENTATIONS
from fedsim.data.perturbations import PERTURBATIONS, SEVERITIES, Perturbation
from fedsim.data.pixels import flip
from fedsim.seeds import stream

SCALES = (0.75, 1.5)  # of a picture; smaller ones get a margin of void, larger ones are cropped
COLOURS = 1.5  # gamma and saturation lie between the inverse of this and this
PERTURBED = 0.5  # share of the scenes


class Unchanged:
    """Scenes as they are; the base of every augmentation, which is made for one car and one round."""

    def __init__(self, seed: int, round_number: int, car: int) -> None:
        self._key = seed, round_number, car

    def recolour(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) uint8, before they are standardised: others of the same shape."""
        return images

    def move(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (B, 3, H, W) float32 and labels (B, H, W) int64 alike: others of the same shapes."""
        return inputs, labels

    def _stream(self, purpose: str) -> np.random.Generator:
        seed, round_number, car = self._key
        return stream(seed, purpose, round_number, car)


class Flip(Unchanged):
    """Mirrors every second scene, at random."""

    def __init__(self, seed: int, round_number: int, car: int) -> None:
        super().__init__(seed, round_number, car)
        self._mirror = self._stream("flip")

    def move(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(self._mirror.random(len(inputs)) < 0.5)
        return flip(inputs, labels, chosen.to(inputs.device))


class Standard(Flip):
    """Flip; gamma and saturation; scale and crop.

    No brightness and no contrast: standardising a scene would undo them.
    """

    def __init__(self, seed: int, round_number: int, car: int) -> None:
        super().__init__(seed, round_number, car)
        self._colour, self._crop = self._stream("colour"), self._stream("crop")

    def recolour(self, images: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional as tv  # late: it costs a start-up that does not need it

        gammas, saturations = np.exp(self._colour.uniform(-1, 1, (2, len(images))) * math.log(COLOURS)).tolist()
        return torch.stack([tv.adjust_saturation(tv.adjust_gamma(image, gamma), saturation)
                            for image, gamma, saturation in zip(images, gammas, saturations, strict=True)])

    def move(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        inputs, labels = super().move(inputs, labels)
        scales = np.exp(self._crop.uniform(math.log(SCALES[0]), math.log(SCALES[1]), len(inputs)))
        return rescale(inputs, labels, scales, self._crop.uniform(-1, 1, (len(inputs), 2)))


class Perturb(Flip):
    """Flip; every second scene, at random, under a perturbation of random kind and severity."""

    def __init__(self, seed: int, round_number: int, car: int) -> None:
        super().__init__(seed, round_number, car)
        self._draw = self._stream("perturb")

    def recolour(self, images: Tensor) -> Tensor:
        return torch.stack([self._perturbed(image) for image in images.cpu()]).to(images.device)

    def _perturbed(self, image: Tensor) -> Tensor:
        if self._draw.random() >= PERTURBED:
            return image
        kind = self._draw.choice(list(PERTURBATIONS))
        return Perturbation(str(kind), int(self._draw.integers(1, SEVERITIES + 1)))(image, self._draw)


def augmentation(name: str) -> type[Unchanged]:
    """Return the class of an augmentation, by its name in AUGMENTATIONS."""
    kind: type[Unchanged] = globals()[AUGMENTATIONS[name]]
    return kind


def rescale(inputs: Tensor, labels: Tensor, scales: np.ndarray, places: np.ndarray) -> tuple[Tensor, Tensor]:
    """Scenes at other scales in frames of the same size.

    inputs: (B, 3, H, W) float32; labels: (B, H, W) int64; scales: (B,) above 0; places: (B, 2) in -1..1, x and y:
    which part of a larger picture is seen, or where a smaller one stands. What lies outside of a picture is 0, the
    mean of a standardised one, and VOID.
    """
    affine = torch.zeros(len(inputs), 2, 3, dtype=torch.float64)
    affine[:, 0, 0] = affine[:, 1, 1] = torch.from_numpy(1 / scales)
    affine[:, :, 2] = torch.from_numpy(places * np.abs(1 - 1 / scales)[:, None])
    grid = F.affine_grid(affine.to(inputs.device, inputs.dtype), list(inputs.shape), align_corners=False)
    moved = F.grid_sample(inputs, grid, mode="bilinear", align_corners=False)
    marks = F.grid_sample((labels[:, None] + 1).to(inputs.dtype), grid, mode="nearest", align_corners=False)
    found = marks[:, 0].long() - 1  # outside a mark is 0, which no label gives
    return moved.contiguous(memory_format=torch.channels_last), found.where(found >= 0, VOID)
