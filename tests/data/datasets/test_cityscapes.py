"""Cityscapes: the official ids, cities and sequences as drives, and what is refused."""

import layouts
import numpy as np
import pytest
from layouts import draw, save, write_cityscapes
from torchvision.datasets import Cityscapes as Official

from fedsim.classes import VOID
from fedsim.data.datasets.cityscapes import Cityscapes, CityscapesSequences
from fedsim.errors import DataError

FRAMES = ("hanover_000000_000164", "aachen_000001_000019", "hanover_000000_000085", "aachen_000000_000019",
          "hanover_000000_002140")
IDS = 34  # 0 to 33; license plate, -1, is in no file
TRAIN_IDS = np.array([VOID if c.train_id in (-1, 255) else c.train_id for c in Official.classes if c.id >= 0], np.uint8)


@pytest.fixture
def root(tmp_path):
    return write_cityscapes(tmp_path, {name: draw(IDS, seed) for seed, name in enumerate(FRAMES)})


def sentence(root, split="train"):
    with pytest.raises(DataError) as error:
        Cityscapes(root).identity(split)
    message = str(error.value)
    assert "\n" not in message and ". " not in message, message
    return message


def test_the_classes_are_the_official_ones_in_the_order_of_their_train_ids(root):
    """Against torchvision's copy of the table."""
    trained = sorted((c for c in Official.classes if 0 <= c.train_id < 255), key=lambda c: c.train_id)
    classes = Cityscapes(root).classes
    assert classes.names == tuple(c.name for c in trained) and len(classes) == 19
    assert classes.colours == tuple(c.color for c in trained)


def test_ids_become_train_ids_and_the_rest_is_void(root):
    """Catches reading one of the other files that lie beside labelIds."""
    for scene in Cityscapes(root).scenes("train"):
        drawn = draw(IDS, FRAMES.index(scene.name))
        assert np.array_equal(scene.label, TRAIN_IDS[drawn.label]) and np.array_equal(scene.image, drawn.picture)


def test_a_drive_is_a_city_whose_recordings_have_no_clock_in_common(root):
    scenes = list(Cityscapes(root).scenes("train"))
    assert [s.name for s in scenes] == sorted(FRAMES)
    assert [s.drive for s in scenes] == ["aachen"] * 2 + ["hanover"] * 3
    assert {s.time for s in scenes} == {None}


def test_a_drive_may_be_a_sequence_with_17_frames_a_second(root):
    scenes = list(CityscapesSequences(root).scenes("train"))
    assert [s.name for s in scenes] == sorted(FRAMES)
    assert [s.drive for s in scenes] == ["aachen_000000", "aachen_000001"] + ["hanover_000000"] * 3
    assert [s.time for s in scenes] == [19 / 17, 19 / 17, 5, 164 / 17, 2140 / 17]


def test_the_test_split_is_left_out_and_the_reason_told(root):
    write_cityscapes(root, {"berlin_000000_000019": layouts.Drawn(*draw(IDS))}, "test")
    write_cityscapes(root, {"munster_000000_000019": layouts.Drawn(*draw(IDS))}, "val")
    assert Cityscapes(root).splits() == ("train", "val")
    assert "because its labels are not public" in sentence(root, "test")


def test_a_folder_without_the_data_set_is_told_what_was_looked_for(tmp_path):
    assert "holds no leftImg8bit/train and no leftImg8bit/val" in sentence(tmp_path)


def test_a_picture_or_label_that_is_missing_is_named(root):
    picture = root / "leftImg8bit/train/hanover/hanover_000000_000164_leftImg8bit.png"
    label = root / "gtFine/train/hanover/hanover_000000_000085_gtFine_labelIds.png"
    kept = label.read_bytes()
    label.unlink()
    assert sentence(root).startswith(f"{root}/leftImg8bit/train/hanover/hanover_000000_000085_leftImg8bit.png has no")
    label.write_bytes(kept)
    picture.unlink()
    assert sentence(root).startswith(f"{root}/gtFine/train/hanover/hanover_000000_000164_gtFine_labelIds.png is the")


def test_labels_that_were_not_unpacked_are_missed(root):
    (root / "gtFine").rename(root / "gtCoarse")
    assert f"{root}/gtFine/train cannot be read as a folder" in sentence(root)


def test_a_name_of_another_form_is_refused(root):
    save(draw(2).picture, root / "leftImg8bit/train/aachen/mine.png")
    save(draw(2).label, root / "gtFine/train/aachen/mine_gtFine_labelIds.png")
    assert "mine.png is not called CITY_SEQUENCE_FRAME_leftImg8bit.png" in sentence(root)
