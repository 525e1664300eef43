"""The drawn streets: the same bits every time, all classes in sensible shares, drives unlike each other."""

import json
from itertools import islice

import numpy as np
import pytest

from fedsim.classes import CAMVID_11
from fedsim.data.datasets.streets import Streets, draw_scene
from fedsim.data.datasets.streets.camera import WIDTH, Camera
from fedsim.data.datasets.streets.drives import drive_of, drives_of
from fedsim.data.scene_set import Scene
from fedsim.errors import SettingsError

SPLITS = ("train", "val", "test")
# Smallest and largest share of each class in a split, in percent of all pixels.
BOUNDS = {
    "Sky": (10, 30), "Building": (8, 28), "Pole": (2, 8), "Road": (15, 45), "Pavement": (3, 12),
    "Tree": (5, 20), "SignSymbol": (1, 5), "Fence": (1.5, 8), "Car": (2.5, 12), "Pedestrian": (1, 6),
    "Bicyclist": (2, 8),
}


@pytest.fixture(scope="module")
def scenes() -> dict[str, list[Scene]]:
    """Five scenes of each drive of each split, with the four training drives of the default job."""
    return {split: [draw_scene(drive, frame) for drive in drives_of(split, 4) for frame in range(5)]
            for split in SPLITS}


def test_a_scene_has_the_same_bits_in_any_order():
    """Catches a generator shared between scenes, and a cached style that a scene changes."""
    places = [(split, number, frame) for split in SPLITS for number in (0, 3) for frame in (0, 9)]
    forwards = {place: draw_scene(drive_of(*place[:2]), place[2]) for place in places}
    for place in reversed(places):
        again = draw_scene(drive_of(*place[:2]), place[2])
        assert again.name == forwards[place].name
        np.testing.assert_array_equal(again.image, forwards[place].image)
        np.testing.assert_array_equal(again.label, forwards[place].label)


def test_training_drives_do_not_depend_on_how_many_there_are():
    """Catches a seed or a name made from the number of drives."""
    assert drives_of("train", 30)[:4] == drives_of("train", 4)
    one, many = (next(Streets(drives).scenes("train")) for drives in (1, 30))
    assert one.name == many.name
    np.testing.assert_array_equal(one.image, many.image)


def test_scenes_come_drive_after_drive_in_order_of_time():
    names = [scene.name for scene in islice(Streets(2).scenes("train"), 102)]
    assert names[:2] == ["town-day-00/0000", "town-day-00/0001"]
    assert names[99:] == ["town-day-00/0099", "suburb-dusk-01/0000", "suburb-dusk-01/0001"]


def test_pictures_and_labels_have_the_promised_shapes(scenes):
    for scene in (scene for split in SPLITS for scene in scenes[split]):
        assert scene.image.shape == (120, 160, 3) and scene.image.dtype == np.uint8
        assert scene.label.shape == (120, 160) and scene.label.dtype == np.uint8


def test_every_label_is_a_class(scenes):
    """Catches an id without a class; streets have no void."""
    for split in SPLITS:
        assert max(scene.label.max() for scene in scenes[split]) < len(CAMVID_11)


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_has_its_share(scenes, split):
    """Catches a thing that is not drawn, hidden by another or drawn as another class."""
    labels = np.stack([scene.label for scene in scenes[split]])
    shares = 100 * np.bincount(labels.ravel(), minlength=len(CAMVID_11)) / labels.size
    for name, share in zip(CAMVID_11.names, shares, strict=True):
        least, most = BOUNDS[name]
        assert least <= share <= most, f"{name}: {share:.1f} % of {split}"


def test_the_default_drives_differ_in_place_and_light():
    names = [drive.name for drive in drives_of("train", 4)]
    assert names == ["town-day-00", "suburb-dusk-01", "country-rain-02", "town-fog-03"]


def test_every_dozen_training_drives_has_every_kind_in_every_light():
    for first in (0, 12, 24):
        dozen = drives_of("train", 36)[first:first + 12]
        assert len({(drive.kind, drive.light) for drive in dozen}) == 12


def test_held_out_drives_have_all_kinds_and_lights():
    for split, count in (("val", 6), ("test", 12)):
        drives = drives_of(split, 4)
        assert len(drives) == count
        assert {drive.kind for drive in drives} == {"town", "suburb", "country"}
        assert {drive.light for drive in drives} == {"day", "dusk", "rain", "fog"}


def test_no_drive_is_in_two_splits():
    """Catches a split left out of the seed: both first drives are of a town by day."""
    names = [drive.name for split in SPLITS for drive in drives_of(split, 30)]
    assert len(names) == len(set(names))
    train, test = (draw_scene(drive_of(split, 0), 0) for split in ("train", "test"))
    assert np.mean(train.label != test.label) > 0.1


def test_lights_look_as_they_are_called(scenes):
    """Dusk is the darkest, fog has little contrast. Catches the light of one drive used for another."""
    by_light: dict[str, list[np.ndarray]] = {"day": [], "dusk": [], "rain": [], "fog": []}
    for drive, first in zip(drives_of("test", 4), range(0, 60, 5), strict=True):
        by_light[drive.light] += [scene.image for scene in scenes["test"][first:first + 5]]
    brightness = {light: np.mean(images) for light, images in by_light.items()}
    contrast = {light: np.mean([image.std() for image in images]) for light, images in by_light.items()}
    assert min(brightness, key=brightness.__getitem__) == "dusk"
    assert brightness["rain"] < brightness["day"]
    assert contrast["fog"] < contrast["day"]


def test_twice_the_distance_is_half_the_size():
    """The pinhole. Catches a division left out; a straight road, so that nothing but distance matters."""
    camera = Camera(height=1.5, focal=300.0, horizon=100.0, lateral=0.0, heading=0.0, curvature=0.0)
    (near_column, near_row), (far_column, far_row) = camera.points((2.0, 0.0, 5.0), (2.0, 0.0, 10.0))
    assert near_column - WIDTH / 2 == pytest.approx(2 * (far_column - WIDTH / 2))
    assert near_row - 100 == pytest.approx(2 * (far_row - 100))
    assert camera.ground_depth()[int(near_row)] == pytest.approx(5.0, rel=0.02)


def test_identity_tells_splits_and_numbers_of_drives_apart_and_is_json():
    identities = [json.dumps(Streets(drives).identity(split), sort_keys=True)
                  for drives in (4, 5) for split in ("train", "val")]
    assert len(set(identities)) == 3  # the validation drives do not depend on those trained on
    assert len(json.loads(identities[0])["code"]) == 64


def test_no_drives_are_refused():
    with pytest.raises(SettingsError, match="at least 1"):
        Streets(0)
