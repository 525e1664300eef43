"""The score of a model on a scene set, the same bits on any number of ranks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsim.data.pixels import standardise
from fedsim.data.scene_set import SceneSet
from fedsim.distributed.world import World
from fedsim.evaluation.metrics import Scores, Tally, scores_by_drive
from fedsim.evaluation.views import PLAIN, View
from fedsim.losses.criterion import Criterion
from fedsim.system.transfer import fetch, upload

BATCH = 8  # scenes; batches are cut before they are given to ranks, so the number of ranks does not change them
MOST_NUMBERS = 2**26  # most numbers in logits at the labels' size, 256 MiB; those of one scene may have more


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a model. loss: mean over all labelled pixels; scores: of all drives and by drive."""

    loss: float
    scores: Scores


class Network(Protocol):
    """A model that can be scored, such as a FlatModel or a Segmenter."""

    @property
    def module(self) -> nn.Module:
        """The network: standardised pictures (B, 3, H, W) float32 -> logits (B, C, H', W')."""

    @property
    def device(self) -> torch.device:
        """The device of its weights."""


class Predicted(NamedTuple):
    """Scenes of a batch whose labels have one size, and the network's logits for them."""

    positions: np.ndarray  # (B,) of the scenes in the batch
    logits: Tensor  # (B, C, h, w), at the resolution of the labels
    labels: np.ndarray  # (B, h, w) uint8 class index or VOID


@torch.no_grad()
def predict(model: Network, scene_set: SceneSet, indices: np.ndarray,
            images: np.ndarray | None = None, view: View = PLAIN) -> Iterator[Predicted]:
    """Yield the logits of a batch of scenes, with their labels, size after size of the labels.

    images: (B, 3, H, W) uint8, shown instead of the scenes' own pictures. Scenes that are shown in tiles, or whose
    labels are large, are yielded a few at a time: memory need not hold the logits of a whole batch of them.
    """
    model.module.eval()
    # Contiguous, because sums of floats depend on how pictures lie in memory.
    shown = np.ascontiguousarray(scene_set.images[indices] if images is None else images)
    for here in view.cut(len(indices)):
        pictures = standardise(upload(torch.from_numpy(shown[here]), model.device))
        logits = view.logits(model.module, pictures)
        for positions in _alike(scene_set, indices[here], logits.shape[1]):
            labels = scene_set.labels.stack(indices[here][positions])
            alike = logits if len(positions) == len(logits) else logits[
                upload(torch.from_numpy(positions), logits.device)]
            yield Predicted(positions + here.start,
                            F.interpolate(alike, labels.shape[1:], mode="bilinear", align_corners=False), labels)


