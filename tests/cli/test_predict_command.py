"""fedsim predict: pictures in, pictures out, and what is refused."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from segmenters import card_of, write_model

from fedsim.classes import CAMVID_11
from fedsim.cli import main
from fedsim.data.datasets.streets import draw_scene
from fedsim.data.datasets.streets.drives import drives_of
from fedsim.inference.segmenter import Segmenter

PICTURE = draw_scene(drives_of("val", 1)[0], 0).image[:48, :64].copy()


@pytest.fixture
def predict(monkeypatch, capsys, tmp_path):
    """The command in a directory of its own, with a model beside it; what it prints."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model.safetensors", card_of())

    def run(*arguments: object) -> str:
        words = ["fedsim", "predict", "model.safetensors", "--threads", "1", "--batch-size", "2", *map(str, arguments)]
        monkeypatch.setattr("sys.argv", words)
        main()
        return capsys.readouterr().out

    return run


def save(path: Path | str, image: np.ndarray | Image.Image = PICTURE, **options: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)


def read(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def labels(picture: np.ndarray) -> np.ndarray:
    return Segmenter.load(Path("model.safetensors")).labels([picture])[0]


def written(out: str) -> set[str]:
    return {str(path.relative_to(out)) for path in Path(out).rglob("*") if path.is_file()}


def refused(predict, capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        predict(*arguments)
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and len(told.splitlines()) == 1, told
    return told


def test_every_picture_gets_overlay_colours_and_indices(predict):
    """Catches labels of another picture, a palette in another order, and an overlay of other shares."""
    others = [np.ascontiguousarray(PICTURE[:, ::-1]), np.ascontiguousarray(PICTURE[::-1]), PICTURE[:20].copy()]
    for name, picture in zip(("b", "c", "in/side"), others, strict=True):
        save(f"drive/{name}.png", picture)
    (Path("drive") / "notes.txt").write_text("no picture")
    said = predict("drive", "--out", "out", "--alpha", "1")
    assert written("out") == {"classes.json", *(f"overlay/{name}.jpg" for name in ("b", "c", "in/side")), *(
        f"{kind}/{name}.png" for kind in ("colour", "index") for name in ("b", "c", "in/side"))}
    assert "out/overlay" in said and "Pedestrian" in said
    for name, picture in zip(("b", "c", "in/side"), others, strict=True):
        index = read(f"out/index/{name}.png")
        assert np.mean(index == labels(picture)) > 0.999 and len(np.unique(index)) > 1
        with Image.open(f"out/colour/{name}.png") as colour:
            assert np.array_equal(np.asarray(colour), index)  # a palette: tools may read indices here, too
            assert np.array_equal(np.asarray(colour.convert("RGB")), CAMVID_11.paint(index))
        overlay = read(f"out/overlay/{name}.jpg").astype(float)
        assert overlay.shape == picture.shape and np.abs(overlay - CAMVID_11.paint(index)).mean() < 20  # a JPEG
    legend = json.loads(Path("out/classes.json").read_text())["classes"]
    assert legend[3] == {"index": 3, "name": "Road", "colour": [128, 64, 128]} and len(legend) == 11


def test_pictures_are_shown_in_copies_and_in_tiles_if_asked(predict, capsys):
    """Catches an option that reaches nothing."""
    save("one.png")
    view = {"test_scales": "1,1.5", "test_flip": True, "tile": "20x16"}
    predict("one.png", "--test-scales", "1,1.5", "--test-flip", "--tile", "20x16", "--out", "out")
    index, path = read("out/index/one.png"), Path("model.safetensors")
    assert np.array_equal(index, Segmenter.load(path, view=view).labels([PICTURE])[0])
    assert not np.array_equal(index, labels(PICTURE))
    assert "--test-scales is '0'; write numbers from 0.1" in refused(predict, capsys, "one.png", "--test-scales", "0")


def test_names_tell_pictures_of_several_folders_apart(predict):
    """Each once, however often it is named. Catches a frame that overwrites another drive's."""
    for path in ("a/x/1.png", "a/y/1.png", "b/x/1.png", "b/x/10.png", "b/x/2.jpg"):
        save(path)
    predict("a/x", "b/x", "a/y/1.png", "b/x/2.jpg", "--out", "out")
    assert {name for name in written("out") if name.startswith("index")} == {
        f"index/{name}.png" for name in ("a/x/1", "a/y/1", "b/x/1", "b/x/10", "b/x/2")}
    predict("b/x/1.png", "--alpha", "0")  # the default place
    out, = Path("predictions").iterdir()
    assert out.name.startswith("model-") and (out / "index/1.png").exists()
    assert np.abs(read(out / "overlay/1.jpg").astype(float) - PICTURE).mean() < 10


def test_pictures_of_every_kind_are_segmented_as_they_are_shown(predict):
    """Turned as EXIF says, in grey, with a palette, transparent, of 16 bits."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned right by a quarter
    save("in/turned.png", np.rot90(PICTURE).copy(), exif=exif)
    save("in/clear.png", np.dstack([PICTURE, PICTURE[..., :1]]))
    save("in/grey.png", PICTURE[..., 0])
    save("in/deep.png", PICTURE[..., 0].astype(np.uint16) * 257)
    save("in/few.png", Image.fromarray(PICTURE).quantize(8))
    predict("in", "--out", "out", "--batch-size", "1")  # of a larger batch, flat colours round to other maxima
    grey = np.stack([PICTURE[..., 0]] * 3, 2)
    few = np.asarray(Image.fromarray(PICTURE).quantize(8).convert("RGB"))
    for name, shown in (("turned", PICTURE), ("clear", PICTURE), ("grey", grey), ("deep", grey), ("few", few)):
        assert np.mean(read(f"out/index/{name}.png") == labels(shown)) > 0.999, name


def test_what_is_no_picture_is_left_out_of_a_folder_and_refused_by_name(predict, capsys):
    save("in/good.png")
    save("in/cut.png")
    os.truncate("in/cut.png", 300)
    said = predict("in", "--out", "out")
    assert "WARNING: left out: in/cut.png cannot be read as a picture" in said and "1 picture(s)" in said
    assert written("out") == {"classes.json", "overlay/good.jpg", "colour/good.png", "index/good.png"}
    assert "in/cut.png cannot be read as a picture" in refused(predict, capsys, "in/cut.png", "--out", "other")
    os.remove("in/good.png")
    assert "none of the 1 pictures could be read" in refused(predict, capsys, "in", "--out", "third")


def test_what_a_folder_holds_besides_pictures_is_named_and_own_results_are_left_out(predict):
    """Catches pictures that vanish, and overlays of an earlier call that are segmented as if they were pictures."""
    for name in ("1.png", "2.jfif", "3.JPE", "deep/4.jpg"):
        save(f"in/{name}", format="PNG" if name.endswith("png") else "JPEG")
    save("in/5.webp")
    save("in/deep/6.tif")
    for litter in ("Thumbs.db", ".DS_Store", "@eaDir/1.png", "__MACOSX/1.png", "Icon\r"):
        Path("in", litter).parent.mkdir(exist_ok=True)
        Path("in", litter).touch()
    save("beside/7.png")
    Path("in/link").symlink_to(Path("beside").absolute())
    predict("in", "--out", "in/old")
    said = predict("in", "in/deep", Path("in").absolute(), "--out", "out")
    assert {name for name in written("out") if name.startswith("index")} == {
        f"index/{name}.png" for name in ("1", "2", "3", "deep/4")}
    warnings = [line for line in said.splitlines() if line.startswith("WARNING")]
    assert warnings[0] == ("WARNING: 2 file(s) under in are not used (1 .webp, 1 .tif): in/5.webp, in/deep/6.tif; "
                           "a picture must be PNG or JPEG")
    assert any("results of fedsim predict are left out: in/old" in line for line in warnings)
    assert any("linked folders are not entered: in/link" in line for line in warnings)
    assert "Thumbs" not in said and "1.png" not in said


@pytest.mark.parametrize("name", ["a" * 251, "ü" * 125 + "a", "日" * 83, "a" * 250 + "b"])
def test_a_name_may_be_as_long_as_the_file_system_allows(predict, name):
    save(f"in/{name}.png")
    predict("in", "--out", "out")
    assert read(f"out/index/{name}.png").shape == PICTURE.shape[:2]


def test_a_name_that_grows_beyond_the_file_system_is_cut_and_two_stay_apart(predict):
    for name in ("a" * 254 + "b", "a" * 254 + "c"):
        save(name, format="PNG")
    predict("a" * 254 + "b", "a" * 254 + "c", "--out", "out")
    assert len(os.listdir("out/index")) == len(os.listdir("out/overlay")) == 2


def test_a_name_that_is_no_text_is_shown_with_a_replacement(predict, monkeypatch, capsys):
    folder = os.fsdecode(b"in\xdf")
    save(f"{folder}/stra\udcdfe.png")
    save(f"{folder}/b\udcdf.bmp")
    strict = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    monkeypatch.setattr("sys.stdout", strict)
    predict(folder, "--out", os.fsdecode(b"out\xdf"))
    strict.flush()
    said = strict.buffer.getvalue().decode()
    assert "in�/b�.bmp" in said and "out�/overlay" in said
    assert os.path.exists(b"out\xdf/index/stra\xdfe.png")


@pytest.mark.parametrize(("arguments", "says"), [
    (["nowhere"], "there is no picture or folder nowhere"), (["empty"], "empty holds no picture"),
    (["twins"], "twins/a.jpg and a.png have the same name"), (["one.png", "--out", "full"], "full already holds"),
    (["one.png", "--alpha", "2"], "'--alpha': 2"), (["one.png", "--device", "cuda"], "no usable CUDA device"),
])
def test_a_mistake_gets_one_sentence_and_leaves_nothing(predict, capsys, arguments, says):
    for path in ("twins/a.png", "twins/a.jpg", "one.png", "full/mine.png"):
        save(path)
    Path("empty").mkdir()
    assert says in refused(predict, capsys, *arguments)
    assert not Path("predictions").exists() and os.listdir("full") == ["mine.png"]


def test_a_model_that_is_none_is_refused(predict, capsys):
    Path("model.safetensors").write_bytes(b"\xff" * 100)
    save("one.png")
    assert "model.safetensors cannot be read as weights" in refused(predict, capsys, "one.png")


def test_what_is_interrupted_leaves_whole_files(predict, monkeypatch):
    """Catches files written at their own place, and threads that write on after the end."""
    for number in range(9):
        save(f"in/{number}.png")
    segment, save_picture, calls = Segmenter.segment, Image.Image.save, []

    def interrupted(self, seen, sizes):
        calls.append(len(sizes))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return segment(self, seen, sizes)

    def torn(self, path, *arguments, **options):
        assert not Path(path).name.startswith(tuple("0123456789")), "written at its own place"
        save_picture(self, path, *arguments, **options)

    monkeypatch.setattr(Segmenter, "segment", interrupted)
    monkeypatch.setattr(Image.Image, "save", torn)
    with pytest.raises(SystemExit) as stopped:
        predict("in", "--out", "out")
    assert stopped.value.code == 130
    names = written("out")
    assert "index/0.png" in names and not any(".part" in name for name in names)
    for name in names - {"classes.json"}:
        assert read(f"out/{name}").shape[:2] == PICTURE.shape[:2]


def test_a_full_disk_is_told_in_a_sentence(predict, monkeypatch, capsys):
    save("one.png")

    def full(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert "cannot write out/overlay/one.jpg (No space left on device)" in refused(predict, capsys, "one.png", "--out",
                                                                                    "out")
    assert written("out") == {"classes.json"}
