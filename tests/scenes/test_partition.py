"""Partitions: every scene once, cars of the promised sizes, skew where it was asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.errors import SettingsError
from fedsim.scenes.classes import CAMVID_11, VOID
from fedsim.scenes.partition import PARTITIONS, class_histograms, jensen_shannon, partition, skew
from fedsim.scenes.scene_set import SceneSet


def scene_set(lengths: list[int], seed: int = 0) -> SceneSet:
    """Drives of the given lengths. Scenes hold all classes, in shares that vary as in a real street."""
    random = np.random.default_rng(seed)
    count = sum(lengths)
    common = random.dirichlet(np.full(11, 0.5))
    shares = random.dirichlet(20 * common + 0.05, count)
    labels = np.stack([random.choice(11, (12, 16), p=p) for p in shares])
    labels[:, 0, 0] = VOID
    drives = tuple(f"d{i}" for i, n in enumerate(lengths) for _ in range(n))
    return SceneSet(np.zeros((count, 3, 3, 4), np.uint8), labels.astype(np.uint8),
                    tuple(map(str, range(count))), drives, CAMVID_11, "")


def sizes(shards) -> list[int]:
    return [len(shard.indices) for shard in shards]


@settings(max_examples=60, deadline=None)
@given(scheme=st.sampled_from(PARTITIONS), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
       data=st.data())
def test_every_scene_has_one_car_and_every_car_a_scene(scheme, lengths, data):
    scenes = scene_set(lengths)
    cars = data.draw(st.integers(1, len(scenes)))
    shards = partition(scheme, scenes, cars, 0, 0.1)
    assert len(shards) == cars == len({shard.name for shard in shards})
    assert min(sizes(shards)) >= 1
    assert np.array_equal(np.sort(np.concatenate([s.indices for s in shards])), np.arange(len(scenes)))
    for shard in shards:
        assert shard.indices.dtype == np.int64 and (np.diff(shard.indices) > 0).all()


@pytest.mark.parametrize("scheme", ["iid", "dirichlet"])
def test_sizes_differ_by_at_most_one(scheme):
    assert sorted(sizes(partition(scheme, scene_set([10, 13]), 4, 0, 0.1))) == [5, 6, 6, 6]


@pytest.mark.parametrize("scheme", ["iid", "dirichlet"])
def test_the_seed_and_nothing_else_decides(scheme):
    scenes = scene_set([40])

    def dealt(seed):
        return [shard.indices.tolist() for shard in partition(scheme, scenes, 3, seed, 0.1)]

    assert dealt(1) == dealt(1) != dealt(2)


def test_a_car_is_a_drive_where_there_are_as_many():
    shards = partition("drive", scene_set([4, 2, 3]), 3, 0, None)
    assert [(s.name, s.indices.tolist()) for s in shards] == [
        ("d0", [0, 1, 2, 3]), ("d1", [4, 5]), ("d2", [6, 7, 8])]


def test_fewer_cars_share_out_whole_drives_evenly():
    shards = partition("drive", scene_set([62, 101, 204, 50]), 2, 0, None)
    assert [(s.name, len(s.indices)) for s in shards] == [("d0+d1+d3", 213), ("d2", 204)]


def test_more_cars_get_stretches_of_time_in_proportion_to_a_drives_length():
    """Catches alternating scenes, which would make cars alike, and equal cuts of unequal drives."""
    shards = partition("drive", scene_set([10, 21]), 4, 0, None)
    assert [(s.name, len(s.indices)) for s in shards] == [("d0", 10), ("d1-a", 7), ("d1-b", 7), ("d1-c", 7)]
    assert all((np.diff(shard.indices) == 1).all() for shard in shards)


def test_a_drive_may_be_cut_more_often_than_there_are_letters():
    names = [shard.name for shard in partition("drive", scene_set([30]), 30, 0, None)]
    assert names[0] == "d0-a" and names[25:28] == ["d0-z", "d0-aa", "d0-ab"]


def test_skew_grows_as_alpha_falls():
    """At alpha 0.1 several times the skew of chance, at 100 nearly that of chance."""
    scenes = scene_set([200])
    histograms = class_histograms(scenes.labels, 11)

    def mean_skew(scheme, alpha):
        return np.mean([skew(partition(scheme, scenes, 4, seed, alpha), histograms) for seed in range(8)])

    chance = mean_skew("iid", None)
    wide, middle, narrow = (mean_skew("dirichlet", alpha) for alpha in (100, 1, 0.1))
    assert wide < 2 * chance
    assert narrow > 1.3 * middle > 1.3 * 1.3 * wide
    assert narrow > 5 * chance


def test_jensen_shannon_is_measured_in_bits():
    assert jensen_shannon(np.array([1, 0]), np.array([0, 7])) == 1
    assert jensen_shannon(np.array([2, 6, 0]), np.array([1, 3, 0])) == 0
    # m = (3/4, 1/4): ½ (1 log 4/3) + ½ (½ log 2/3 + ½ log 2)
    assert jensen_shannon(np.array([1, 0]), np.array([1, 1])) == pytest.approx(0.3112781)


def test_jensen_shannon_is_symmetric():
    p, q = np.random.default_rng(0).dirichlet(np.ones(5), 2)
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p)) and 0 < jensen_shannon(p, q) < 1


def test_histograms_leave_void_out():
    labels = np.array([[[0, 2], [2, VOID]], [[1, 1], [1, 1]]], np.uint8)
    assert class_histograms(labels, 3).tolist() == [[1, 0, 2], [0, 4, 0]]


def test_classes_that_are_nowhere_do_no_harm():
    scenes = scene_set([12])
    scenes.labels[:] = 3
    assert sorted(sizes(partition("dirichlet", scenes, 5, 0, 0.1))) == [2, 2, 2, 3, 3]


@pytest.mark.parametrize("scheme", PARTITIONS)
@pytest.mark.parametrize("cars", [0, 8])
def test_a_number_of_cars_that_cannot_be_is_answered_with_both_numbers(scheme, cars):
    with pytest.raises(SettingsError, match=f"--cars is {cars}, but there are 7 "):
        partition(scheme, scene_set([3, 4]), cars, 0, 0.1)


@pytest.mark.parametrize("alpha", [None, 0, -1, float("nan"), float("inf")])
def test_an_alpha_that_cannot_be_is_named(alpha):
    with pytest.raises(SettingsError, match=f"--alpha is {alpha};"):
        partition("dirichlet", scene_set([7]), 2, 0, alpha)


def test_an_unknown_scheme_is_answered_with_those_there_are():
    with pytest.raises(SettingsError, match="'random'; valid are drive, iid, dirichlet"):
        partition("random", scene_set([7]), 2, 0, None)
