"""Scores of a model on a scene set."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scenery import CLASSES, SOLO, criterion, labels_of, on_ranks, scene_set, segnet
from torchmetrics.functional.classification import multiclass_jaccard_index

from fedsim.classes import VOID
from fedsim.data.pixels import standardise
from fedsim.data.scene_set import LabelMaps
from fedsim.evaluation.evaluate import (
    batches_of,
    count_by_drive,
    count_confusion,
    evaluate,
    evaluate_own,
    predict,
    segment,
)
from fedsim.evaluation.metrics import mean_scores, scores

# Batches of 8, 8 and 3; drives that end within batches, one of them in two of them.
SCENES = replace(scene_set(19), drives=("a",) * 3 + ("b",) * 9 + ("c",) * 6 + ("d",))
LABELS = torch.from_numpy(labels_of(SCENES)).long()


def plain_logits(model) -> torch.Tensor:
    """Scene by scene, at the labels' size."""
    model.module.eval()
    with torch.no_grad():
        return torch.cat([F.interpolate(model.module(standardise(torch.from_numpy(SCENES.images[i:i + 1]))),
                                        LABELS.shape[1:], mode="bilinear", align_corners=False)
                          for i in range(len(SCENES))])


def test_scores_are_those_of_a_straightforward_computation():
    """torchmetrics' IoU and PyTorch's loss over all pixels at once, at the labels' size, not the input's.

    Catches a mean of batches' losses, scores at the input's size, void counted, and a model left in training.
    """
    model = segnet()
    logits = plain_logits(model)
    ours = evaluate(SOLO, model, SCENES, criterion())
    expected = F.cross_entropy(logits, LABELS, criterion().weights, ignore_index=VOID)
    assert ours.loss == pytest.approx(float(expected), rel=1e-5)
    guesses = logits.argmax(1)
    kept = LABELS != VOID
    right = float((guesses == LABELS)[kept].double().mean())
    assert ours.scores.pixel_accuracy == pytest.approx(right, abs=1e-4)
    iou = multiclass_jaccard_index(guesses[kept], LABELS[kept], CLASSES, average="none")
    assert [own or 0.0 for own in ours.scores.class_iou] == pytest.approx(iou.tolist(), abs=1e-3)


def test_scores_by_drive_are_those_of_each_drive_alone():
    """And the split's are of the sum of their matrices, to the bit.

    Catches a batch that is counted to one drive, drives in another order, and a mean of drives as the whole.
    """
    model = segnet()
    whole = evaluate(SOLO, model, SCENES, criterion()).scores
    in_another_order = np.array([18, 5, 13, 0, 7, 1, 16, 11])
    matrices, other = (count_by_drive(model, SCENES, batches)
                       for batches in (batches_of(SCENES), [in_another_order]))
    assert list(whole.drive_miou) == ["a", "b", "c", "d"]
    for number, drive in enumerate(whole.drive_miou):
        own = SCENES.take(np.flatnonzero([one == drive for one in SCENES.drives]))
        alone = evaluate_own(model, own, criterion()).scores
        assert alone.drive_miou == {}
        assert whole.drive_miou[drive] == scores(matrices[number]).miou == pytest.approx(alone.miou, abs=1e-4)
        pixels = [int((labels != VOID).sum()) for labels in (own.labels[i] for i in range(len(own)))]
        assert int(matrices[number].sum()) == sum(pixels)
        assert int(other[number].sum()) == sum(int((SCENES.labels[i] != VOID).sum()) for i in in_another_order
                                               if SCENES.drives[i] == drive)
    assert scores(matrices.sum(0)) == replace(whole, drive_miou={}) == scores(
        count_confusion(model, SCENES, batches_of(SCENES)))
    assert len({*whole.drive_miou.values(), whole.miou}) == 5


def test_scores_by_drive_take_no_second_look():
    """The network sees each batch once. Catches a pass over the split for every drive."""
    model, seen = segnet(), []
    model.module.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    evaluate(SOLO, model, SCENES, criterion())
    assert seen == [8, 8, 3]


