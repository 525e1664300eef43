"""What is done to a batch before a network sees it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedsim.data.pixels import flip, nearest, standardise
from fedsim.data.scene_set import LabelMaps


def images(seed: int = 0, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 6, 8), generator=generator, dtype=torch.uint8)


def test_every_channel_of_every_scene_has_mean_0_and_deviation_1():
    """Catches statistics over the batch or over all channels."""
    batch = images()
    batch[1] //= 8  # a dark scene
    batch[:, 2] //= 4  # and little blue
    x = standardise(batch)
    assert x.dtype == torch.float32
    assert torch.allclose(x.mean((2, 3)), torch.zeros(3, 3), atol=1e-5)
    assert torch.allclose(x.std((2, 3), unbiased=False), torch.ones(3, 3), atol=1e-3)


def test_brightness_and_contrast_leave_no_mark():
    batch = images() // 4
    assert torch.allclose(standardise(batch * 2 + 50), standardise(batch), atol=1e-4)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_channel_of_one_value_becomes_zeros(value):
    """Exactly, at a size where a float32 mean would be off by rounding."""
    x = standardise(torch.full((1, 3, 360, 479), value, dtype=torch.uint8))
    assert torch.equal(x, torch.zeros_like(x))


def test_a_scene_is_standardised_alike_in_any_batch():
    batch = images(count=4)
    assert torch.equal(standardise(batch)[2:3], standardise(batch[2:3]))


@pytest.mark.parametrize("source", [(12, 16), (7, 9), (5, 5)])
@pytest.mark.parametrize("target", [(6, 8), (3, 5), (12, 20)])
def test_labels_take_the_pixel_under_the_centre(source, target):
    """As torch's nearest-exact does; its "nearest" takes the corner."""
    labels = np.random.default_rng(0).integers(0, 256, (2, *source), np.uint8)
    expected = F.interpolate(torch.from_numpy(labels)[:, None].float(), target, mode="nearest-exact")[:, 0]
    ours = LabelMaps.of(labels).resize(np.arange(2), (target[1], target[0]))
    assert np.array_equal(ours, expected.numpy()) and ours.dtype == np.uint8


def test_labels_at_their_own_size_stay():
    labels = np.arange(24, dtype=np.uint8).reshape(1, 4, 6)
    assert np.array_equal(LabelMaps.of(labels).resize(np.arange(1), (6, 4)), labels)


def test_the_pixel_under_the_centre_mirrors():
    """For odd factors: so that flipping and shrinking can change places."""
    assert nearest(9, 3).tolist() == [1, 4, 7]


def test_only_chosen_scenes_are_mirrored_and_labels_with_them():
    pictures, labels = images(), torch.arange(3 * 48, dtype=torch.uint8).view(3, 6, 8)
    before = pictures.clone(), labels.clone()
    mirrored, mirrored_labels = flip(pictures, labels, torch.tensor([True, False, True]))
    for i, chosen in enumerate([True, False, True]):
        assert torch.equal(mirrored[i], pictures[i].flip(-1) if chosen else pictures[i])
        assert torch.equal(mirrored_labels[i], labels[i].flip(-1) if chosen else labels[i])
    assert torch.equal(pictures, before[0]) and torch.equal(labels, before[1])  # nothing in place
