"""Scenes under conditions: pictures perturbed at their own size, then shrunk."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from fedsim.data import perturbations
from fedsim.data.perturbations import Perturbation
from fedsim.data.pixels import resize_picture
from fedsim.data.scene_set import Scene, Source
from fedsim.seeds import stream


class Conditioned:
    """A `Source` in which some scenes are perturbed, each always in the same way."""

    def __init__(self, source: Source, conditions: Mapping[str, Perturbation], seed: int) -> None:
        """conditions: perturbations by the name of a scene; the other scenes stay as they are."""
        self._source, self._conditions, self._seed = source, conditions, seed
        self.name, self.classes, self.image_size = source.name, source.classes, source.image_size

    def splits(self) -> tuple[str, ...]:
        return self._source.splits()

    def identity(self, split: str) -> dict[str, object]:
        """Return the data set's own identity, the conditions, and digests and versions of the code that perturbs."""
        return {"of": self._source.identity(split), "seed": self._seed, "code": _code_digest(),
                "libraries": {"numpy": np.__version__, "torch": torch.__version__},
                "conditions": {name: str(condition) for name, condition in sorted(self._conditions.items())}}

    def count(self, split: str) -> int:
        return self._source.count(split)

    def drives(self, split: str) -> tuple[str, ...]:
        return self._source.drives(split)

    def notes(self, split: str) -> list[str]:
        return self._source.notes(split)

    def picture(self, split: str, name: str) -> np.ndarray:
        return self._perturb(self._source.picture(split, name), name)

    def scenes(self, split: str) -> Iterator[Scene]:
        return (scene._replace(image=self._perturb(scene.image, scene.name)) for scene in self._source.scenes(split))

    def _perturb(self, image: np.ndarray, name: str) -> np.ndarray:
        """Return a picture (h, w, 3) uint8 under the condition of its scene."""
        condition = self._conditions.get(name)
        if condition is None:
            return image
        return perturb(image.transpose(2, 0, 1)[None], [name], condition, self._seed)[0].transpose(1, 2, 0)


def perturb(images: np.ndarray, names: Sequence[str], perturbation: Perturbation, seed: int) -> np.ndarray:
    """Perturb pictures: (N, 3, H, W) uint8 -> a new array of the same shape.

    The draws of a picture depend only on the seed, the kind of perturbation and its name.
    """
    result = np.empty_like(images)
    for index, (image, name) in enumerate(zip(images, names, strict=True)):
        random = stream(seed, "perturbation", perturbation.kind, name)
        result[index] = perturbation(torch.tensor(image), random).numpy()
    return result


def perturb_and_shrink(image: np.ndarray, name: str, size: tuple[int, int], perturbation: Perturbation,
                       seed: int) -> np.ndarray:
    """Perturb a picture at its own size, and bring it to the size of the network's input.

    image: (h, w, 3) uint8; name: of its scene; size: (width, height) in pixels. Returns (3, height, width) uint8. The
    draws depend only on the seed, the kind of perturbation and the scene's name.
    """
    # Contiguous, because sums of floats depend on how a picture lies in memory.
    picture = perturb(np.ascontiguousarray(image.transpose(2, 0, 1))[None], [name], perturbation, seed)[0]
    return resize_picture(picture.transpose(1, 2, 0), size).transpose(2, 0, 1)


def _code_digest() -> str:
    files = Path(__file__), *sorted(Path(perturbations.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