def _alike(scene_set: SceneSet, indices: np.ndarray, classes: int) -> Iterator[np.ndarray]:
    """Yield the positions of scenes whose labels have one size, as many at a time as MOST_NUMBERS allows, at least one.

    indices: (B,) of the scenes.
    """
    for positions in scene_set.labels.group_by_shape(indices):
        pixels = int(scene_set.labels.shapes[indices[positions[0]]].prod())
        most = max(1, MOST_NUMBERS // (classes * pixels))
        yield from np.split(positions, range(most, len(positions), most))


def segment(model: Network, scene_set: SceneSet, indices: np.ndarray, view: View = PLAIN) -> list[np.ndarray]:
    """Return the class indices that a model predicts for some scenes: (h, w) uint8, at the size of each label."""
    found = [np.zeros(0, np.uint8)] * len(indices)
    for positions, logits, _ in predict(model, scene_set, indices, view=view):
        for position, labels in zip(positions, logits.argmax(1).to("cpu", torch.uint8).numpy(), strict=True):
            found[position] = labels
    return found


def count_by_drive(model: Network, scene_set: SceneSet, batches: Iterable[np.ndarray], view: View = PLAIN) -> Tensor:
    """Return the confusion matrices of a model on batches of scenes, by drive: (D, C, C) int64 on the CPU."""
    tally = _tally(model, scene_set)
    for indices in batches:
        _count(model, scene_set, indices, tally, None, view)
    return tally.confusions()


def count_confusion(model: Network, scene_set: SceneSet, batches: Iterable[np.ndarray], view: View = PLAIN) -> Tensor:
    """Return the confusion matrix of a model on batches of scenes, (C, C) int64 on the CPU."""
    return count_by_drive(model, scene_set, batches, view).sum(0)


def count_batch(model: Network, scene_set: SceneSet, indices: np.ndarray, images: np.ndarray,
                view: View = PLAIN) -> Tensor:
    """Return the confusion matrix of a model on a batch of scenes, (C, C) int64 on the CPU. images: see `predict`."""
    tally = _tally(model, scene_set)
    _count(model, scene_set, indices, tally, images, view)
    return tally.confusions().sum(0)


def _tally(model: Network, scene_set: SceneSet) -> Tally:
    """Return the confusion matrices of no pixel, one for each drive."""
    return Tally(len(scene_set.classes), model.device, len(scene_set.drive_names))


def _count(model: Network, scene_set: SceneSet, indices: np.ndarray, tally: Tally,
           images: np.ndarray | None, view: View) -> None:
    for positions, logits, truth in predict(model, scene_set, indices, images, view):
        _add(tally, scene_set, indices[positions], logits, upload(torch.from_numpy(truth), model.device).long())


def _add(tally: Tally, scene_set: SceneSet, indices: np.ndarray, logits: Tensor, labels: Tensor) -> None:
    """Count the pixels of the scenes `indices`. logits: (B, C, h, w); labels: (B, h, w) int64."""
    assert logits.shape[1] == len(scene_set.classes), f"{logits.shape[1]} classes predicted"
    drives = upload(torch.from_numpy(scene_set.drive_numbers[indices]), logits.device)
    tally.add(labels, logits.argmax(1), drives)


def evaluate(world: World, model: Network, scene_set: SceneSet, criterion: Criterion,
             view: View = PLAIN) -> Evaluation:
    """Score a model that all ranks hold. Every rank calls it and scores its share of the batches."""
    batches = batches_of(scene_set)
    share = range(world.rank, len(batches), world.size)
    confusions, losses = _score(model, scene_set, criterion, {number: batches[number] for number in share}, view)
    world.sum_(confusions)
    return _evaluation(scene_set, confusions, world.table(losses, len(batches), 2))


def evaluate_own(model: Network, scene_set: SceneSet, criterion: Criterion, view: View = PLAIN) -> Evaluation:
    """Score a model that only this rank holds, on all scenes."""
    batches = batches_of(scene_set)
    confusions, losses = _score(model, scene_set, criterion, dict(enumerate(batches)), view)
    return _evaluation(scene_set, confusions, np.array([losses[number] for number in range(len(batches))]))


def batches_of(scene_set: SceneSet) -> list[np.ndarray]:
    """Return the batches of a scene set, as indices of the scenes that are scored together."""
    return np.split(np.arange(len(scene_set)), range(BATCH, len(scene_set), BATCH))


def _score(model: Network, scene_set: SceneSet, criterion: Criterion,
           batches: dict[int, np.ndarray], view: View) -> tuple[Tensor, dict[int, list[float]]]:
    """Return the confusion matrices (D, C, C) int64 of the drives, and the [loss * weight, weight] of each batch.

    batches: indices of scenes, by the number of the batch. The device is asked for nothing before the end.
    """
    tally, losses = _tally(model, scene_set), {number: [0.0, 0.0] for number in batches}
    numbers: list[int] = []  # of the batch, for scenes of a batch with labels of one size
    parts: list[tuple[Tensor, Tensor]] = []  # their loss, and its weight
    for number, indices in batches.items():
        for positions, logits, truth in predict(model, scene_set, indices, view=view):
            labels = upload(torch.from_numpy(truth), model.device).long()
            numbers.append(number)
            parts.append((criterion(logits, labels), criterion.weigh(labels)))
            _add(tally, scene_set, indices[positions], logits, labels)
    found = [column.tolist() for column in fetch(*map(torch.stack, zip(*parts, strict=True)))]
    for number, loss, weight in zip(numbers, *found, strict=True):
        losses[number][0] += loss * weight if weight else 0.0
        losses[number][1] += weight
    return tally.confusions(), losses


def _evaluation(scene_set: SceneSet, tally: Tensor, losses: np.ndarray) -> Evaluation:
    total, weight = losses.sum(0)
    return Evaluation(float(total / weight), scores_by_drive(tally, scene_set.drive_names))
