"""Augmentation: scenes mirrored, recoloured, cropped or perturbed in training.

All random draws come from streams of (seed, round, car), so that they depend neither on the number of ranks nor on
whether a run was resumed.
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

SCALES = (0.75, 1.5)  # smallest and largest; a smaller picture gets a margin of void, a larger one is cropped
COLOURS = 1.5  # gamma and saturation lie between 1 / COLOURS and COLOURS
PERTURBED = 0.5  # probability that a scene is perturbed


class Unchanged:
    """No augmentation, and the base of all others. An object of it serves one car in one round."""

    def __init__(self, seed: int, round_number: int, car: int) -> None:
        self._key = seed, round_number, car

    def recolour(self, images: Tensor) -> Tensor:
        """Change the colours of pictures (B, 3, H, W) uint8, before they are standardised. The shape stays."""
        return images

    def move(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Move inputs (B, 3, H, W) float32 and labels (B, H, W) int64 in the same way. The shapes stay."""
        return inputs, labels

    def _stream(self, purpose: str) -> np.random.Generator:
        seed, round_number, car = self._key
        return stream(seed, purpose, round_number, car)


class Flip(Unchanged):
    """Mirroring of each scene with probability 1/2."""

    def __init__(self, seed: int, round_number: int, car: int) -> None:
        super().__init__(seed, round_number, car)
        self._mirror = self._stream("flip")

    def move(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(self._mirror.random(len(inputs)) < 0.5)
        return flip(inputs, labels, chosen.to(inputs.device))


class Standard(Flip):
    """Flip, then another gamma and saturation, another scale and a crop.

    Brightness and contrast are left alone, because standardising a scene would undo a change of them.
    """

    def __init__(self, seed: int, round_number: int, car: int) -> None:
        super().__init__(seed, round_number, car)
        self._colour, self._crop = self._stream("colour"), self._stream("crop")

    def recolour(self, images: Tensor) -> Tensor:
        from torchvision.transforms.v2 import (
            functional as tv,  # late: importing it is slow, and other augmentations do without
        )

        gammas, saturations = np.exp(self._colour.uniform(-1, 1, (2, len(images))) * math.log(COLOURS)).tolist()
        return torch.stack([tv.adjust_saturation(tv.adjust_gamma(image, gamma), saturation)
                            for image, gamma, saturation in zip(images, gammas, saturations, strict=True)])

    def move(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        inputs, labels = super().move(inputs, labels)
        scales = np.exp(self._crop.uniform(math.log(SCALES[0]), math.log(SCALES[1]), len(inputs)))
        return rescale(inputs, labels, scales, self._crop.uniform(-1, 1, (len(inputs), 2)))


class Perturb(Flip):
    """Flip, and each scene with probability 1/2 under a perturbation of random kind and severity."""

    def __init__(self, seed: int, round_number: int, car: int) -> None:
        super().__init__(seed, round_number, car)
        self._draw = self._stream("perturb")

    def recolour(self, images: Tensor) -> Tensor:
        return torch.stack([self._perturb(image) for image in images.cpu()]).to(images.device)

    def _perturb(self, image: Tensor) -> Tensor:
        if self._draw.random() >= PERTURBED:
            return image
        kind = self._draw.choice(list(PERTURBATIONS))
        return Perturbation(str(kind), int(self._draw.integers(1, SEVERITIES + 1)))(image, self._draw)


def augmentation(name: str) -> type[Unchanged]:
    """Return the class of an augmentation, by its name in AUGMENTATIONS."""
    kind: type[Unchanged] = globals()[AUGMENTATIONS[name]]
    return kind


def rescale(inputs: Tensor, labels: Tensor, scales: np.ndarray, offsets: np.ndarray) -> tuple[Tensor, Tensor]:
    """Scale scenes in frames that keep their size.

    inputs: (B, 3, H, W) float32; labels: (B, H, W) int64; scales: (B,) above 0; offsets: (B, 2), x and y in -1..1,
    choose the part of a larger picture that is seen, or the place of a smaller one in the frame. Pixels outside of a
    picture become 0, which is the mean of a standardised picture, and VOID.
    """
    affine = torch.zeros(len(inputs), 2, 3, dtype=torch.float64)
    affine[:, 0, 0] = affine[:, 1, 1] = torch.from_numpy(1 / scales)
    affine[:, :, 2] = torch.from_numpy(offsets * np.abs(1 - 1 / scales)[:, None])
    grid = F.affine_grid(affine.to(inputs.device, inputs.dtype), list(inputs.shape), align_corners=False)
    moved = F.grid_sample(inputs, grid, mode="bilinear", align_corners=False)
    marks = F.grid_sample((labels[:, None] + 1).to(inputs.dtype), grid, mode="nearest", align_corners=False)
    moved_labels = marks[:, 0].long() - 1  # a mark outside of the picture is 0, and that of a class at least 1
    return moved.contiguous(memory_format=torch.channels_last), moved_labels.where(moved_labels >= 0, VOID)
