"""Augmentation: scenes mirrored, recoloured, cropped or perturbed in training.

All random draws come from streams of (seed, round, car), so that they depend neither on the number of ranks nor on
whether a run was resumed.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fedsim.classes import VOID
from fedsim.data import AUGMENTATIONS
from fedsim.data.perturbations import PERTURBATIONS, SEVERITIES, Perturbation
from fedsim.data.pixels import flip
from fedsim.seeds import stream
from fedsim.system.transfer import upload

PERTURBED = 0.5  # probability that a scene is perturbed


class Frame(NamedTuple):
    """The view that a car has of its scenes: their size, their colours, and the part of them that it sees."""

    crop: tuple[int, int] | None = None  # (width, height) in pixels of the part; None for as much as a whole picture
    scales: tuple[float, float] | None = None  # smallest and largest size of a picture; None leaves it
    jitter: float | None = None  # gamma and saturation lie between 1 / (1 + jitter) and 1 + jitter; None leaves them


WHOLE = Frame()
STANDARD = Frame(scales=(0.75, 1.5), jitter=0.5)  # a smaller picture gets a margin of void, a larger one is cropped


class Unchanged:
    """No augmentation, and the base of all others. An object of it serves one car in one round."""

    recolours_on_cpu = False  # whether `recolour` wants pictures on the CPU, wherever the car trains

    def __init__(self, seed: int, round_number: int, car: int) -> None:
        self._key = seed, round_number, car

    def recolour(self, images: Tensor) -> Tensor:
        """Change the colours of pictures (B, 3, H, W) uint8, before they are standardised. The shape stays."""
        return images

    def move(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Move inputs (B, 3, H, W) float32 and labels (B, H, W) int64 in the same way."""
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
        return flip(inputs, labels, upload(chosen, inputs.device))


class Perturb(Flip):
    """Flip, and each scene with probability 1/2 under a perturbation of random kind and severity."""

    recolours_on_cpu = True

    def __init__(self, seed: int, round_number: int, car: int) -> None:
        super().__init__(seed, round_number, car)
        self._draw = self._stream("perturb")

    def recolour(self, images: Tensor) -> Tensor:
        return torch.stack([self._perturb(image) for image in images])

    def _perturb(self, image: Tensor) -> Tensor:
        if self._draw.random() >= PERTURBED:
            return image
        kind = self._draw.choice(list(PERTURBATIONS))
        return Perturbation(str(kind), int(self._draw.integers(1, SEVERITIES + 1)))(image, self._draw)


class Framed(Unchanged):
    """Another augmentation, then another gamma and saturation, another scale and a crop.

    Brightness and contrast are left alone, because standardising a scene would undo a change of them.
    """

    def __init__(self, kind: type[Unchanged], frame: Frame, seed: int, round_number: int, car: int) -> None:
        super().__init__(seed, round_number, car)
        self._inner, self._frame = kind(seed, round_number, car), frame
        self.recolours_on_cpu = self._inner.recolours_on_cpu
        self._colour, self._place = self._stream("colour"), self._stream("crop")

    def recolour(self, images: Tensor) -> Tensor:
        images = self._inner.recolour(images)
        if not self._frame.jitter:
            return images
        from torchvision.transforms.v2 import (
            functional as tv,  # late: importing it is slow, and other augmentations do without
        )

        draws = self._colour.uniform(-1, 1, (2, len(images)))
        gammas, saturations = np.exp(draws * math.log(1 + self._frame.jitter)).tolist()
        return torch.stack([tv.adjust_saturation(tv.adjust_gamma(image, gamma), saturation)
                            for image, gamma, saturation in zip(images, gammas, saturations, strict=True)])

    def move(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        inputs, labels = self._inner.move(inputs, labels)
        if not (self._frame.scales or self._frame.crop):
            return inputs, labels
        scales = np.ones(len(inputs))
        if self._frame.scales:
            least, most = self._frame.scales
            scales = np.exp(self._place.uniform(math.log(least), math.log(most), len(inputs)))
        return rescale(inputs, labels, scales, self._place.uniform(-1, 1, (len(inputs), 2)), self._frame.crop)


UNCHANGED = Unchanged(0, 0, 0)  # which draws nothing


def augmentation(name: str, frame: Frame = WHOLE) -> Callable[[int, int, int], Unchanged]:
    """Return what makes the augmentation of one car in one round, from (seed, round, car).

    name: in AUGMENTATIONS. frame: what is asked for beside it, instead of what the name has.
    """
    kind: type[Unchanged] = globals()[AUGMENTATIONS[name]]
    if name == "standard":
        frame = Frame(frame.crop, frame.scales or STANDARD.scales,
                      STANDARD.jitter if frame.jitter is None else frame.jitter)
    return partial(Framed, kind, frame) if any(frame) else kind


def rescale(inputs: Tensor, labels: Tensor, scales: np.ndarray, offsets: np.ndarray,
            size: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Scale scenes, and take a part of each.

    inputs: (B, 3, H, W) float32; labels: (B, H, W) int64; scales: (B,) above 0; offsets: (B, 2), x and y in -1..1,
    choose the part of a picture that is larger than the frame, or the place of a smaller one in it. size: (width,
    height) of the frame in pixels; None for that of the inputs. Pixels outside of a picture become 0, which is the mean
    of a standardised picture, and VOID.
    """
    batch, channels, height, width = inputs.shape
    seen = (width, height) if size is None else size
    # How much of a picture's width and height the frame covers.
    shares = np.stack([seen[0] / width / scales, seen[1] / height / scales], axis=1)
    affine = torch.zeros(batch, 2, 3, dtype=torch.float64)
    affine[:, 0, 0], affine[:, 1, 1] = torch.from_numpy(shares).unbind(1)
    affine[:, :, 2] = torch.from_numpy(offsets * np.abs(1 - shares))
    grid = F.affine_grid(upload(affine.to(inputs.dtype), inputs.device), [batch, channels, seen[1], seen[0]],
                         align_corners=False)
    moved = F.grid_sample(inputs, grid, mode="bilinear", align_corners=False)
    marks = F.grid_sample((labels[:, None] + 1).to(inputs.dtype), grid, mode="nearest", align_corners=False)
    moved_labels = marks[:, 0].long() - 1  # a mark outside of the picture is 0, and that of a class at least 1
    return moved.contiguous(memory_format=torch.channels_last), moved_labels.where(moved_labels >= 0, VOID)
