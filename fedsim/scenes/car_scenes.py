"""A car's own scenes, as batches for a network."""

import numpy as np
import torch
from torch import Tensor

from fedsim.scenes.batches import flip, shrink_labels, standardise
from fedsim.scenes.scene_set import SceneSet


class CarScenes:
    """Some scenes of a set. On a CPU they stay memory-mapped; on a GPU they are resident."""

    def __init__(self, scene_set: SceneSet, indices: np.ndarray, device: torch.device) -> None:
        self.indices = indices
        self.device = device
        self.images: np.ndarray | Tensor = scene_set.images
        self.labels: np.ndarray | Tensor = scene_set.labels
        height, width = scene_set.images.shape[2:]
        self.size = (width, height)
        if device.type != "cpu":
            self.images = torch.from_numpy(scene_set.images[indices]).to(device)
            self.labels = torch.from_numpy(shrink_labels(scene_set.labels[indices], self.size)).to(device)

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, positions: np.ndarray, flips: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """The scenes at these positions, mirrored where `flips` (B,) says so.

        Returns images (B, 3, H, W) float32, channels_last, each scene standardised; labels (B, H, W) int64.
        """
        if isinstance(self.images, Tensor) and isinstance(self.labels, Tensor):
            where = torch.from_numpy(positions).to(self.device)
            images, labels = self.images[where], self.labels[where]
        else:
            indices = self.indices[positions]
            images = torch.from_numpy(self.images[indices])
            labels = torch.from_numpy(shrink_labels(self.labels[indices], self.size))
        inputs = standardise(images).contiguous(memory_format=torch.channels_last)
        targets = labels.long()
        if flips is not None:
            inputs, targets = flip(inputs, targets, torch.from_numpy(flips).to(self.device))
        return inputs, targets
