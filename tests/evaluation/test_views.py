"""What a network is shown of a picture for a score: copies at several scales, mirrored, whole or in tiles.

Each test names a mutation that it was seen to catch.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scenery import CLASSES, CPU, ONE_AT_A_TIME, SOLO, criterion, labels_of, scene_set
from torch import Tensor, nn

from fedsim.data.pixels import standardise
from fedsim.evaluation import evaluate as scoring
from fedsim.evaluation.evaluate import batches_of, count_confusion, evaluate, predict, segment
from fedsim.evaluation.views import PLAIN, View

SCENES = scene_set(5, size=(41, 31))
PICTURES = standardise(torch.from_numpy(SCENES.images))
SEVERAL = View((0.75, 1.0, 1.5), flip=True)
TILED = View(tile=(20, 16))


class Model(NamedTuple):
    module: nn.Module
    device: torch.device = CPU


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A smooth network that tells left from right and predicts several classes, in eval mode."""
    with ONE_AT_A_TIME:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, CLASSES, 5, padding=2))
    module.eval().requires_grad_(False)[2].weight.mul_(5)
    return module


@pytest.fixture(scope="module")
def model(network) -> Model:
    return Model(network)


class Pixels(nn.Module):
    """Logits of every pixel by itself, which no other pixel of the picture changes; it remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.seen.append(pictures)
        return torch.cat([pictures, pictures.square(), pictures * pictures.roll(1, 1)], 1)


def test_one_view_of_whole_pictures_is_the_network_itself(network, model):
    """To the bit, scores and labels too. Catches a softmax or a resize where nothing is to do."""
    for view in (PLAIN, View((1.0,), False, (41, 31)), View(tile=(1000, 31))):
        assert torch.equal(view.logits(network, PICTURES), network(PICTURES.contiguous(
            memory_format=torch.channels_last)))
    assert evaluate(SOLO, model, SCENES, criterion(), View(tile=(99, 99))).scores == evaluate(
        SOLO, model, SCENES, criterion()).scores


def test_copies_are_averaged_as_probabilities_at_the_size_of_the_input(network):
    """Against a plain computation. Catches a mean of logits, copies of other sizes, and a copy that is not turned back.

    The answer is logits again: a single copy gives those of the network, but for a number that all classes share.
    """
    expected = torch.zeros(5, CLASSES, 31, 41)
    for height, width in ((23, 31), (31, 41), (46, 62)):
        copy = F.interpolate(PICTURES, (height, width), mode="bilinear", align_corners=False)
        for turned in (False, True):
            found = network(copy.flip(3) if turned else copy)
            found = F.interpolate(found, (31, 41), mode="bilinear", align_corners=False).softmax(1)
            expected += (found.flip(3) if turned else found) / 6
    found = SEVERAL.logits(network, PICTURES)
    torch.testing.assert_close(found.exp(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(View((1.0, 1.0)).logits(network, PICTURES), network(PICTURES).log_softmax(1))


@pytest.mark.parametrize("view", [View(flip=True), SEVERAL, View((0.75, 1.0), True, (20, 16))], ids=str)
def test_a_mirrored_picture_has_the_mirrored_answer(network, view):
    """With the mirrored copies, and only with them: also if all is cut in tiles."""
    found, turned = view.logits(network, PICTURES), view.logits(network, PICTURES.flip(3)).flip(3)
    torch.testing.assert_close(found, turned, rtol=1e-4, atol=1e-4)
    lone = View(view.scales, False, view.tile)
    assert not torch.allclose(lone.logits(network, PICTURES), lone.logits(network, PICTURES.flip(3)).flip(3), atol=1e-2)


def test_impossible_classes_stay_finite():
    """Every copy is sure that a class is not there. Catches the logarithm of a mean of zeros, which spoils its pixels'
    neighbours when the answer is resized."""
    sure = lambda pictures: torch.stack([0 * pictures[:, 0], 0 * pictures[:, 0] - 500], 1)  # noqa: E731
    found = View((0.5, 1.0), True).logits(sure, PICTURES)
    assert bool(found.isfinite().all()) and torch.allclose(found[:, 1], torch.tensor(-500.0))


@pytest.mark.parametrize("size", [(41, 31), (64, 17), (20, 16), (21, 100)], ids=str)
def test_tiles_put_together_are_the_whole_where_a_network_sees_no_edge(size):
    """Pixels by themselves: any picture, covered by tiles of the same size that overlap by a quarter at least.

    Catches a picture that is not covered, weights that do not cancel, a tile put at another place.
    """
    width, height = size
    pictures, network = torch.randn(2, 3, height, width), Pixels()
    whole = network(pictures)
    network.seen.clear()
    torch.testing.assert_close(TILED.logits(network, pictures), whole, rtol=1e-5, atol=1e-5)
    assert {tuple(one.shape[2:]) for one in network.seen} == {(min(height, 16), min(width, 20))}
    places = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))[None].float()
    network.seen.clear()
    TILED.logits(network, torch.cat([places, places[:, :1]], 1))
    shown = [(int(one[0, 0, 0, 0]), int(one[0, 1, 0, 0])) for one in network.seen]
    for axis, (length, span) in enumerate(((height, 16), (width, 20))):
        starts = sorted({start[axis] for start in shown})
        assert starts[0] == 0 and starts[-1] == max(length - span, 0)
        assert all(4 * (later - earlier) <= 3 * span for earlier, later in pairwise(starts))


def test_there_is_no_seam_between_tiles():
    """Each tile is one number, its own: between neighbours the answer changes by small steps. Catches equal weights."""
    class Counting(nn.Module):
        count = 0

        def forward(self, pictures: Tensor) -> Tensor:
            self.count += 1
            return torch.full((len(pictures), 1, *pictures.shape[2:]), float(self.count % 2))

    found = View(tile=(64, 16)).logits(Counting(), torch.zeros(1, 3, 16, 160))[0, 0, 8]
    steps = found.diff().abs()
    assert float(found.max() - found.min()) == 1.0 and float(steps.max()) < 0.1


def test_tiles_cost_the_memory_of_a_tile(network, model):
    """Pictures are shown one at a time, part by part. Catches a batch that is shown as a whole."""
    shown: list[tuple[int, ...]] = []
    handle = network.register_forward_hook(lambda module, inputs, output: shown.append(tuple(inputs[0].shape)))
    try:
        found = segment(model, SCENES, np.arange(5), View((1.0, 2.0), False, (20, 16)))
    finally:
        handle.remove()
    assert {one[0] for one in shown} == {1} and max(one[2] * one[3] for one in shown) == 320
    assert [one.shape for one in found] == [(36, 48)] * 5


def test_large_labels_are_scored_a_few_at_a_time(model, monkeypatch):
    """With the same counts and nearly the same loss. Catches scenes that are left out, or labels of others."""
    whole, counted = evaluate(SOLO, model, SCENES, criterion()), count_confusion(model, SCENES, batches_of(SCENES))
    pixels = labels_of(SCENES)[0].size
    for most, sizes in ((1, [1] * 5), (2 * CLASSES * pixels, [2, 2, 1])):
        monkeypatch.setattr(scoring, "MOST_NUMBERS", most)
        parts = list(predict(model, SCENES, np.arange(5)))
        assert [len(part.labels) for part in parts] == sizes
        assert np.concatenate([part.positions for part in parts]).tolist() == [*range(5)]
        again = evaluate(SOLO, model, SCENES, criterion())
        assert again.scores == whole.scores and again.loss == pytest.approx(whole.loss, rel=1e-6)
        assert torch.equal(counted, count_confusion(model, SCENES, batches_of(SCENES)))


def test_every_score_of_a_model_is_of_the_same_view(model):
    """Loss, counts and labels. Catches a view that one of them is not told."""
    view = View((0.5, 1.0), True, (20, 16))
    labels = labels_of(SCENES)
    parts = [part for batch in batches_of(SCENES) for part in predict(model, SCENES, batch, view=view)]
    logits = torch.cat([part.logits for part in parts])
    ours = evaluate(SOLO, model, SCENES, criterion(), view)
    expected = F.cross_entropy(logits, torch.from_numpy(labels).long(), criterion().weights, ignore_index=255)
    assert ours.loss == pytest.approx(float(expected), rel=1e-5)
    guesses = np.stack(segment(model, SCENES, np.arange(5), view))
    assert np.array_equal(guesses, logits.argmax(1).numpy())
    assert ours.scores.pixel_accuracy == float((guesses == labels)[labels != 255].mean())
    assert int(count_confusion(model, SCENES, batches_of(SCENES), view).diagonal().sum()) == (guesses == labels).sum()
    assert ours.scores != evaluate(SOLO, model, SCENES, criterion()).scores
