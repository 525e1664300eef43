"""Augmentation: other views of the same scenes, drawn by (seed, round, car) alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenery import CPU, labels_of, scene_set

from fedsim.classes import VOID
from fedsim.data import AUGMENTATIONS
from fedsim.data.augment import STANDARD, Flip, Frame, Perturb, Unchanged, augmentation, rescale
from fedsim.data.car_scenes import CarScenes
from fedsim.data.pixels import flip, standardise
from fedsim.seeds import stream

SCENES = scene_set(6, size=(48, 36))
WHERE = np.array([4, 0, 2, 5])


def batch(augment: Unchanged | None) -> tuple[torch.Tensor, torch.Tensor]:
    return CarScenes(SCENES, np.arange(6), CPU).batch(WHERE, augment)


def test_none_leaves_scenes_as_they_are():
    for ours, plain in zip(batch(Unchanged(0, 1, 0)), batch(None), strict=True):
        assert torch.equal(ours, plain)


def test_flip_mirrors_every_second_scene_by_its_own_stream():
    """To the bit what the stream named flip draws, batch after batch. Catches a mirror drawn anew for every batch."""
    augment, draws = Flip(3, 7, 2), stream(3, "flip", 7, 2)
    for _ in range(3):
        expected = flip(*batch(None), torch.from_numpy(draws.random(4) < 0.5))
        for ours, theirs in zip(batch(augment), expected, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_draws_belong_to_seed_round_and_car(name):
    kind = augmentation(name)
    first, again = (batch(kind(0, 1, 0)) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    for other in (1, 1, 0), (0, 2, 0), (0, 1, 1):
        assert torch.equal(first[0], batch(kind(*other))[0]) == (name == "none")


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_shapes_and_types_stay_and_the_scene_set_too(name):
    kept = SCENES.images.copy(), labels_of(SCENES)
    images, labels = batch(augmentation(name)(0, 1, 0))
    assert images.shape == (4, 3, 36, 48) and images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last) and images.isfinite().all()
    assert labels.shape == (4, 36, 48) and labels.dtype == torch.int64
    assert set(labels.unique().tolist()) <= {*range(11), VOID}
    assert np.array_equal(SCENES.images, kept[0]) and np.array_equal(labels_of(SCENES), kept[1])


def test_colours_change_and_keep_the_place_of_everything():
    """A grey scene has no saturation, and gamma keeps the order of grey levels. Catches one gamma a batch."""
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(5, 3, 16, 16)
    recoloured = augmentation("standard")(0, 1, 0).recolour(grey)
    assert recoloured.dtype == torch.uint8 and (recoloured.flatten(2).diff() >= 0).all()
    assert len({tuple(scene.flatten().tolist()) for scene in recoloured}) == 5
    assert torch.equal(augmentation("standard", Frame(jitter=0.0))(0, 1, 0).recolour(grey), grey), "asked for 0"
    assert (recoloured[:, 0] == recoloured[:, 1]).all()


@given(scale=st.floats(*STANDARD.scales), x=st.floats(-1, 1), y=st.floats(-1, 1))
def test_labels_move_with_the_picture(scale, x, y):
    """A picture of its own labels: away from borders between classes both say the same. Catches x for y."""
    labels = torch.arange(4).view(2, 2).repeat_interleave(12, 0).repeat_interleave(16, 1)[None]  # (1, 24, 32)
    # The last is outside of the picture. No mean of some of them is another.
    levels, meant = torch.tensor([1, 3.1416, 9.8696, 31.0063, 0]), torch.tensor([0, 1, 2, 3, VOID])
    picture = levels[labels][:, None].expand(1, 3, 24, 32)
    moved, marks = rescale(picture, labels, np.array([scale]), np.array([[x, y]]))
    away, nearest = (moved[0, 0, ..., None] - levels).abs().min(-1)
    sure = away < 1e-4  # no mixture of two
    assert torch.equal(marks[0][sure], meant[nearest][sure]) and sure.float().mean() > 0.5


def test_at_scale_1_nothing_moves():
    inputs, labels = batch(None)
    moved, marks = rescale(inputs, labels, np.ones(4), np.full((4, 2), 0.7))
    assert torch.equal(marks, labels) and torch.allclose(moved, inputs, atol=1e-4)


def test_a_larger_picture_fills_the_frame_and_a_smaller_one_stands_in_a_margin_of_void():
    labels = torch.zeros(1, 24, 32, dtype=torch.int64)
    picture = torch.ones(1, 3, 24, 32)
    _, larger = rescale(picture, labels, np.array([1.5]), np.array([[1.0, -1.0]]))
    assert (larger == 0).all()
    moved, smaller = rescale(picture, labels, np.array([0.75]), np.array([[1.0, 1.0]]))
    assert (smaller[0, :18, :24] == 0).all() and int((smaller == VOID).sum()) == 24 * 32 - 18 * 24
    assert (moved[0, :, 18:].abs() < 1e-6)[:, 1:].all()


def test_every_second_scene_is_perturbed_and_no_label():
    images = torch.from_numpy(SCENES.images[:1]).repeat(60, 1, 1, 1)
    changed = (Perturb(0, 1, 0).recolour(images) != images).flatten(1).any(1)
    assert 18 <= int(changed.sum()) <= 42
    labels, mirrored = batch(Perturb(0, 1, 0))[1], batch(Flip(0, 1, 0))[1]
    assert torch.equal(labels, mirrored)


def test_a_standardised_scene_is_what_is_moved():
    """Padding is the mean of what the network sees. Catches padding before standardising, which darkens the scene."""
    images = torch.full((1, 3, 24, 32), 200, dtype=torch.uint8)
    images[..., ::2] = 100
    moved, _ = rescale(standardise(images), torch.zeros(1, 24, 32, dtype=torch.int64), np.array([0.75]),
                       np.array([[0.0, 0.0]]))
    assert moved[0, :, 0].abs().max() < 0.5 and moved.abs().max() > 0.5


@given(width=st.integers(1, 32), height=st.integers(1, 24), x=st.floats(-1, 1), y=st.floats(-1, 1))
def test_a_crop_at_scale_1_is_a_part_of_the_picture(width, height, x, y):
    """Pixel by pixel, at every whole offset. Catches x for y, and a crop that is scaled to fit."""
    labels = torch.arange(24 * 32).view(1, 24, 32) % 200
    picture = labels[:, None].float().expand(1, 3, 24, 32)
    left, top = round((x + 1) / 2 * (32 - width)), round((y + 1) / 2 * (24 - height))
    offsets = [[2 * place / room - 1 if room else 0.0 for place, room in ((left, 32 - width), (top, 24 - height))]]
    moved, marks = rescale(picture, labels, np.ones(1), np.array(offsets), (width, height))
    assert torch.equal(marks[0], labels[0, top:top + height, left:left + width])
    assert torch.allclose(moved[0, 0], marks[0].float(), atol=0.02)


def test_a_frame_is_drawn_by_streams_of_its_own():
    """A crop mirrors what flip mirrors, and colours need no crop. Catches one stream for all, crops of one place."""
    flipped = batch(Flip(0, 1, 0))
    images, labels = batch(augmentation("flip", Frame(crop=(16, 12)))(0, 1, 0))
    assert images.shape == (4, 3, 12, 16) and labels.shape == (4, 12, 16)
    places = set()
    for number in range(4):
        windows = flipped[1][number].unfold(0, 12, 1).unfold(1, 16, 1)
        found = (windows == labels[number]).flatten(2).all(2).nonzero().tolist()
        assert found
        places.add(tuple(found[0]))
    assert len(places) > 1
    jittered, same = batch(augmentation("flip", Frame(jitter=0.3))(0, 1, 0))
    assert torch.equal(same, flipped[1]) and not torch.equal(jittered, flipped[0])
    scaled = batch(augmentation("flip", Frame(crop=(16, 12), scales=(0.5, 2)))(0, 1, 0))
    assert scaled[0].shape == images.shape and not torch.equal(scaled[1], labels)


def test_standard_has_a_frame_that_options_replace_in_part():
    wide = batch(augmentation("standard", Frame(scales=(3, 3)))(0, 1, 0))
    usual, colours = batch(augmentation("standard")(0, 1, 0)), batch(augmentation("flip", STANDARD)(0, 1, 0))
    assert torch.equal(usual[0], colours[0]) and torch.equal(usual[1], colours[1])
    assert not torch.equal(wide[1], usual[1])
