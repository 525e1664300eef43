"""Scores under perturbations, and what they are summed up to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scenery import SOLO, criterion, scene_set, segnet

from fedsim.data.conditions import perturb_and_shrink
from fedsim.data.partition import Scored
from fedsim.data.perturbations import Perturbation
from fedsim.evaluation.evaluate import evaluate
from fedsim.evaluation.metrics import Scores, mean_scores
from fedsim.evaluation.robustness import Robustness, Subject, score_subjects
from fedsim.models.flat import FlatModel

FOG, NOISE = [Perturbation("fog", severity) for severity in (1, 5)], [Perturbation("sensor-noise", 5)]


def scored(*mious: float) -> Robustness:
    """Clean, fog 1, fog 5, noise 5; the second class has half of every mIoU twice."""
    clean, *under = (Scores(miou, miou, [miou / 2, 3 * miou / 2, None]) for miou in mious)
    return Robustness(clean, dict(zip([*FOG, *NOISE], under, strict=True)))


def test_means_are_over_kinds_of_means_over_severities():
    """Catches a mean over all scores, where a kind with more severities would count more."""
    result = scored(0.8, 0.6, 0.4, 0.2)
    assert result.miou("fog") == pytest.approx(0.5) and result.miou("sensor-noise") == pytest.approx(0.2)
    assert result.mean_miou() == pytest.approx(0.35)


def test_the_worst_class_is_the_one_that_loses_most():
    """Points of IoU; a class without IoU is none. Catches a ratio, which is equal here."""
    assert scored(0.8, 0.6, 0.4, 0.2).worst_class("fog") == (1, pytest.approx(-0.45))
    nothing = Scores(0.5, 0.5, [None])
    assert Robustness(nothing, {FOG[0]: nothing}).worst_class("fog") is None


def test_relative_degradation_is_what_is_lost_over_what_the_reference_loses():
    """Of losses summed over kinds: (0.1 + 0.4) / (0.3 + 0.6). Catches a ratio of scores."""
    reference, result = scored(0.8, 0.6, 0.4, 0.2), scored(0.7, 0.7, 0.5, 0.3)
    assert result.relative_degradation(reference) == pytest.approx(0.5 / 0.9)
    assert reference.relative_degradation(reference) == pytest.approx(1)
    steady = scored(0.5, 0.5, 0.5, 0.5)
    assert result.relative_degradation(steady) is None


def test_a_mean_over_models_leaves_out_who_has_no_such_class():
    both = mean_scores([Scores(0.5, 0.6, [0.2, None, None]), Scores(0.7, 0.8, [0.4, 0.3, None])])
    assert both.miou == pytest.approx(0.6) and both.pixel_accuracy == pytest.approx(0.7)
    assert both.class_iou == [pytest.approx(0.3), 0.3, None]


def lively(seed: int = 0) -> FlatModel:
    """A network that looks at pictures: an untrained one gives every pixel the same class."""
    model = segnet()
    model.load(model.theta + 0.3 * torch.randn(model.theta.shape, generator=torch.Generator().manual_seed(seed)))
    return model


def subject(seed: int, size=(32, 24)) -> Subject:
    originals = scene_set(11, size=(48, 36), seed=seed)
    scenes = scene_set(11, size=size, seed=seed)
    scenes = replace(scenes, labels=originals.labels, fingerprint=f"{seed} {size}")
    return Subject("a", [lively()], scenes, Originals(originals), Scored("val"))


class Originals:
    """A source that only has pictures, of the data set's own size."""

    def __init__(self, scenes):
        self.scenes = scenes

    def picture(self, split, name):
        return self.scenes.images[self.scenes.names.index(name)].transpose(1, 2, 0)


def test_scores_are_those_of_an_evaluation_of_the_perturbed_pictures():
    """Clean ones to the bit those of a run. Catches pictures of another set or size."""
    one = subject(0)
    model, = one.models
    result, = score_subjects([one], [*FOG, *NOISE], seed=3)
    assert result.clean == evaluate(SOLO, model, one.scenes, criterion()).scores
    for perturbation in (*FOG, *NOISE):
        images = np.stack([perturb_and_shrink(one.source.picture("val", name), name, (32, 24), perturbation, 3)
                           for name in one.scenes.names])
        expected = evaluate(SOLO, model, replace(one.scenes, images=images), criterion()).scores
        assert result.perturbed[perturbation] == expected


def test_subjects_are_scored_on_their_own_scenes():
    """Of other pictures or another size. Catches pictures that are perturbed once for all."""
    several = [subject(0), subject(1), subject(0, size=(24, 16))]
    together = score_subjects(several, FOG, seed=0)
    for one, result in zip(several, together, strict=True):
        assert score_subjects([one], FOG, seed=0) == [result]
    assert len({str(result) for result in together}) == 3


def test_a_subject_of_several_models_has_their_mean():
    """Cars that never communicate."""
    one, other = subject(0), lively(1)
    both, = score_subjects([replace(one, models=[*one.models, other])], FOG, seed=0)
    alone = [score_subjects([replace(one, models=[model])], FOG, seed=0)[0] for model in (*one.models, other)]
    assert alone[0].clean != alone[1].clean
    assert both.perturbed[FOG[0]] == mean_scores([result.perturbed[FOG[0]] for result in alone])


def test_every_step_is_told():
    told: list[int] = []
    score_subjects([subject(0)], FOG, 0, lambda: told.append(1))
    assert len(told) == 1 + len(FOG)
    assert np.isfinite(score_subjects([subject(0)], [], 0)[0].clean.miou)
