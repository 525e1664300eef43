"""The losses, each against a definition or a library, in float64; and class weights."""

import math
from functools import partial

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from fedsim.classes import VOID
from fedsim.losses import LOSSES, OHEM, Dice, Focal, LovaszSoftmax
from fedsim.losses.class_weights import class_counts, class_weights
from fedsim.losses.criterion import Criterion
from fedsim.losses.cross_entropy import add_in_fixed_order

WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


def logits_and_labels():
    draw = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 4, 5, generator=draw), torch.randint(0, 3, (2, 4, 5), generator=draw)


def test_without_void_it_is_weighted_cross_entropy_to_the_bit():
    logits, labels = logits_and_labels()
    assert torch.equal(Criterion(WEIGHTS)(logits, labels), F.cross_entropy(logits, labels, WEIGHTS))


def test_void_pixels_do_not_count():
    """Written out: Σ w_c (-log p_c) / Σ w_c over labelled pixels. Catches void counted in the denominator."""
    logits, labels = logits_and_labels()
    labels[0, :2] = VOID
    kept = labels != VOID
    chosen = logits.log_softmax(1).permute(0, 2, 3, 1)[kept].gather(1, labels[kept][:, None])[:, 0]
    weights = WEIGHTS[labels[kept]]
    expected = -(weights * chosen).sum() / weights.sum()
    assert torch.allclose(Criterion(WEIGHTS)(logits, labels), expected, rtol=1e-6)


def test_a_batch_without_a_label_teaches_nothing_and_breaks_nothing():
    """Catches 0 / 0, which would stop the run."""
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    loss = Criterion(torch.ones(3))(logits, torch.full((2, 4, 5), VOID))
    loss.backward()
    assert loss == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_the_loss_that_a_gpu_computes_is_that_of_a_cpu():
    """Its value and its gradient. Catches a mean over all pixels, and void that counts or divides by 0."""
    for some, smoothing in ((slice(2), 0.0), (slice(2), 0.1), (slice(None), 0.1)):
        logits, labels = logits_and_labels()
        logits, labels = logits.double().requires_grad_(), labels.clone()
        labels[:, some] = VOID
        found = []
        for compute in (Criterion(WEIGHTS.double(), smoothing), partial(
                add_in_fixed_order, weights=WEIGHTS.double(), smoothing=smoothing)):
            loss = compute(logits, labels)
            found.append(torch.cat([loss.detach()[None], torch.autograd.grad(loss, logits)[0].flatten()]))
        assert torch.allclose(*found, rtol=1e-12, atol=1e-15)


def test_losses_of_batches_weighed_are_the_loss_of_all_of_them():
    """Catches a weight that counts pixels: batches differ in void and in classes."""
    logits, labels = logits_and_labels()
    logits, labels = logits.double(), labels.clone()
    labels[0, :3] = VOID
    criterion = Criterion(WEIGHTS.double())
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
    found = Criterion(torch.ones(3), 0.2)(logits, labels)
    assert torch.allclose(found, each[labels != VOID].mean())


# Losses other than cross entropy. Class 3 of five is absent, and a part is void.
CLASSES, SMOOTHINGS = 5, (0.0, 0.2)


def batch(sharpness=1.0):
    """Logits (2, 5, 6, 7) in float64, labels, and the list of the labelled pixels: p (N, C) and classes (N,)."""
    draw = torch.Generator().manual_seed(3)
    logits = sharpness * torch.randn(2, CLASSES, 6, 7, generator=draw, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 4, VOID])[torch.randint(0, 5, (2, 6, 7), generator=draw)]
    kept = labels != VOID
    return logits, labels, logits.softmax(1).permute(0, 2, 3, 1)[kept].numpy(), labels[kept].numpy()


def of(loss, smoothing=0.0, weights=None):
    weights = torch.ones(CLASSES, dtype=torch.float64) if weights is None else torch.tensor(weights).double()
    return Criterion(weights, smoothing, ((1.0, loss),))


