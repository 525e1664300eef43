"""A folder of one's own: the layout, and every mistake in it in one sentence."""

import os
import re
from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import HEIGHT, WIDTH, draw, save, write_folder

from fedsim.classes import VOID
from fedsim.data.datasets.folder import Folder
from fedsim.errors import DataError

FRAMES = ("town/frame-10", "town/frame-2", "drive 10/a", "drive 9/b b")
PAGE = (Path(__file__).parents[3] / "docs" / "bring-your-own-data.md").read_text(encoding="utf-8")


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path, {name: draw(3, seed) for seed, name in enumerate(FRAMES)})


def sentence(root, split="train"):
    with pytest.raises(DataError) as error:
        list(Folder(root).scenes(split))
    message = str(error.value)
    assert "\n" not in message and ". " not in message, message
    return message


def test_drives_and_frames_come_in_the_order_of_their_numbers(root):
    scenes = list(Folder(root).scenes("train"))
    assert [s.name for s in scenes] == ["drive 9/b b", "drive 10/a", "town/frame-2", "town/frame-10"]
    assert [s.drive for s in scenes] == ["drive 9", "drive 10", "town", "town"]
    assert {s.time for s in scenes} == {None}


def test_pictures_and_labels_are_those_of_the_files_and_void_has_a_number_of_its_own(root):
    for scene in Folder(root).scenes("train"):
        drawn = draw(3, FRAMES.index(scene.name))
        assert np.array_equal(scene.image, drawn.picture)
        assert np.array_equal(scene.label, np.where(drawn.label == 2, VOID, drawn.label))


def test_pictures_right_under_a_split_are_one_drive_of_its_name(root):
    write_folder(root, {"b": draw(3), "a": draw(3)}, "val")
    scenes = list(Folder(root).scenes("val"))
    assert [(s.drive, s.name) for s in scenes] == [("val", "val/a"), ("val", "val/b")]
    assert Folder(root).splits() == ("train", "val")


def test_pictures_may_be_jpeg_and_ends_of_names_in_capitals(root):
    path = root / "images/train/town/frame-2.png"
    save(draw(3).picture, path.with_suffix(".JPG"))
    path.unlink()
    label = root / "labels/train/town/frame-2.png"
    label.rename(label.with_suffix(".PNG"))
    assert [s.name for s in Folder(root).scenes("train")][2] == "town/frame-2"


def test_files_that_are_no_pictures_are_passed_over(root):
    for name in ("images/train/notes.txt", "images/train/town/Thumbs.db", "images/train/town/._frame-2.png",
                 "labels/train/town/.DS_Store"):
        (root / name).write_bytes(b"")
    assert len(list(Folder(root).scenes("train"))) == len(FRAMES)


@pytest.mark.parametrize(("width", "height", "expected"), [(WIDTH, HEIGHT, (16, 12)), (1920, 1080, (120, 68)),
                                                           (480, 360, (120, 90)), (240, 1, (120, 1))])
def test_a_network_sees_pictures_of_their_own_aspect_at_most_120_wide(root, width, height, expected):
    first = sorted((root / "images/train").rglob("*.png"))[-1]
    for folder in ("images", "labels"):
        for path in (root / folder / "train").rglob("*.png"):
            if path.parent.name != "drive 9":
                path.unlink()
        for name in ("town", "drive 10"):
            (root / folder / "train" / name).rmdir()
    assert first.parent.name == "town"
    save(np.zeros((height, width, 3), np.uint8), root / "images/train/drive 9/b b.png")
    assert Folder(root).image_size == expected


def test_identity_follows_files_names_and_the_table(root):
    seen = [Folder(root).identity("train")]
    os.utime(root / "images/train/town/frame-2.png", (1, 1))
    seen.append(Folder(root).identity("train"))
    table = root / "classes.csv"
    table.write_text(table.read_text().replace("0,Road", "3,Road"))
    seen.append(Folder(root).identity("train"))
    table.write_text(table.read_text().replace("Road", "Street"))
    seen.append(Folder(root).identity("train"))
    assert all(one != other for i, one in enumerate(seen) for other in seen[:i])


