"""A car's scenes as batches for its network."""

import numpy as np
import torch
from torch import Tensor

from fedsim.data.augment import Unchanged
from fedsim.data.pixels import standardise
from fedsim.data.scene_set import SceneSet


class CarScenes:
    """The scenes of one car. For a CPU they stay memory-mapped on disk; for a GPU they are all in its memory."""

    def __init__(self, scene_set: SceneSet, indices: np.ndarray, device: torch.device) -> None:
        height, width = scene_set.images.shape[2:]
        self._set, self._size, self._device = scene_set, (width, height), device
        self.indices, self.classes = indices, scene_set.classes
        self._resident = None if device.type == "cpu" else self._read(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, positions: np.ndarray, augment: Unchanged | None = None) -> tuple[Tensor, Tensor]:
        """Return the scenes at these positions of the car's list, augmented if `augment` is given.

        Returns pictures (B, 3, H, W) float32, channels_last, each standardised by itself, and labels (B, H, W) int64.
        """
        if self._resident is None:
            images, labels = self._read(self.indices[positions])
        else:
            chosen = torch.from_numpy(positions).to(self._device)
            images, labels = (tensor[chosen] for tensor in self._resident)
        if augment is not None:
            images = augment.recolour(images)
        inputs = standardise(images).contiguous(memory_format=torch.channels_last)
        return augment.move(inputs, labels.long()) if augment is not None else (inputs, labels.long())

    def _read(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Read pictures (B, 3, H, W) and labels (B, H, W) at the pictures' size, both uint8, onto the device."""
        images = torch.from_numpy(self._set.images[indices])
        labels = torch.from_numpy(self._set.labels.resize(indices, self._size))
        return images.to(self._device), labels.to(self._device)
