"""Partitions: every scene once, cars of the promised sizes, skew where it was asked for."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import scene_set as noise

from fedsim.data.partition import DEFAULT_ALPHA, PARTITIONS, by_class
from fedsim.data.partition.schemes import partition
from fedsim.data.partition.skew import skew
from fedsim.data.perturbations import PERTURBATIONS, Perturbation
from fedsim.data.scene_set import SceneSet
from fedsim.errors import SettingsError

CLASSES = 11


def scene_set(lengths: list[int], seed: int = 0) -> SceneSet:
    """Drives of the given lengths. Scenes hold all classes, in shares that vary as in a real street."""
    random = np.random.default_rng(seed)
    count = sum(lengths)
    common = random.dirichlet(np.full(CLASSES, 0.5))
    histograms = random.multinomial(191, random.dirichlet(20 * common + 0.05, count))
    drives = tuple(f"d{i}" for i, n in enumerate(lengths) for _ in range(n))
    return replace(noise(count, (4, 3), (4, 3)), histograms=histograms, drives=drives)


def dealt(scheme: str, scenes: SceneSet, cars: int, seed: int = 0, alpha: float | None = None):
    return partition(scheme, scenes, cars, seed, DEFAULT_ALPHA.get(scheme) if alpha is None else alpha)


def sizes(shards) -> list[int]:
    return [len(shard.indices) for shard in shards]


def gini(shards) -> float:
    """Of the sizes: 0 if equal, near 1 where one car has all."""
    own = np.array(sizes(shards))
    return np.abs(own[:, None] - own).mean() / (2 * own.mean())


@settings(max_examples=100)
@given(scheme=st.sampled_from(PARTITIONS), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
       seed=st.integers(0, 2**40), data=st.data())
def test_every_scene_has_one_car_and_every_car_a_scene_and_a_name(scheme, lengths, seed, data):
    scenes = scene_set(lengths)
    cars = data.draw(st.integers(1, len(scenes)))
    shards = dealt(scheme, scenes, cars, seed)
    assert len(shards) == cars == len({shard.name for shard in shards})
    assert min(sizes(shards)) >= 1
    assert np.array_equal(np.sort(np.concatenate([s.indices for s in shards])), np.arange(len(scenes)))
    for shard in shards:
        assert shard.indices.dtype == np.int64 and (np.diff(shard.indices) > 0).all()


@pytest.mark.parametrize("scheme", ["iid", "dirichlet", "classes"])
def test_sizes_differ_by_at_most_one(scheme):
    assert sorted(sizes(dealt(scheme, scene_set([10, 13]), 4))) == [5, 6, 6, 6]


@pytest.mark.parametrize("scheme", PARTITIONS)
def test_the_seed_and_nothing_else_decides(scheme):
    """drive has no seed: its cars are what was recorded."""
    def result(seed):
        return [(shard.name, shard.condition, shard.indices.tolist())
                for shard in dealt(scheme, scene_set([40, 30]), 3, seed)]

    assert result(1) == result(1)
    assert (result(1) == result(2)) == (scheme == "drive")


def test_iid_deals_as_it_always_has():
    """A run can be repeated with a newer fedsim."""
    assert [s.indices.tolist() for s in partition("iid", scene_set([7]), 3, 5, None)] == [[2, 4, 5], [1, 6], [0, 3]]


def test_a_car_is_a_drive_where_there_are_as_many():
    shards = partition("drive", scene_set([4, 2, 3]), 3, 0, None)
    assert [(s.name, s.indices.tolist(), s.condition) for s in shards] == [
        ("d0", [0, 1, 2, 3], None), ("d1", [4, 5], None), ("d2", [6, 7, 8], None)]


def test_fewer_cars_share_out_whole_drives_evenly():
    shards = partition("drive", scene_set([62, 101, 204, 50]), 2, 0, None)
    assert [(s.name, len(s.indices)) for s in shards] == [("d0+d1+d3", 213), ("d2", 204)]


def test_a_car_of_very_many_drives_does_not_list_them_all():
    names = [shard.name for shard in partition("drive", scene_set([2] * 300), 2, 0, None)]
    assert names == ["d0+149 drives", "d1+149 drives"]


def test_more_cars_get_stretches_of_time_in_proportion_to_a_drives_length():
    """Catches alternating scenes, which would make cars alike, and equal cuts of unequal drives."""
    shards = partition("drive", scene_set([10, 21]), 4, 0, None)
    assert [(s.name, len(s.indices)) for s in shards] == [("d0", 10), ("d1-a", 7), ("d1-b", 7), ("d1-c", 7)]
    assert all((np.diff(shard.indices) == 1).all() for shard in shards)


def test_a_drive_may_be_cut_more_often_than_there_are_letters():
    names = [shard.name for shard in partition("drive", scene_set([30]), 30, 0, None)]
    assert names[0] == "d0-a" and names[25:28] == ["d0-z", "d0-aa", "d0-ab"]


def test_a_drive_called_as_a_stretch_of_another_does_not_lose_its_name():
    scenes = replace(scene_set([4, 1]), drives=("d",) * 4 + ("d-a",))
    assert [shard.name for shard in partition("drive", scenes, 3, 0, None)] == ["d-a", "d-b", "d-a-2"]


def test_a_car_has_a_name_for_the_screen_whatever_its_drives_folder_is_called():
    scenes = replace(scene_set([1, 1]), drives=("a\n/b\x1b", "Straße 5"))
    assert [shard.name for shard in partition("drive", scenes, 2, 0, None)] == ["a__b_", "Straße 5"]


@pytest.mark.parametrize("cars", [2, 3, 8])
def test_conditions_come_to_the_scenes_of_a_drive(cars):
    scenes = scene_set([20, 15, 9])
    plain, own = partition("drive", scenes, cars, 0, None), partition("condition", scenes, cars, 0, None)
    for without, shard in zip(plain, own, strict=True):
        condition = Perturbation.parse(shard.condition)
        assert np.array_equal(shard.indices, without.indices)
        assert shard.name == f"{without.name}-{condition.kind}-{condition.severity}"


@pytest.mark.parametrize("seed", range(5))
def test_no_kind_comes_again_before_all_have_come_and_severities_are_even(seed):
    """Catches both where they are drawn with repetition."""
    drawn = [Perturbation.parse(shard.condition) for shard in partition("condition", scene_set([40]), 35, seed, None)]
    kinds, severities = [one.kind for one in drawn], [one.severity for one in drawn]
    assert set(kinds[:14]) == set(kinds[14:28]) == set(PERTURBATIONS) and len(set(kinds[28:])) == 7
    assert np.bincount(severities).tolist() == [0, 7, 7, 7, 7, 7]


def mean_skew(scheme: str, alpha: float | None) -> float:
    scenes = scene_set([200])
    return float(np.mean([skew(partition(scheme, scenes, 4, seed, alpha), scenes.histograms) for seed in range(8)]))


def test_classes_are_the_more_unequal_the_smaller_alpha():
    """At alpha 0.1 several times the skew of chance, at 100 nearly that of chance."""
    chance = mean_skew("iid", None)
    wide, middle, narrow = (mean_skew("dirichlet", alpha) for alpha in (100, 1, 0.1))
    assert wide < 2 * chance
    assert narrow > 1.3 * middle > 1.3 * 1.3 * wide
    assert narrow > 5 * chance


def test_classes_are_the_more_unequal_the_fewer_a_car_favours():
    chance = mean_skew("iid", None)
    few, some, all_ = (mean_skew("classes", alpha) for alpha in (2, 6, CLASSES))
    assert few > 1.3 * some > 1.3 * 1.3 * all_
    assert all_ < 2 * chance and few > 5 * chance


def test_a_car_has_more_than_its_share_of_a_class_it_favours():
    """Catches a table of wishes that belongs to other cars."""
    scenes, random = scene_set([200]), np.random.default_rng(0)
    histograms = scenes.histograms[:, scenes.histograms.any(0)]
    wanted = by_class.favourites(5, histograms.shape[1], 1, random)
    owner = by_class.assign_scenes(histograms, wanted, random)
    for car, wish in enumerate(wanted):
        pixels = histograms @ wish
        assert pixels[owner == car].mean() > 1.2 * pixels.mean()


def test_the_last_scenes_dealt_go_where_they_are_wanted_as_the_first_do():
    """Without prices, the cars whose taste is in demand are full by then: a third of the worth is left."""
    early, late = [], []
    for seed in range(8):
        histograms = scene_set([600], seed).histograms[:, :8] + 1
        shares = histograms / histograms.sum(1, keepdims=True)
        wanted = by_class.tastes(60, 8, 0.05, np.random.default_rng(seed))
        owner = by_class.assign_scenes(histograms, wanted, np.random.default_rng(seed))
        order = np.random.default_rng(seed).permutation(600)  # the first thing that is drawn
        worth = np.log(np.maximum((wanted[owner] * shares / shares.mean(0)).sum(1), 1e-3))[order]
        early.append(worth[:400].mean())
        late.append(worth[-60:].mean())
    assert np.mean(late) > 0.6 * np.mean(early) > 0


@given(cars=st.integers(1, 40), classes=st.integers(1, 12), seed=st.integers(0, 2**40), data=st.data())
def test_all_classes_are_favoured_equally_often(cars, classes, seed, data):
    number = data.draw(st.integers(1, classes))
    wanted = by_class.favourites(cars, classes, number, np.random.default_rng(seed))
    assert ((wanted > 0).sum(1) == number).all() and np.allclose(wanted.sum(1), 1)
    assert np.ptp((wanted > 0).sum(0)) <= 1


def test_quantities_follow_the_power_law():
    """alpha 1 and 4 cars: 1, 1/2, 1/3, 1/4 of 25/12, above one scene each: 120.96, 60.48, 40.32, 30.24 of 252."""
    assert sorted(sizes(dealt("quantity", scene_set([256]), 4)))[::-1] == [122, 62, 41, 31]


def test_the_seed_draws_which_car_has_most():
    scenes = scene_set([60])
    assert {int(np.argmax(sizes(dealt("quantity", scenes, 4, seed)))) for seed in range(20)} == {0, 1, 2, 3}


def test_sizes_are_the_more_unequal_the_smaller_alpha():
    scenes = scene_set([100])
    found = [gini(partition("quantity", scenes, 5, 0, alpha)) for alpha in (1e-300, 0.3, 1, 3, 1e300)]
    assert all(more > less for more, less in pairwise(found))
    assert sorted(sizes(partition("quantity", scenes, 5, 0, 1e-300))) == [1, 1, 1, 1, 96] and found[-1] == 0


@pytest.mark.parametrize("scheme", ["dirichlet", "classes"])
def test_classes_that_are_nowhere_do_no_harm(scheme):
    """Wanting none but such a class, a car would be dealt scenes at random."""
    scenes = scene_set([12])
    scenes.histograms[:] = np.eye(CLASSES, dtype=int)[[3, 7] * 6]
    shards = partition(scheme, scenes, 2, 0, 1 if scheme == "classes" else 1e-9)
    assert sizes(shards) == [6, 6]
    assert scheme == "dirichlet" or {tuple(shard.indices % 2) for shard in shards} == {(0,) * 6, (1,) * 6}


@pytest.mark.parametrize("scheme", PARTITIONS)
@pytest.mark.parametrize("cars", [0, 8])
def test_a_number_of_cars_that_cannot_be_is_answered_with_both_numbers(scheme, cars):
    with pytest.raises(SettingsError, match=f"--cars is {cars}, but there are 7 "):
        dealt(scheme, scene_set([3, 4]), cars)


@pytest.mark.parametrize("scheme", sorted(DEFAULT_ALPHA))
@pytest.mark.parametrize("alpha", [None, 0, -1, float("nan"), float("inf")])
def test_an_alpha_that_cannot_be_is_named(scheme, alpha):
    with pytest.raises(SettingsError, match=f"--alpha is {alpha}; --partition {scheme} "):
        partition(scheme, scene_set([7]), 2, 0, alpha)


@pytest.mark.parametrize("alpha", [1.5, 4])
def test_favoured_classes_are_a_whole_number_of_those_there_are(alpha):
    scenes = scene_set([7])
    scenes.histograms[:, 3:] = 0
    with pytest.raises(SettingsError, match=f"--alpha is {alpha}; .* a whole number from 1 to the 3 "):
        partition("classes", scenes, 2, 0, alpha)


def test_an_unknown_scheme_is_answered_with_those_there_are():
    with pytest.raises(SettingsError, match="'random'; valid are drive, iid, dirichlet, classes, quantity, condition"):
        partition("random", scene_set([7]), 2, 0, None)