@pytest.mark.parametrize(("damage", "says"), [
    (lambda root: (root / "classes.csv").unlink(), "classes.csv, the table of what the numbers in labels mean"),
    (lambda root: (root / "images").rename(root / "pictures"), "holds none of images/train, images/val, images/test"),
    (lambda root: (root / "labels").rename(root / "masks"), "labels/train cannot be read as a folder"),
    (lambda root: (root / "labels/train/town/frame-2.png").unlink(), "images/train/town/frame-2.png has no label in"),
    (lambda root: (root / "images/train/town/frame-2.png").unlink(), "frame-2.png is the label of no picture"),
    (lambda root: (root / "images/train/empty").mkdir(), "images/train/empty has no counterpart in"),
    (lambda root: save(draw(2).picture, root / "images/train/town/frame-2.jpg"), "frame-2.jpg and frame-2.png have"),
    (lambda root: save(draw(2).picture, root / "images/train/loose.png"), "loose.png lies beside folders of drives"),
    (lambda root: save(draw(5).label, root / "labels/train/town/frame-2.png"), "frame-2.png holds the values 3, 4"),
    (lambda root: save(draw(2).picture, root / "labels/train/town/frame-2.png"), "frame-2.png is in colour"),
    (lambda root: save(draw(2).picture[:6], root / "images/train/town/frame-2.png"),
     "frame-2.png is 16x12 pixels, but its picture is 16x6"),
])
def test_a_layout_that_cannot_be_is_refused_with_the_files_name(root, damage, says):
    damage(root)
    message = sentence(root)
    assert str(root) in message and says in message


def test_several_labels_that_are_missing_are_counted(root):
    for name in ("frame-2", "frame-10"):
        (root / f"labels/train/town/{name}.png").unlink()
    assert "town/frame-2.png has no label" in sentence(root) and "(one of 2 pictures without" in sentence(root)


def test_a_split_that_is_not_there_is_told_those_that_are(root):
    assert "there is no split val" in sentence(root, "val") and "there is train" in sentence(root, "val")


def test_a_split_of_another_name_is_told(root):
    (root / "images/valid").mkdir()
    assert "(images/valid is there); name a split that is there with --eval-split" in sentence(root, "val")


def test_labels_of_other_names_are_told_with_a_pair(root):
    for path in (root / "labels/train/town").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert (f"2 picture(s) and 2 label(s) under {root}/labels/train/town have other names, such as "
            f"{root}/images/train/town/frame-2.png and {root}/labels/train/town/frame-2_mask.png; a label is called as"
            in sentence(root))


def test_labels_of_another_format_are_told(root):
    label = root / "labels/train/town/frame-2.png"
    label.rename(label.with_suffix(".tif"))
    assert "has no label in" in sentence(root) and "frame-2.tif is there, but a label must be a PNG" in sentence(root)


def test_a_drive_without_usable_pictures_is_told_with_what_it_holds(root):
    for kind in ("images", "labels"):
        (root / kind / "train/town").rename(root / kind / "town")
        (root / kind / "train/town").mkdir()
        (root / kind / "town").rename(root / kind / "train/town/deeper")
    said = sentence(root)
    assert "images/train/town holds no picture that can be used (2 file(s) under" in said
    assert "deeper/frame-2.png" in said


def test_a_link_to_nowhere_is_told_as_such(root):
    picture = root / "images/train/town/frame-2.png"
    picture.unlink()
    picture.symlink_to("nowhere.png")
    assert f"{picture} " in sentence(root) and "is the label of no picture" not in sentence(root)


def test_files_that_are_not_used_are_named_and_counted(root):
    """Catches pictures deeper than a drive, of another format, and labels beside the drives."""
    assert Folder(root).notes("train") == []
    for name in ("images/train/town/deep/er/x.png", "images/train/town/x.tif", "labels/train/x.png"):
        save(draw(2).label, root / name)
    images, labels = Folder(root).notes("train")
    assert images.startswith(f"2 file(s) under {root}/images/train are not used (1 .tif, 1 .png)")
    assert "town/deep/er/x.png" in images and labels.endswith(f"not used (1 .png): {root}/labels/train/x.png")
    (root / "images/night").mkdir()
    *_, other = Folder(root).notes("train")
    assert other == f"{root} has more folders of pictures, which are not used (images/night is there)"


def test_what_systems_leave_behind_is_no_file_of_a_data_set(root):
    before = [scene.name for scene in Folder(root).scenes("train")]
    for name in ("@eaDir/frame-2.png/SYNOPHOTO_THUMB_XL.png", "__MACOSX/._frame-2.png", ".DS_Store", "Thumbs.db",
                 "town/@eaDir/frame-2.png", "town/._frame-2.png", "town/desktop.ini", "town/Icon\r"):
        for kind in ("images", "labels"):
            save(draw(2).label, (root / kind / "train" / name).with_suffix(".png")).rename(root / kind / "train" / name)
    assert [scene.name for scene in Folder(root).scenes("train")] == before and Folder(root).notes("train") == []


