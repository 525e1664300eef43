"""Confusion matrices of whole numbers, which add up without rounding, and scores."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from fedsim.classes import VOID


@dataclass(frozen=True)
class Scores:
    """The agreement of predictions with labels other than void. All numbers are in 0..1."""

    miou: float  # mean of class_iou over the classes that have one
    pixel_accuracy: float  # share of the labelled pixels that are predicted right
    class_iou: list[float | None]  # None: the class appears in neither labels nor predictions
    # mIoU by drive, None if the drive has no labelled pixel; empty if there are not several drives.
    drive_miou: dict[str, float | None] = field(default_factory=dict)


def confusion(labels: Tensor | np.ndarray, predictions: Tensor | np.ndarray, classes: int) -> Tensor:
    """Count pixels by truth and prediction.

    labels: integers of any shape, class index or VOID; predictions: integers of the same shape, class index.
    Returns (classes, classes) int64 on the predictions' device, rows = truth, columns = prediction. Pixels
    labelled VOID are left out.
    """
    truth, guess = _tensor(labels), _tensor(predictions)
    assert truth.shape == guess.shape, f"labels {tuple(truth.shape)}, predictions {tuple(guess.shape)}"
    assert guess.numel() == 0 or 0 <= guess.min() <= guess.max() < classes, f"predicted {int(guess.max())}"
    index = truth.flatten().to(guess.device, torch.int64) * classes + guess.flatten()
    return keep_classes(torch.bincount(index, minlength=(VOID + 1) * classes).view(-1, classes))


class Tally:
    """Confusion matrices that grow batch by batch on a device, without waiting for the device.

    counts: (D, 256, C) int64, of the pixels of each of D groups of pictures, with a row for every possible label.
    """

    def __init__(self, classes: int, device: torch.device, groups: int = 1) -> None:
        self.counts = torch.zeros(groups, VOID + 1, classes, dtype=torch.int64, device=device)
        self._one = torch.ones(1, dtype=torch.int64, device=device)

    def add(self, labels: Tensor, predictions: Tensor, groups: Tensor | None = None) -> None:
        """Count pixels. All tensors are int64 and on the tally's device.

        labels: (B, h, w), class index or VOID; predictions: (B, h, w), class index; groups: (B,) of the pictures, None
        for the first.
        """
        _, rows, classes = self.counts.shape
        index = torch.add(predictions, labels, alpha=classes)
        if groups is not None:
            index += (groups * rows * classes).view(-1, 1, 1)
        index = index.flatten()
        self.counts.view(-1).scatter_add_(0, index, self._one.expand_as(index))

    def confusions(self) -> Tensor:
        """Return the confusion matrices (D, C, C) of all batches on the CPU."""
        return torch.stack([keep_classes(own) for own in self.counts.cpu()])


def keep_classes(counts: Tensor) -> Tensor:
    """Return the rows of the classes (C, C), from counts (256, C) with a row for every possible label.

    VOID has a row too, which saves a pass over the pixels to remove it before counting.
    """
    classes = counts.shape[1]
    assert counts[classes:VOID].sum() == 0, f"labels hold numbers that are neither 0..{classes - 1} nor {VOID}"
    return counts[:classes]


def scores(confusion: Tensor) -> Scores:
    """Compute the scores of a confusion matrix (C, C), rows = truth, with at least one pixel.

    IoU_c = n_cc / (Σ_j n_cj + Σ_i n_ic - n_cc), truth ∩ prediction over truth ∪ prediction;
    mIoU = their mean over classes with a union; pixel accuracy = Σ_c n_cc / Σ_ij n_ij.
    The measure of the PASCAL VOC challenge (Everingham et al. 2015, doi:10.1007/s11263-014-0733-5).
    """
    total = int(confusion.sum())
    assert total > 0, "a confusion matrix without a single pixel has no score"
    hits = confusion.diagonal()
    unions = (confusion.sum(0) + confusion.sum(1) - hits).tolist()
    class_iou = [hit / union if union else None for hit, union in zip(hits.tolist(), unions, strict=True)]
    present = [iou for iou in class_iou if iou is not None]
    return Scores(sum(present) / len(present), int(hits.sum()) / total, class_iou)


def scores_by_drive(confusions: Tensor, drives: Sequence[str]) -> Scores:
    """Compute the scores of all drives together, and the mIoU of each if there are several.

    confusions: (D, C, C) int64, a confusion matrix for each drive, which add up to that of all; drives: their D names.
    """
    whole = scores(confusions.sum(0))
    if len(drives) < 2:
        return whole
    mious = [scores(one).miou if one.any() else None for one in confusions]
    return replace(whole, drive_miou=dict(zip(drives, mious, strict=True)))


def mean_scores(several: list[Scores]) -> Scores:
    """Return the plain mean of several models' scores. The IoU of a class is the mean over the models that have one."""
    by_class = zip(*(one.class_iou for one in several), strict=True)
    return Scores(fmean(one.miou for one in several), fmean(one.pixel_accuracy for one in several),
                  [_mean(column) for column in by_class],
                  {drive: _mean([one.drive_miou[drive] for one in several]) for drive in several[0].drive_miou})


def _mean(column: Sequence[float | None]) -> float | None:
    """Return the mean of the numbers that are there; None if there is no number."""
    there = [value for value in column if value is not None]
    return fmean(there) if there else None


def _tensor(numbers: Tensor | np.ndarray) -> Tensor:
    # A copy, because torch warns about read-only memory-mapped arrays.
    return numbers if isinstance(numbers, Tensor) else torch.from_numpy(np.array(numbers))
