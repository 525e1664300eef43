"""A car's scenes as batches for its network."""

import numpy as np
import torch
from torch import Tensor

from fedsim.data.augment import UNCHANGED, Unchanged
from fedsim.data.pixels import standardise
from fedsim.data.scene_set import SceneSet
from fedsim.system.transfer import upload


class CarScenes:
    """The scenes of one car. For a CPU they stay memory-mapped on disk; for a GPU they are all in its memory."""

    def __init__(self, scene_set: SceneSet, indices: np.ndarray, device: torch.device) -> None:
        height, width = scene_set.images.shape[2:]
        self._set, self._size, self._device = scene_set, (width, height), device
        self.indices, self.classes = indices, scene_set.classes
        self._resident = None if device.type == "cpu" else self._bring(*self._read(indices))

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, positions: np.ndarray, augment: Unchanged | None = None) -> tuple[Tensor, Tensor]:
        """Return the scenes at these positions of the car's list, augmented if `augment` is given.

        Returns pictures (B, 3, H, W) float32, channels_last, each standardised by itself, and labels (B, H, W) int64.
        """
        augment = augment or UNCHANGED
        if self._resident is None or augment.recolours_on_cpu:
            images, labels = self._read(self.indices[positions])
            images, labels = self._bring(augment.recolour(images), labels)
        else:
            chosen = upload(torch.from_numpy(positions), self._device)
            images, labels = (tensor[chosen] for tensor in self._resident)
            images = augment.recolour(images)
        inputs = standardise(images).contiguous(memory_format=torch.channels_last)
        return augment.move(inputs, labels.long())

    def _read(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Read pictures (B, 3, H, W) and labels (B, H, W) at the pictures' size, both uint8, onto the CPU."""
        images = torch.from_numpy(self._set.images[indices])
        return images, torch.from_numpy(self._set.labels.resize(indices, self._size))

    def _bring(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return upload(images, self._device), upload(labels, self._device)