def test_names_pair_however_their_letters_are_encoded(tmp_path):
    root = write_folder(tmp_path, {"Stra\u00dfe \u00fc/\u00e9": draw(3)})
    (root / "labels/train/Stra\u00dfe \u00fc/\u00e9.png").rename(root / "labels/train/Stra\u00dfe \u00fc/e\u0301.png")
    (root / "labels/train/Stra\u00dfe \u00fc").rename(root / "labels/train/Stra\u00dfe u\u0308")
    assert [scene.name for scene in Folder(root).scenes("train")] == ["Stra\u00dfe \u00fc/\u00e9"]


def test_names_that_are_no_text_are_shown_with_a_replacement(tmp_path):
    root = write_folder(tmp_path, {"town/a": draw(3)})
    for kind in ("images", "labels"):
        os.rename(root / kind / "train/town", os.fsencode(root / kind / "train") + b"/stra\xdfe")
    scene, = Folder(root).scenes("train")
    assert scene.name == "stra\ufffde/a" and np.array_equal(Folder(root).picture("train", scene.name), scene.image)


def test_drives_whose_names_read_the_same_are_refused(tmp_path):
    """Catches a drive that is lost behind another: one with a composed letter, one with a decomposed one."""
    root = write_folder(tmp_path, {"\u00fc/a": draw(3), "u\u0308/b": draw(3)})
    assert "have the same name to a reader; rename one of them" in sentence(root)


def test_unused_files_are_told_whatever_their_names(root):
    path = save(draw(2).label, root / "images/train/town/x.tif")
    os.rename(path, os.fsencode(path.parent) + b"/\xe4.tif")
    note, = Folder(root).notes("train")
    assert "town/\ufffd.tif" in note and note.encode()


def test_pictures_of_several_sizes_are_read_each_with_its_label(tmp_path):
    small = draw(3, 1)
    root = write_folder(tmp_path, {"a/1": draw(3), "a/2": layouts.Drawn(small.picture[:6], small.label[:6])})
    assert [scene.label.shape for scene in Folder(root).scenes("train")] == [(12, 16), (6, 16)]


def test_all_faults_of_a_split_are_found_at_once(root):
    """Of the same kind and of others, in pairs and in pixels; a good file beside them is none."""
    save(draw(2).label, root / "labels/train/town/alone.png")
    (root / "labels/train/drive 9/b b.png").unlink()
    save(np.full((HEIGHT, WIDTH), 77, np.uint8), root / "labels/train/drive 10/a.png")
    save(draw(2).label[:6], root / "labels/train/town/frame-2.png")
    (root / "images/train/town/frame-10.png").write_bytes(b"")
    source = Folder(root)
    found = {fault.kind: str(fault) for fault in source.faults("train")}
    assert len(found) == 5, found
    assert "alone.png is the label of no picture" in found["labels without a picture"]
    assert "b b.png has no label" in found["pictures without a label"]
    assert "holds the value 77" in found["labels with numbers of no class"]
    assert "16x6" in found["labels of another size than their pictures"]
    with pytest.raises(DataError):
        list(source.scenes("train"))
    assert [str(fault) for fault in source.faults("val")] == [sentence(root, "val")]


def test_the_table_in_the_page_is_one_that_is_read(root):
    table, = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    (root / "classes.csv").write_text(table)
    classes = Folder(root).classes
    assert classes.names == ("Road", "Car") and classes.colours == ((128, 64, 128), (64, 0, 128))


def test_the_source_in_the_page_is_one_that_works(root, tmp_path):
    code, = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    namespace: dict[str, type] = {}
    exec(code, namespace)
    own = tmp_path / "own"
    for drive, number in (("b", 3), ("a", 20), ("a", 3)):
        save(draw(3, number).picture, own / "train" / f"{drive}_{number}.jpg")
        save(draw(3, number).label, own / "train" / f"{drive}_{number}_label.png")
    source = namespace["Tracks"](own)
    scenes = list(source.scenes("train"))
    assert [(s.drive, s.name, s.time) for s in scenes] == [("a", "a_3", 0.3), ("a", "a_20", 2), ("b", "b_3", 0.3)]
    assert np.array_equal(scenes[1].label, np.where(draw(3, 20).label == 2, VOID, draw(3, 20).label))
    assert source.identity("train") and source.splits() == ("train",)
