"""Scenes under conditions: perturbed at the pictures' own size, labels as they are."""

import numpy as np
import pytest
from test_cache import COUNT, Noise

from fedsim.data.cache import load
from fedsim.data.conditions import Conditioned, perturb, perturb_and_shrink
from fedsim.data.perturbations import Perturbation
from fedsim.data.pixels import resize_picture

FOG = Perturbation("fog", 4)


class Large(Noise):
    """Pictures large enough to be perturbed."""

    image_size = (30, 20)

    def scenes(self, split):
        for scene in super().scenes(split):
            large = [array.repeat(5, 0).repeat(5, 1) for array in (scene.image, scene.label)]
            yield scene._replace(image=large[0], label=large[1])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))


def test_only_the_pictures_of_scenes_with_a_condition_change():
    """Catches a condition that spreads, and one that changes labels, names or times."""
    plain = list(Large().scenes("train"))
    under = list(Conditioned(Large(), {"train-1": FOG, "train-3": FOG}, 0).scenes("train"))
    for one, two in zip(plain, under, strict=True):
        assert np.array_equal(one.image, two.image) == (one.name not in ("train-1", "train-3"))
        assert np.array_equal(one.label, two.label)
        assert (one.name, one.drive, one.time) == (two.name, two.drive, two.time)
    alone = Conditioned(Large(), {"train-1": FOG, "train-3": FOG}, 0).picture("train", "train-3")
    assert np.array_equal(alone, under[3].image)


def test_a_scene_looks_the_same_in_training_and_in_an_evaluation():
    """The cache's pictures of a conditioned set are those of `perturb_and_shrink`: the same draws, shrunk alike."""
    conditioned = Conditioned(Large(), {f"train-{i}": FOG for i in range(COUNT)}, 7)
    trained = load(conditioned, "train", None)
    for name, image in zip(trained.names, trained.images, strict=True):
        assert np.array_equal(perturb_and_shrink(Large().picture("train", name), name, (30, 20), FOG, 7), image)


def test_pictures_are_perturbed_before_they_are_shrunk():
    image = Large().picture("train", "train-0")
    whole = perturb(image.transpose(2, 0, 1)[None], ["train-0"], FOG, 0)[0].transpose(1, 2, 0)
    shrunk = resize_picture(whole, (30, 20)).transpose(2, 0, 1)
    assert np.array_equal(perturb_and_shrink(image, "train-0", (30, 20), FOG, 0), shrunk)


def test_conditions_seed_and_data_set_tell_entries_of_the_cache_apart():
    identities = [Conditioned(source, conditions, seed).identity("train") for source, conditions, seed in [
        (Large(), {"train-1": FOG}, 0), (Large(), {"train-1": FOG}, 1), (Large(), {"train-2": FOG}, 0),
        (Large(), {"train-1": Perturbation("fog", 3)}, 0), (Large(1), {"train-1": FOG}, 0)]]
    assert len(set(map(str, identities))) == len(identities)
    assert Conditioned(Large(), {"train-1": FOG}, 0).identity("train") == identities[0]