def test_a_drive_without_a_labelled_pixel_has_no_score():
    labels = labels_of(SCENES).copy()
    labels[3:12] = VOID
    whole = evaluate(SOLO, segnet(), replace(SCENES, labels=LabelMaps.of(labels)), criterion()).scores
    assert whole.drive_miou["b"] is None and None not in {whole.drive_miou[drive] for drive in "acd"}
    assert mean_scores([whole, replace(whole, drive_miou=dict.fromkeys("abcd", 0.25))]).drive_miou["b"] == 0.25


def test_predictions_have_the_labels_size():
    assert [one.logits.shape for one in predict(segnet(), SCENES, np.array([1, 2]))] == [(2, CLASSES, 36, 48)]


def test_pictures_may_lie_in_memory_in_any_order():
    """To the bit: sums of floats would follow the order."""
    indices = np.array([1, 2])
    channels_last = np.ascontiguousarray(SCENES.images[indices].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    plain, other = predict(segnet(), SCENES, indices), predict(segnet(), SCENES, indices, channels_last)
    assert torch.equal(next(plain).logits, next(other).logits)


def test_scores_are_at_the_labels_own_size():
    """The same pictures with labels of another size: as many pixels as the labels have.

    Catches shrunk labels.
    """
    model, counted = segnet(), []
    for size in ((48, 36), (96, 72)):
        scenes = scene_set(2, label_size=size)
        with_loss = criterion()
        labels = torch.from_numpy(labels_of(scenes)).long()
        evaluation = evaluate(SOLO, model, scenes, with_loss)
        counted.append(evaluation.scores.pixel_accuracy * int((labels != VOID).sum()))
    assert all(count == pytest.approx(round(count), abs=1e-6) for count in counted)


def test_scenes_of_several_sizes_are_scored_each_at_its_own():
    """Their confusion matrix and loss are the sums of those of each scene alone, in the order of the batch."""
    sizes = ((48, 36), (40, 160), (48, 36), (20, 20))
    sets = [scene_set(1, label_size=size, seed=seed) for seed, size in enumerate(sizes)]
    mixed = replace(sets[0], images=np.concatenate([one.images for one in sets]), names=("a", "b", "c", "d"),
                    drives=("d",) * 4, labels=LabelMaps.of(one.labels[0] for one in sets))
    model, with_loss = segnet(), criterion()
    alone = [evaluate(SOLO, model, one, with_loss) for one in sets]
    weights = [with_loss.weigh(torch.from_numpy(one.labels[0]).long()) for one in sets]
    together = evaluate(SOLO, model, mixed, with_loss)
    assert together.loss == pytest.approx(np.average([one.loss for one in alone], weights=weights), rel=1e-5)
    hits = sum(one.scores.pixel_accuracy * int((s.labels[0] != VOID).sum()) for one, s in zip(alone, sets, strict=True))
    pixels = sum(int((one.labels[0] != VOID).sum()) for one in sets)
    assert together.scores.pixel_accuracy == pytest.approx(hits / pixels, abs=2e-3)
    shown = segment(model, mixed, np.array([3, 1, 0]))
    assert [one.shape for one in shown] == [(20, 20), (160, 40), (36, 48)]
    assert np.mean(shown[1] == segment(model, sets[1], np.array([0]))[0]) > 0.99


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_the_number_of_ranks_changes_no_bit(ranks):
    """Three batches, so a rank of four has none.

    Catches scenes dealt one by one, and sums of losses by rank.
    """
    alone = evaluate(SOLO, segnet(), SCENES, criterion())
    models = [segnet() for _ in range(ranks)]
    spread = on_ranks(ranks, lambda world: evaluate(world, models[world.rank], SCENES, criterion()))
    assert spread == [alone] * ranks


def test_a_model_that_one_rank_holds_is_scored_alike():
    assert evaluate_own(segnet(), SCENES, criterion()) == evaluate(SOLO, segnet(), SCENES, criterion())


def test_scoring_changes_neither_parameters_nor_statistics():
    """Catches BatchNorm left in training."""
    model = segnet()
    model.module.train()
    parameters, statistics = model.parameters.clone(), model.statistics.clone()
    evaluate(SOLO, model, SCENES, criterion())
    assert torch.equal(model.parameters, parameters) and torch.equal(model.statistics, statistics)
