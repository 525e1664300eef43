"""Scores against torchmetrics and against sums done by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from fedsim.classes import VOID
from fedsim.evaluation.metrics import confusion, scores

CLASSES = 6


def random_maps(seed: int, present: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels with void and predictions that often agree; classes from `present` on appear in neither."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(present, (3, 8, 9), generator=generator, dtype=torch.uint8)
    noise = torch.randint(present, labels.shape, generator=generator, dtype=torch.uint8)
    predictions = torch.where(torch.rand(labels.shape, generator=generator) < 0.5, labels, noise)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = VOID
    return labels, predictions


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), present=st.integers(1, CLASSES))
def test_scores_agree_with_torchmetrics(seed, present):
    """Catches rows for columns, void counted, and absent classes counted as 0 or as 1."""
    labels, predictions = random_maps(seed, present)
    ours = scores(confusion(labels, predictions, CLASSES))
    truth, guess = labels.long(), predictions.long()

    def jaccard(average):
        return MulticlassJaccardIndex(CLASSES, average=average, ignore_index=VOID)(guess, truth)

    accuracy = MulticlassAccuracy(CLASSES, average="micro", ignore_index=VOID)(guess, truth)
    assert ours.miou == pytest.approx(jaccard("macro").item(), abs=1e-6)
    assert ours.pixel_accuracy == pytest.approx(accuracy.item(), abs=1e-6)
    for mine, theirs in zip(ours.class_iou, jaccard("none").tolist(), strict=True):
        assert (mine or 0.0) == pytest.approx(theirs, abs=1e-6)


def test_rows_are_truth_and_columns_are_predictions():
    counts = confusion(np.array([[0, 0, 2], [1, VOID, 2]]), np.array([[0, 1, 2], [1, 0, 0]]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert counts.dtype == torch.int64


def test_a_hand_made_case():
    ours = scores(torch.tensor([[2, 1, 0, 0], [0, 3, 0, 0], [0, 0, 0, 0], [0, 2, 0, 0]]))
    assert ours.class_iou == [2 / 3, 3 / 6, None, 0.0]  # the third in neither; the fourth never hit
    assert ours.miou == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert ours.pixel_accuracy == 5 / 8


def test_a_class_only_predicted_counts_against_the_mean():
    assert scores(confusion(np.array([0, 0]), np.array([0, 1]), 3)).class_iou == [0.5, 0.0, None]


def test_a_class_predicted_only_on_void_does_not_count():
    assert scores(confusion(np.array([0, VOID]), np.array([0, 1]), 2)).class_iou == [1.0, None]


def test_confusions_of_a_split_add_up_to_the_confusion_of_the_whole():
    labels, predictions = random_maps(7, CLASSES)
    parts = [confusion(labels[[i]], predictions[[i]], CLASSES) for i in range(len(labels))]
    assert torch.equal(sum(parts), confusion(labels, predictions, CLASSES))


def test_numpy_and_torch_of_any_integer_type_give_the_same_counts():
    labels, predictions = random_maps(3, CLASSES)
    expected = confusion(labels, predictions, CLASSES)
    assert torch.equal(confusion(labels.numpy(), predictions.numpy(), CLASSES), expected)
    assert torch.equal(confusion(labels, predictions.long(), CLASSES), expected)


def test_no_pixels_is_a_confusion_of_zeros():
    none = torch.empty(0, 4, 4, dtype=torch.uint8)
    assert confusion(none, none, 3).tolist() == [[0] * 3] * 3


def test_counting_leaves_labels_and_predictions_as_they_were():
    """Catches arithmetic in place on labels that need no conversion."""
    labels, predictions = torch.tensor([0, 1, 2]), torch.tensor([2, 1, 0])
    confusion(labels, predictions, 3)
    assert labels.tolist() == [0, 1, 2] and predictions.tolist() == [2, 1, 0]


@pytest.mark.parametrize("label, prediction", [(3, 0), (0, 3), (0, -1)])
def test_numbers_that_are_no_class_are_not_counted_silently(label, prediction):
    with pytest.raises(AssertionError):
        confusion(np.array([0, label]), np.array([0, prediction]), 3)
