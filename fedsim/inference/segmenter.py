"""A trained network, loaded from one file, that segments pictures of any size."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsim.classes import ClassTable
from fedsim.data.pixels import resize_picture, standardise
from fedsim.errors import DataError, OutputError, SettingsError
from fedsim.evaluation.evaluate import BATCH
from fedsim.evaluation.views import PLAIN, View
from fedsim.models.card import ModelCard
from fedsim.own_code import is_own
from fedsim.record.run_directory import find_weights
from fedsim.record.weights import fill, read_weights
from fedsim.settings.viewing import NAMES, check_view, read_view
from fedsim.system.paths import read_path
from fedsim.system.process import use_defaults

CPU = torch.device("cpu")
MOST_NUMBERS = 2**25  # most numbers in a picture's upsampled logits: 128 MiB, 3 megapixels with 11 classes


@dataclass(frozen=True)
class Segmenter:
    """A network in eval mode, with its model card."""

    module: nn.Module  # standardised pictures (B, 3, H, W) float32 -> logits (B, C, H, W)
    card: ModelCard
    path: Path  # the file that it was read from
    device: torch.device
    view: View = PLAIN  # of the pictures that it segments

    @classmethod
    @use_defaults()
    def load(cls, path: Path, device: torch.device = CPU, trust: Collection[str] = (),
             view: Mapping[str, Any] = MappingProxyType({})) -> "Segmenter":
        """Load the global model of a run's directory, or the model in a .safetensors file that a run has written.

        It sees pictures as it saw them when its run was scored. trust: the networks of a user's own, MODULE:NAME, that
        may be imported. view: settings of another view: `test_scales`, `test_flip`, `tile`. Raises UserError if there
        is no such model, its file is damaged, it names code that is not trusted, or it cannot see such a view.
        """
        file = find_weights(Path(read_path(path, "the model")))
        state, metadata = read_weights(file)
        card = ModelCard.read(metadata, file)
        seen = _view_of(card, file, view)
        module = _make_own(card, file, trust) if is_own(card.model) else _make_unfilled(card, file)
        fill(module, state, file)
        if any(buffer.is_meta for buffer in module.buffers()):  # a constant that no file holds: it is computed again
            with torch.random.fork_rng([]):
                module = card.network()
            fill(module, state, file)
        module = module.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return cls(module.requires_grad_(False), card, file, device, seen)

    @property
    def classes(self) -> ClassTable:
        """The classes that the network tells apart."""
        return self.card.classes

    @property
    def name(self) -> str:
        """The name of the run, followed by the car's if the model is a car's own; outside a run, the file's name."""
        path = self.path.resolve()
        if path.parent.name != "checkpoints":
            return path.stem
        run = path.parent.parent.name
        return run if path.stem == "model" else f"{run}-{path.stem}"

    def labels(self, images: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Segment pictures (h, w, 3) uint8 RGB of any sizes; return their class indices, (h, w) uint8 each.

        Raises DataError if one of them is not such a picture.
        """
        images = list(images)
        for number, image in enumerate(images):
            if not isinstance(image, np.ndarray):
                raise DataError(f"picture {number} is not an array but {type(image).__name__}; numpy.asarray makes one")
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise DataError(f"picture {number} is {image.dtype} of shape {image.shape}; it must be uint8 of shape "
                                "(height, width, 3), RGB")
        found: list[np.ndarray] = []
        for start in range(0, len(images), BATCH):
            batch = images[start:start + BATCH]
            found += self.segment(np.stack([self.prepare(image) for image in batch]),
                                  [image.shape[:2] for image in batch])
        return found

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Resize a picture (h, w, 3) uint8 as in training; return (3, H, W) uint8 for `segment`."""
        return resize_picture(image, self.card.input_size).transpose(2, 0, 1)

    @use_defaults()
    @torch.inference_mode()
    def segment(self, pictures: np.ndarray, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Segment a batch of pictures (B, 3, H, W) uint8 that `prepare` made.

        sizes: (h, w) of each picture. Returns labels (h, w) uint8 at these sizes.
        """
        canvas = torch.empty(0)
        found = []
        for one, (height, width) in zip(self._logits(pictures), sizes, strict=True):
            if one.shape[1] * height * width > MOST_NUMBERS:
                labels = _labels_by_class(one, (height, width))
            else:
                if canvas.shape[2:] != (height, width):
                    canvas = one.new_empty((1, one.shape[1], height, width)).contiguous(
                        memory_format=torch.channels_last)
                # All pictures use the same memory: getting fresh pages takes longer than the arithmetic.
                torch.ops.aten.upsample_bilinear2d.out(one, [height, width], False, None, None, out=canvas)
                labels = canvas.argmax(1)[0].to(torch.uint8)
            found.append(labels.cpu().numpy())
        return found

    def _logits(self, pictures: np.ndarray) -> Iterator[Tensor]:
        """Yield the logits (1, C, H, W) of each picture of a batch (B, 3, H, W) uint8."""
        for here in self.view.cut(len(pictures)):
            images = standardise(torch.from_numpy(pictures[here]).to(self.device))
            yield from self.view.logits(self.module, images).split(1)


def _labels_by_class(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return labels (h, w) uint8 of logits (1, C, H, W), upsampled class by class so that C does not cost memory."""
    best = F.interpolate(logits[:, :1], size, mode="bilinear", align_corners=False)
    labels = torch.zeros(best.shape, dtype=torch.uint8, device=logits.device)
    for index in range(1, logits.shape[1]):
        here = F.interpolate(logits[:, index:index + 1], size, mode="bilinear", align_corners=False)
        labels.masked_fill_(here > best, index)
        torch.maximum(best, here, out=best)
    return labels[0, 0]


def _view_of(card: ModelCard, file: Path, asked: Mapping[str, Any]) -> View:
    """Return the view that a card's run was scored with, but for what is asked. Raises UserError."""
    try:
        read_view(card.settings)
    except SettingsError as error:
        raise OutputError(f"the model card of {file} is damaged: {error}; get the file anew") from error
    if unknown := [name for name in asked if name not in NAMES]:
        raise SettingsError(f"a view has no setting {unknown[0]!r}; known are {', '.join(NAMES)}")
    view = read_view({**card.settings, **asked})
    check_view(view, card.model, card.input_size)
    return view


def _make_unfilled(card: ModelCard, file: Path) -> nn.Module:
    """Make the network of a card without its numbers. Raises OutputError if there can be no such network."""
    try:
        with torch.device("meta"):  # a damaged card may ask for more than there is memory
            return card.network()
    except (SettingsError, RuntimeError, OverflowError) as error:
        raise OutputError(f"the model card of {file} is damaged: it describes no network that can be built "
                          f"({str(error).splitlines()[0]}); get the file anew") from error


def _make_own(card: ModelCard, file: Path, trust: Collection[str]) -> nn.Module:
    """Make a network of a user's own. Raises UserError if it is not trusted, or cannot be made."""
    if card.model not in trust:
        raise SettingsError(f"{file} names code of its own, {card.model}, which runs with all your rights: say "
                            f"--trust {card.model} as well if you trust it")
    try:
        with torch.random.fork_rng([]):
            return card.network()
    except SettingsError as error:
        raise OutputError(f"{file}: {error}") from error
    except Exception as error:  # whatever a user's own code does
        raise OutputError(f"{file}: --model {card.model} raises {type(error).__name__}: "
                          f"{' '.join(str(error).split())}") from error
