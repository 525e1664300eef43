"""Scenes that are held out from cars: the last of each stretch, with a gap in time between them and what is trained on.

Each test names a mutation that it was seen to catch.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenery import scene_set as noise

from fedsim.data.partition import DEFAULT_ALPHA, PARTITIONS, Scored
from fedsim.data.partition.dealt import Dealt
from fedsim.data.partition.own_test import hold_out_own, warn_of_gaps
from fedsim.data.partition.schemes import Shard, partition
from fedsim.data.scene_set import SceneSet
from fedsim.errors import SettingsError

GAP = 5  # seconds


def scene_set(lengths: list[int], seconds: float | None) -> SceneSet:
    """Drives of the given lengths, with scenes so many seconds apart; None if nobody knows when they were taken."""
    drives = tuple(f"d{number}" for number, length in enumerate(lengths) for _ in range(length))
    times = tuple(None if seconds is None else 7 + seconds * place for length in lengths for place in range(length))
    scenes = noise(sum(lengths), (4, 3), (4, 3))
    histograms = np.random.default_rng(0).multinomial(99, np.full(11, 1 / 11), len(scenes))
    return replace(scenes, histograms=histograms, drives=drives, times=times)


@settings(max_examples=150, deadline=None)
@given(scheme=st.sampled_from(PARTITIONS), lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
       cars=st.integers(1, 6), seed=st.integers(0, 99), share=st.sampled_from([0.1, 0.2, 0.5, 0.9]),
       seconds=st.sampled_from([None, 0.5, 1.0, 6.0]))
def test_no_scene_that_is_held_out_is_near_one_that_is_trained_on(scheme, lengths, cars, seed, share, seconds):
    """By brute force over all pairs. Catches a gap on one side only, a gap within the car's own scenes only, a scene of
    another car, neighbours of unknown time, and a car that loses its condition or its name."""
    scenes = scene_set(lengths, seconds)
    before = partition(scheme, scenes, min(cars, len(scenes)), seed, DEFAULT_ALPHA.get(scheme))
    try:
        after = hold_out_own(before, scenes, share)
    except SettingsError:
        return
    held = np.concatenate([shard.own_test for shard in after])
    for was, shard in zip(before, after, strict=True):
        assert (shard.name, shard.condition) == (was.name, was.condition)
        assert np.array_equal(shard.give_all_back().indices, was.indices)
        assert len(shard.indices)
        for index in shard.indices:
            same = held[np.array(scenes.drives)[held] == scenes.drives[index]]
            if seconds is None:
                assert not set(same) & {index - 1, index, index + 1}
            else:
                assert all(abs(scenes.times[other] - scenes.times[index]) > GAP for other in same)
    left = {index for shard in after for index in shard.left_out}
    near = {index for index in left for other in held if scenes.drives[other] == scenes.drives[index] and (
        abs(index - other) == 1 if seconds is None else abs(scenes.times[other] - scenes.times[index]) <= GAP)}
    assert left == near, "nothing else is lost"
    told = [line for line in warn_of_gaps(after, scenes) if "cars have no" not in line]
    assert told == ([f"{len(left)} of {len(scenes)} training scenes belong to no car: they lie within 5 seconds of "
                     "scenes that are held out from a car"] if left else [])


def test_it_is_the_end_of_each_drive_or_of_each_cars_part_of_it():
    """Catches a share of all scenes, or of a shuffled list."""
    scenes = scene_set([40, 20], seconds=1.0)
    whole = hold_out_own(partition("drive", scenes, 2, 0, None), scenes, 0.2)
    assert [shard.own_test.tolist() for shard in whole] == [[*range(32, 40)], [*range(56, 60)]]
    assert [shard.indices.tolist() for shard in whole] == [[*range(27)], [*range(40, 51)]]
    parts = hold_out_own(partition("drive", scenes, 3, 0, None), scenes, 0.2)
    assert [shard.own_test.tolist() for shard in parts] == [[*range(16, 20)], [*range(36, 40)], [*range(56, 60)]]
    assert parts[0].indices.tolist() == [*range(11)] and parts[1].indices.tolist() == [*range(25, 31)], (
        "a gap after the cut, too")
    dealt = hold_out_own(partition("iid", scenes, 3, 0, None), scenes, 0.2)
    assert sorted(np.concatenate([shard.own_test for shard in dealt])) == [*range(32, 40), *range(56, 60)]


def test_what_cannot_be_held_out_is_told_in_a_sentence():
    """Catches a car without training scenes, and a share that holds out nothing."""
    scenes = scene_set([4, 4], seconds=None)
    with pytest.raises(SettingsError, match=r"--own-test 0.2 holds out no scene: no car has 5 scenes"):
        hold_out_own(partition("drive", scenes, 2, 0, None), scenes, 0.2)
    with pytest.raises(SettingsError, match=r"--own-test 0.9 leaves 2 of 2 cars nothing to train on, first 'd0'"):
        hold_out_own(partition("drive", scenes, 2, 0, None), scenes, 0.9)


def test_warnings_tell_of_cars_without_held_out_scenes_and_of_files_that_leak():
    """Catches a file's lists that are trusted, and a count of scenes that nobody has."""
    scenes = scene_set([6, 3], seconds=None)
    shards = [Shard("a", np.arange(4), None, np.array([4, 5])), Shard("b", np.array([7]))]
    assert [*warn_of_gaps(shards, scenes)] == [
        "2 of 9 training scenes belong to no car",
        "1 of 2 cars have no scenes of their own that are held out: 'b'",
        "1 of 2 scenes that are held out from cars lie within 5 seconds of a training scene, so scores on them tell "
        "little"]
    assert [*warn_of_gaps([Shard("a", np.arange(9))], scenes)] == []


def test_held_out_scenes_without_a_labelled_pixel_have_no_score():
    """Catches a run that fails at its first score."""
    scenes = scene_set([4], seconds=None)
    shards = [Shard("a", np.arange(2), None, np.array([3]))]
    dealt = Dealt(None, None, scenes, scenes, Scored("val"), shards)
    assert dealt.own_test_set.drives == ("a",) and dealt.own_test_set.names == scenes.names[3:]
    void = replace(scenes, histograms=scenes.histograms * np.array([1, 1, 1, 0])[:, None])
    assert replace(dealt, train_set=void).own_test_set is None
    assert replace(dealt, shards=[Shard("a", np.arange(4))]).own_test_set is None
