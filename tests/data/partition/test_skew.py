"""Measures of how unequal cars are: values worked out by hand, and other ways to the same number."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenery import scene_set as noise

from fedsim.data.partition.schemes import Shard
from fedsim.data.partition.skew import (
    ColourStatistics,
    close_in_time,
    jensen_shannon,
    missing_classes,
    skew,
    sole_owner,
)
from fedsim.data.scene_set import SceneSet

FIRST, SECOND = Shard("first", np.array([0, 2])), Shard("second", np.array([1]))
HISTOGRAMS = np.array([[4, 0, 1, 0], [2, 3, 0, 0], [0, 0, 1, 0]])  # class 3 is nowhere


def test_jensen_shannon_is_measured_in_bits():
    assert jensen_shannon(np.array([1, 0]), np.array([0, 7])) == 1
    assert jensen_shannon(np.array([2, 6, 0]), np.array([1, 3, 0])) == 0
    # m = (3/4, 1/4): ½ (1 log 4/3) + ½ (½ log 2/3 + ½ log 2)
    assert jensen_shannon(np.array([1, 0]), np.array([1, 1])) == pytest.approx(0.3112781)


def test_jensen_shannon_is_symmetric():
    p, q = np.random.default_rng(0).dirichlet(np.ones(5), 2)
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p)) and 0 < jensen_shannon(p, q) < 1


def test_skew_is_the_mean_divergence_of_cars_from_what_they_have_together():
    pool = np.array([6, 3, 2, 0])
    expected = (jensen_shannon(np.array([4, 0, 2, 0]), pool) + jensen_shannon(np.array([2, 3, 0, 0]), pool)) / 2
    assert skew([FIRST, SECOND], HISTOGRAMS) == pytest.approx(expected) and expected > 0.1


def test_a_car_lacks_what_others_have_and_not_what_is_nowhere():
    assert missing_classes([FIRST, SECOND], HISTOGRAMS) == [[1], [2]]


def test_a_sole_owner_is_the_only_car_with_a_class():
    assert sole_owner([FIRST, SECOND], HISTOGRAMS) == {1: 1, 2: 0}


@given(count=st.integers(1, 150), seed=st.integers(0, 2**40))
def test_colours_are_those_that_numpy_finds_in_all_pixels_at_once(count, seed):
    """More scenes than are read at once. Catches sums that overflow and chunks left out."""
    random = np.random.default_rng(seed)
    images = random.integers(random.integers(0, 255), 256, (150, 3, 4, 5), np.uint8)
    indices = np.sort(random.choice(150, count, replace=False))
    found, pixels = ColourStatistics.of(images, indices), images[indices].astype(float)
    assert found.mean == pytest.approx(pixels.mean((0, 2, 3)), rel=1e-12)
    assert found.deviation == pytest.approx(pixels.std((0, 2, 3)), rel=1e-9, abs=1e-9)


def test_pictures_of_one_colour_have_no_deviation():
    """Exact sums: in floating point a little is left of 93² n - (93 n)² / n."""
    assert ColourStatistics.of(np.full((7, 3, 30, 31), 93, np.uint8), np.arange(7)).deviation == (0, 0, 0)


def test_the_distance_of_colours_counts_means_and_deviations_in_grey_levels():
    one = ColourStatistics((10.0, 20.0, 30.0), (5.0, 6.0, 7.0))
    assert one.distance(one) == 0
    assert one.distance(ColourStatistics((13.0, 20.0, 30.0), (5.0, 6.0, 11.0))) == 5


def scenes(*shots: tuple[str, float | None]) -> SceneSet:
    """Scenes s0, s1, … of drives at times."""
    return replace(noise(len(shots), (4, 3), (4, 3)), drives=tuple(drive for drive, _ in shots),
                   times=tuple(time for _, time in shots))


def test_scenes_are_close_where_a_training_scene_of_the_same_drive_is():
    """s0 between two, s1 exactly at the limit after the last, s2 past it, s3 of another drive, s4 before all."""
    train = scenes(("a", 30), ("a", 10), ("b", 20), ("a", None))
    other = scenes(("a", 13), ("a", 35), ("a", 35.1), ("c", 10), ("a", 8.5), ("b", None))
    assert close_in_time(train, other) == [("s0", "s1", 3.0), ("s1", "s0", 5.0), ("s4", "s1", 1.5)]


TIMES = st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.integers(0, 60)), min_size=1, max_size=25)


@given(train=TIMES, other=TIMES)
def test_nothing_nearer_is_missed(train, other):
    """Against all pairs."""
    expected = {}
    for i, (drive, time) in enumerate(other):
        apart = [abs(time - clock) for of, clock in train if of == drive and None not in (time, clock)]
        if apart and min(apart) <= 7:
            expected[f"s{i}"] = min(apart)
    found = close_in_time(scenes(*train), scenes(*other), 7)
    assert {name: apart for name, _, apart in found} == expected and len(found) == len(expected)
    for name, nearest, apart in found:
        (drive, time), (of, clock) = other[int(name[1:])], train[int(nearest[1:])]
        assert drive == of and abs(time - clock) == apart