UNEQUAL = [0.5, 1.0, 2.0, 9.0, 3.0]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("weights", [None, UNEQUAL])
def test_each_loss_is_its_definition(smoothing, weights):
    """Written out in numpy, pixel by pixel or class by class, with class weights and labels that are spread.

    Each was seen to fail: dice with sums in the place of squares and with absent classes in the mean, focal with the
    weight outside of the mean and a smoothed label put into (1 - p), OHEM with a mean over all pixels, all with void
    pixels counted.
    """
    logits, labels, shares, truth = batch()
    w = np.ones(CLASSES) if weights is None else np.array(weights)
    soft = (1 - smoothing) * np.eye(CLASSES)[truth] + smoothing / CLASSES

    def entropy(kept, power):
        each = [sum(w[c] * soft[n, c] * (1 - shares[n, c])**power * -math.log(shares[n, c]) for c in range(CLASSES))
                for n in kept]
        return sum(each) / w[truth[kept]].sum()

    everyone, own = np.arange(len(truth)), shares[np.arange(len(truth)), truth]
    assert float(of(Focal(3.0), smoothing, weights)(logits, labels)) == pytest.approx(entropy(everyone, 3), rel=1e-12)
    assert float(of(Focal(0.0), smoothing, weights)(logits, labels)) == pytest.approx(
        float(of(LOSSES["cross-entropy"](), smoothing, weights)(logits, labels)), rel=1e-12)

    hard = np.flatnonzero(own < 0.3)
    assert 0.0625 < len(hard) / len(truth) < 0.9
    assert float(of(OHEM(0.3), smoothing, weights)(logits, labels)) == pytest.approx(entropy(hard, 0), rel=1e-12)
    hardest = np.argsort(own)[:math.ceil(len(truth) / 2)]
    fewest = of(OHEM(1e-9, 0.5), smoothing, weights)
    assert float(fewest(logits, labels)) == pytest.approx(entropy(hardest, 0), rel=1e-12)

    present = [0, 1, 2, 4]
    dice = [1 - 2 * (shares[:, c] * soft[:, c]).sum() / ((shares[:, c]**2).sum() + (soft[:, c]**2).sum())
            for c in present]
    assert float(of(Dice(), smoothing, weights)(logits, labels)) == pytest.approx(np.average(dice, weights=w[present]),
                                                                                  rel=1e-12)


def test_lovasz_is_that_of_a_library_and_of_its_definition():
    """The definition: the sum over k of the k-th largest error times what 1 - IoU gains when the k worst are wrong.

    Catches a mean over all classes, void pixels that count, an order from small to large.
    """
    logits, labels, shares, truth = batch()
    library = smp.losses.LovaszLoss("multiclass", per_image=False, ignore_index=VOID)
    assert float(of(LovaszSoftmax())(logits, labels)) == pytest.approx(float(library(logits.float(), labels)), rel=1e-5)

    def extension(c):
        errors, own = np.abs((truth == c) - shares[:, c]), truth == c
        order, total, before, wrong = np.argsort(-errors), 0.0, 0.0, np.zeros(len(own), bool)
        for n in order:
            wrong[n] = True
            predicted = own ^ wrong
            after = 1 - (own & predicted).sum() / (own | predicted).sum()
            total, before = total + errors[n] * (after - before), after
        return total

    expected = np.average([extension(c) for c in (0, 1, 2, 4)], weights=[UNEQUAL[c] for c in (0, 1, 2, 4)])
    assert float(of(LovaszSoftmax(), 0.0, UNEQUAL)(logits, labels)) == pytest.approx(expected, rel=1e-12)


def test_predictions_without_doubt_have_dice_and_iou_themselves():
    """By a library's Dice over classes that are all present, and by counting. Catches a factor 2 that is lost."""
    logits, labels, _, _ = batch(1e4)
    labels[0, 0, :2] = 3
    guess, kept = logits.argmax(1), labels != VOID
    library = smp.losses.DiceLoss("multiclass", ignore_index=VOID, smooth=0.0)
    assert float(of(Dice())(logits, labels)) == pytest.approx(float(library(logits.float(), labels)), rel=1e-5)
    ious = [((guess == c) & (labels == c)).sum() / (((guess == c) | (labels == c)) & kept).sum()
            for c in range(CLASSES)]
    assert float(of(LovaszSoftmax())(logits, labels)) == pytest.approx(1 - np.mean(ious), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_void_pixels_teach_no_loss_anything(name):
    """Nor does a batch of them break anything. Gradients are those of finite differences, also beside a class that is
    predicted without doubt. Catches 0 / 0, and the slope of (1 - p)^gamma at p = 1."""
    loss = of(LOSSES[name](**({"gamma": 0.5} if name == "focal" else {})), 0.0, UNEQUAL)
    logits, labels, _, _ = batch()
    changed = logits.where((labels != VOID)[:, None], 7.0).requires_grad_()
    assert torch.equal(loss(logits, labels), loss(changed.detach(), labels))
    assert torch.autograd.gradcheck(lambda given: loss(given, labels), changed, atol=1e-6)
    for sharpness, given in ((1.0, torch.full_like(labels, VOID)), (1e3, labels)):
        leaf = (sharpness * logits.float()).requires_grad_()
        found = of(LOSSES[name](**({"gamma": 0.5} if name == "focal" else {})))
        value = Criterion(found.weights.float(), 0.0, found.losses)(leaf, given)
        value.backward()
        assert leaf.grad.isfinite().all() and (value > 0 if sharpness > 1 else value == 0 and not leaf.grad.any())


def test_a_sum_adds_losses_times_what_they_count():
    logits, labels, _, _ = batch()
    parts = [(1.0, LOSSES["cross-entropy"]()), (0.5, Dice()), (2.0, LovaszSoftmax())]
    weights = torch.tensor(UNEQUAL).double()
    total = Criterion(weights, 0.1, tuple(parts))(logits, labels)
    assert total == sum(factor * of(loss, 0.1, UNEQUAL)(logits, labels) for factor, loss in parts)
