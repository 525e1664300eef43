"""The loss and its class weights."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedsim.classes import VOID
from fedsim.models.loss import CrossEntropy, class_counts, class_weights

WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


def logits_and_labels():
    draw = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 4, 5, generator=draw), torch.randint(0, 3, (2, 4, 5), generator=draw)


def test_without_void_it_is_weighted_cross_entropy_to_the_bit():
    logits, labels = logits_and_labels()
    assert torch.equal(CrossEntropy(WEIGHTS)(logits, labels), F.cross_entropy(logits, labels, WEIGHTS))


def test_void_pixels_do_not_count():
    """Written out: Σ w_c (-log p_c) / Σ w_c over labelled pixels. Catches void counted in the denominator."""
    logits, labels = logits_and_labels()
    labels[0, :2] = VOID
    kept = labels != VOID
    chosen = logits.log_softmax(1).permute(0, 2, 3, 1)[kept].gather(1, labels[kept][:, None])[:, 0]
    weights = WEIGHTS[labels[kept]]
    expected = -(weights * chosen).sum() / weights.sum()
    assert torch.allclose(CrossEntropy(WEIGHTS)(logits, labels), expected, rtol=1e-6)


def test_a_batch_without_a_label_teaches_nothing_and_breaks_nothing():
    """Catches 0 / 0, which would stop the run."""
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    loss = CrossEntropy(torch.ones(3))(logits, torch.full((2, 4, 5), VOID))
    loss.backward()
    assert loss == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_losses_of_batches_weighed_are_the_loss_of_all_of_them():
    """Catches a weight that counts pixels: batches differ in void and in classes."""
    logits, labels = logits_and_labels()
    logits, labels = logits.double(), labels.clone()
    labels[0, :3] = VOID
    criterion = CrossEntropy(WEIGHTS.double())
    parts = [(criterion(logits[i:i + 1], labels[i:i + 1]), criterion.weigh(labels[i:i + 1])) for i in (0, 1)]
    together = sum(loss * weight for loss, weight in parts) / sum(weight for _, weight in parts)
    assert math.isclose(together, criterion(logits, labels), rel_tol=1e-12)


def test_counts_are_pixels_of_a_class_and_labelled_pixels_of_scenes_that_have_it():
    histograms = np.array([[2, 1, 0, 0], [0, 4, 0, 0], [1, 0, 0, 1]])
    assert class_counts(histograms).tolist() == [[3, 5, 0, 1], [5, 7, 0, 2]]


def test_counts_of_cars_add_up_to_those_of_the_pool():
    """So a car tells counts and never a picture. Catches frequencies in the place of counts."""
    histograms = np.random.default_rng(0).integers(0, 4, (6, 4))
    assert np.array_equal(class_counts(histograms[:2]) + class_counts(histograms[2:]), class_counts(histograms))


# Frequencies 6/12, 3/12 and 2/16; class 3 is nowhere. Their median is 1/4.
COUNTS = np.array([[6, 3, 2, 0], [12, 12, 16, 0]])


@pytest.mark.parametrize(("kind", "expected"), [
    ("none", [1, 1, 1, 1]), ("median-frequency", [0.5, 1, 2, 1]),
    ("sqrt-median-frequency", [math.sqrt(0.5), 1, math.sqrt(2), 1])])
def test_weights_are_the_median_frequency_over_a_classs_own(kind, expected):
    """A class no car has weighs 1. Catches a median that includes it, and a share of all scenes."""
    weights = class_weights(kind, COUNTS)
    assert weights.dtype == np.float32
    assert weights == pytest.approx(np.float32(expected), rel=1e-7)


def test_a_class_that_one_car_lacks_is_weighed_by_the_cars_that_have_it():
    first, second = class_counts(np.array([[4, 0, 0]])), class_counts(np.array([[0, 3, 1]]))
    assert class_weights("median-frequency", first).tolist() == [1, 1, 1]
    assert class_weights("median-frequency", first + second) == pytest.approx([0.75, 1, 3])


def test_label_smoothing_is_cross_entropy_with_softened_labels():
    """By its definition: (1 - s) on the label and s / C on every class. Catches s / (C - 1), and void pixels."""
    logits, labels = logits_and_labels()
    labels[0, 0, 0] = VOID
    soft = 0.2 / 3 + 0.8 * F.one_hot(labels.where(labels != VOID, 0), 3)
    each = -(soft.movedim(-1, 1) * logits.log_softmax(1)).sum(1)
    found = CrossEntropy(torch.ones(3), 0.2)(logits, labels)
    assert torch.allclose(found, each[labels != VOID].mean())
