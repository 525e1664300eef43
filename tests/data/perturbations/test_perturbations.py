"""Perturbations: the same bits every time, worse with severity, alike at every size, and what they are called."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsim.data.conditions import perturb
from fedsim.data.datasets.streets import draw_scene
from fedsim.data.datasets.streets.drives import drive_of
from fedsim.data.perturbations import PERTURBATIONS, SEVERITIES, Perturbation
from fedsim.data.pixels import standardise
from fedsim.errors import SettingsError

LEVELS = range(1, SEVERITIES + 1)
NOISY = ("sensor-noise", "shot-noise", "dusk")
SMOOTH = [kind for kind in PERTURBATIONS if kind not in (*NOISY, "lost-rows")]

every_kind = pytest.mark.parametrize("kind", PERTURBATIONS)


@pytest.fixture(scope="module")
def image() -> Tensor:
    """(3, 120, 160) uint8: a street by day."""
    return torch.from_numpy(draw_scene(drive_of("val", 0), 0).image.transpose(2, 0, 1).copy())


def grey(level: int, height: int, width: int) -> Tensor:
    return torch.full((3, height, width), level, dtype=torch.uint8)


def perturbed(image: Tensor, kind: str, severity: int, seed: int = 0) -> Tensor:
    return Perturbation(kind, severity)(image, np.random.default_rng(seed))


def shrunk(image: Tensor) -> Tensor:
    """(3, 2h, 2w) -> (3, h, w) float32: the mean over the area of a pixel."""
    return F.avg_pool2d(image.float(), 2)


def test_there_are_fourteen_kinds_in_five_severities():
    assert [*PERTURBATIONS] == ["sensor-noise", "shot-noise", "motion-blur", "defocus", "fog", "rain", "snow", "dusk",
                                "glare", "low-contrast", "jpeg", "pixelation", "lens-dirt", "lost-rows"]
    assert SEVERITIES == 5


@every_kind
def test_what_is_written_is_what_is_read(kind):
    for severity in LEVELS:
        assert Perturbation.parse(f"{kind}:{severity}") == Perturbation(kind, severity)
        assert str(Perturbation(kind, severity)) == f"{kind}:{severity}"


@pytest.mark.parametrize("text, message", [
    ("fogg:3", r"there is no perturbation 'fogg' \(did you mean fog\?\); valid are sensor-noise, .*, lost-rows$"),
    ("hail:3", r"there is no perturbation 'hail'; valid are sensor-noise"),
    ("", r"there is no perturbation ''; valid are"),
    ("fog", r"perturbation 'fog' needs a severity; write fog:1 to fog:5$"),
    ("fog:0", r"perturbation 'fog:0' needs a severity"),
    ("fog:6", r"perturbation 'fog:6' needs a severity"),
    ("fog:3:1", r"perturbation 'fog:3:1' needs a severity"),
    ("fog:2.5", r"perturbation 'fog:2.5' needs a severity"),
])
def test_an_unknown_perturbation_is_told_in_one_sentence(text, message):
    with pytest.raises(SettingsError, match=message):
        Perturbation.parse(text)


@every_kind
def test_the_same_draws_give_the_same_bits_and_the_picture_is_not_written_to(image, kind):
    before = image.clone()
    first, again = (perturbed(image, kind, 4) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(image, before)
    assert not torch.equal(first, image)


@every_kind
def test_bits_do_not_depend_on_the_number_of_threads(image, kind):
    """Catches a blur summed in another order by other threads."""
    large = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    threads = torch.get_num_threads()
    try:
        results = []
        for number in (1, 2):
            torch.set_num_threads(number)
            results.append(perturbed(large, kind, 3))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


@every_kind
@settings(max_examples=8, deadline=None)
@given(height=st.integers(24, 70), width=st.integers(24, 70), severity=st.sampled_from(LEVELS),
       level=st.sampled_from([0, 90, 255]))
def test_any_size_from_24_pixels_up_keeps_its_shape(kind, height, width, severity, level):
    result = perturbed(grey(level, height, width), kind, severity)
    assert result.shape == (3, height, width) and result.dtype == torch.uint8


@every_kind
def test_every_severity_changes_a_picture_more_than_the_one_before(image, kind):
    change = [np.mean([float((perturbed(image, kind, severity, seed).float() - image).abs().mean())
                       for seed in range(3)]) for severity in LEVELS]
    assert change[0] > 0 and all(less < more for less, more in pairwise(change)), change


@every_kind
def test_what_a_network_sees_resembles_the_scene_less_with_every_severity(image, kind):
    """Networks see scenes standardised, so less light or contrast alone would cost them nothing.

    Catches a dusk without noise, and a low contrast that keeps all its grey levels under an even veil.
    """
    clean = standardise(image[None])
    likeness = [np.mean([float((standardise(perturbed(image, kind, severity, seed)[None]) * clean).mean())
                         for seed in range(3)]) for severity in LEVELS]
    assert likeness[0] > 0.75 and likeness[-1] < 0.95
    assert all(more > less for more, less in pairwise([1, *likeness])), likeness


@pytest.mark.parametrize("kind", SMOOTH)
def test_a_picture_of_twice_the_size_looks_the_same(image, kind):
    """Catches a size in pixels: then a quarter to all of the change would be missing at twice the size."""
    large = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    small, other = perturbed(image, kind, 4).float(), shrunk(perturbed(large, kind, 4))
    change = (small - image).abs().mean()
    assert (small - other).abs().mean() < 0.2 * change


@pytest.mark.parametrize("kind", NOISY)
def test_noise_over_an_area_does_not_depend_on_how_many_pixels_it_has(kind):
    """Catches noise of a pixel: it would be half as strong over the area of four. In light, where noise adds up."""
    light = [(perturbed(grey(120, *size), kind, 1).double() / 255) ** 2 for size in ((90, 120), (180, 240))]
    small, large = light[0], F.avg_pool2d(light[1], 2)
    assert float(large.std() / small.std()) == pytest.approx(1, abs=0.06)
    assert float(large.mean() / small.mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("severity, photons", [(2, 20 * 16), (4, 2.2 * 16), (5, 0.6 * 16)])
def test_shot_noise_counts_photons_by_poissons_law(severity, photons):
    """Mean and variance of the counts are the same: what was expected. At 120 pixels, 16 of WIDTH make one."""
    counts = photons * (perturbed(grey(60, 240, 120), "shot-noise", severity).double() / 255) ** 2
    expected = photons * (60 / 255) ** 2
    assert float(counts.mean()) == pytest.approx(expected, rel=0.02)
    assert float(counts.var()) == pytest.approx(expected, rel=0.05)


def test_a_scene_is_perturbed_alike_whatever_else_is_perturbed(image):
    """Catches a generator shared by scenes, and one seeded by their place."""
    images, names = np.stack([image.numpy(), image.numpy(), image.flip(2).numpy()]), ["a/1", "a/2", "b/1"]
    rain = Perturbation("rain", 3)
    whole = perturb(images, names, rain, 7)
    np.testing.assert_array_equal(perturb(images[::-1], names[::-1], rain, 7)[::-1], whole)
    np.testing.assert_array_equal(perturb(images[2:], names[2:], rain, 7), whole[2:])
    assert (whole[0] != whole[1]).any()
    assert (whole != perturb(images, names, rain, 8)).any()


def test_a_read_only_memory_map_can_be_perturbed(image):
    images = image.numpy()[None].copy()
    images.flags.writeable = False
    perturb(images, ["a"], Perturbation("fog", 1), 0)


def test_more_snow_is_the_same_snow_and_more():
    """Before black houses, flakes of one severity are there at the next. Catches draws that depend on severity."""
    image = grey(0, 120, 120)
    image[:, :20] = 255  # the sky, which lights them
    levels = [perturbed(image, "snow", severity)[:, 20:].int() for severity in LEVELS]
    assert all((more >= less - 1).all() for less, more in pairwise(levels))


def test_more_dirt_is_the_same_dirt_and_more():
    levels = [perturbed(grey(255, 90, 120), "lens-dirt", severity).int() for severity in LEVELS]
    assert all((more <= less + 1).all() for less, more in pairwise(levels))


def test_rows_that_are_lost_stay_lost_and_the_others_stay_whole(image):
    lost = [(perturbed(image, "lost-rows", severity) != image).any(2).any(0) for severity in LEVELS]
    assert all((more | ~less).all() for less, more in pairwise(lost))
    assert 0.2 < lost[-1].float().mean() < 0.4


def test_fog_hides_what_is_far_and_leaves_what_is_near():
    """Black below a white sky: grey at the horizon, black on the ground before the car."""
    image = grey(0, 120, 160)
    image[:, :40] = 255
    below = perturbed(image, "fog", 4).float().mean((0, 2))[56:]
    assert below[0] > 150 > 60 > below[-1]
    assert (below.diff() < 1).all()


def test_driving_blurs_the_edges_and_not_the_vanishing_point():
    """Checks of 4 pixels stay checks where the car is heading, and are their mean at the sides."""
    rows, columns = torch.meshgrid(torch.arange(120), torch.arange(160), indexing="ij")
    image = ((rows // 4 + columns // 4) % 2 * 255).to(torch.uint8).expand(3, 120, 160).contiguous()
    result = perturbed(image, "motion-blur", 4)[0].float()
    assert result[50:58, 76:84].std() > 5 * result[50:58, :16].std()


def test_the_sun_stands_where_the_sky_is_bright():
    """A dark sky with one bright corner: the glare is in that half. Catches a sun on a dark house."""
    image = grey(40, 120, 160)
    image[:, :40, 120:] = 250
    for seed in range(5):
        gained = perturbed(image, "glare", 2, seed).float().mean(0) - image.float().mean(0)
        assert gained[:, 60:120].mean() > gained[:, :60].mean()


def test_dusk_is_dark_and_blue():
    result = perturbed(grey(128, 60, 80), "dusk", 2).float().mean((1, 2))
    assert result[0] < result[1] < result[2] < 80
