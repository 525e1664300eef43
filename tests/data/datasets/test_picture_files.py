"""Files: every kind of picture and label that users have, many at a time, and what is refused."""

import builtins
import os
import struct
import threading
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import HEIGHT, WIDTH, draw, save, write_folder
from PIL import Image
from pngs import RGB, chunk, write_png

from fedsim.classes import VOID
from fedsim.data.datasets.folder import Folder
from fedsim.data.datasets.label_files import ColourLabels, IndexLabels, colour_code
from fedsim.data.datasets.on_disk import Frame
from fedsim.data.datasets.picture_files import natural, read_picture, read_upright
from fedsim.data.scene_set import Scene
from fedsim.errors import DataError
from fedsim.system import threads

NUMBERS = IndexLabels({0: 0, 1: 1, 300: 2, 7: VOID, 8: VOID}, "look it up")
SIZE = (WIDTH, HEIGHT)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a b.png"


def refused(read, *arguments) -> str:
    with pytest.raises(DataError) as error:
        read(*arguments)
    message = str(error.value)
    assert "\n" not in message and ". " not in message, message
    return message


# Pictures

PICTURE = draw(2).picture
GREY = np.stack([PICTURE[..., 0]] * 3, 2)
LEVELS = PICTURE[..., 0].astype(np.uint16) * 256 + 255  # 16 bits that are PICTURE's in the upper eight


def few_colours() -> np.ndarray:
    return PICTURE // 128 * 255


@pytest.mark.parametrize(("image", "expected"), [
    (Image.fromarray(PICTURE), PICTURE),
    (Image.fromarray(PICTURE[..., 0]), GREY),
    (Image.fromarray(np.dstack([PICTURE, PICTURE[..., :1]])), PICTURE),
    (Image.fromarray(np.dstack([PICTURE[..., :1], PICTURE[..., 1:2]]), "LA"), GREY),
    (Image.fromarray(few_colours()).quantize(8), few_colours()),
    (Image.fromarray(LEVELS), GREY),
    (Image.fromarray(GREY[..., 0] > 127), (GREY > 127) * 255),
], ids=["RGB", "L", "RGBA", "LA", "P", "I;16", "1"])
def test_a_picture_is_rgb_of_8_bits_however_it_is_stored(path, image, expected):
    image.save(path)
    picture = read_picture(path)
    assert picture.dtype == np.uint8 and np.array_equal(picture, expected)


def test_transparency_of_a_palette_is_dropped_without_a_word(path, recwarn):
    image = Image.fromarray(few_colours()).quantize(8)
    image.save(path, transparency=bytes([0, 100, 200]))
    assert np.array_equal(read_picture(path), few_colours()) and not recwarn.list


def test_a_jpeg_may_be_in_cmyk(tmp_path):
    path = tmp_path / "a.JPEG"
    Image.new("RGB", SIZE, (200, 40, 90)).convert("CMYK").save(path, "JPEG")
    assert np.abs(read_picture(path).astype(int) - (200, 40, 90)).max() < 8


def test_colours_of_16_bits_are_scaled_as_grey_is(path):
    write_png(path, PICTURE.astype(np.uint16) * 256 + 255, 16, RGB)
    assert np.array_equal(read_picture(path), PICTURE)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_picture_that_is_marked_as_turned_is_refused(tmp_path, orientation, suffix):
    path, exif = tmp_path / f"a{suffix}", Image.Exif()
    exif[274] = orientation
    Image.fromarray(PICTURE).save(path, exif=exif)
    assert f"{path} is marked as turned or mirrored (EXIF orientation {orientation})" in refused(read_picture, path)
    exif[274] = 1
    Image.fromarray(PICTURE).save(path, exif=exif)
    assert read_picture(path).shape == PICTURE.shape


@pytest.mark.parametrize("limit", [WIDTH * HEIGHT - 1, WIDTH * HEIGHT // 2 - 1], ids=["a warning", "an error"])
def test_a_picture_of_too_many_pixels_is_refused(path, monkeypatch, limit, recwarn):
    """Catches Pillow's warning, which would go by, and its error, which does not end as a sentence."""
    save(PICTURE, path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert refused(read_picture, path).startswith(f"{path} claims to have more than {limit} pixels")
    assert not recwarn.list


def test_a_picture_one_may_not_read_is_told_apart_from_a_damaged_one(path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(builtins, "open", denied)
    assert refused(read_picture, path) == f"{path} cannot be read (Permission denied); make it readable for yourself"


@pytest.mark.parametrize(("form", "called"), [
    ("GIF", "GIF"), ("BMP", "BMP"), ("TIFF", "TIFF"), ("WEBP", "WebP"), ("JPEG2000", "JPEG 2000"), ("AVIF", "AVIF")])
def test_other_formats_are_named_and_not_tried(path, form, called):
    Image.fromarray(PICTURE).save(path, form)
    assert refused(read_picture, path).endswith(f"it is {called}; save it as PNG or JPEG")


@pytest.mark.parametrize(("content", "says"), [
    (b"", "it is empty; get the file anew"), (b"no picture", "it is neither PNG nor JPEG; save it as one of these"),
    (b"\x89PNG\r\n\x1a\n", "it is a damaged or incomplete PNG"), (b"\xff\xd8\xff\xe0", "a damaged or incomplete JPEG"),
])
def test_what_is_no_picture_is_told_apart(path, content, says):
    path.write_bytes(content)
    assert says in refused(read_picture, path)
    path.unlink()
    assert f"{path} is not there any more" in refused(read_picture, path)


def test_a_png_that_ends_before_its_check_sum_is_refused_and_one_without_its_last_part_is_read(path):
    """Nobody can tell whether pixels are right whose check sum is missing, although Pillow shows them."""
    whole = write_png(path, draw(2).label).read_bytes()
    path.write_bytes(whole[:-12])
    assert np.array_equal(read_picture(path)[..., 0], draw(2).label), "IEND holds nothing"
    path.write_bytes(whole[:-12 - 6])
    assert "it is a damaged or incomplete PNG" in refused(read_picture, path)


@pytest.mark.parametrize("read", [read_picture, read_upright])
@pytest.mark.parametrize("exif", [
    b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03", b"Exif\0\0II*\0", b"Exif\0\0nonsense", b"Exif\0\0",
    *(b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([mark, 0, 0, 0, 0, 0, 0])
      for mark in (0, 9, 255)),
    b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x026\0\0\0\0\0\0\0"])
def test_marks_that_mean_nothing_turn_no_picture(path, read, exif, recwarn):
    """Damaged marks, marks of no direction, and a mark that is a text. Pillow warns without the name of the file."""
    content = BytesIO()
    Image.fromarray(PICTURE).save(content, "JPEG")
    jpeg = content.getvalue()
    path.write_bytes(jpeg)
    plain = read(path)
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    assert np.array_equal(read(path), plain) and not recwarn.list


@pytest.mark.parametrize("notes", [
    chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 2**21)),
    chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 2**20)) * 70,
    chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"x" * 2**21)),
    chunk(b"iCCP", b"a\0\0" + zlib.compress(b"x" * 2**21)),
], ids=["a long text", "many texts", "a long iTXt", "a profile"])
def test_large_notes_in_a_whole_png_are_passed_over(path, notes):
    drawn = draw(2).label
    write_png(path, drawn, more=notes)
    assert np.array_equal(read_picture(path)[..., 0], drawn) and np.array_equal(NUMBERS.read(path, SIZE).pixels, drawn)


# Labels


def label_of(image: Image.Image, path: Path) -> np.ndarray:
    image.save(path)
    return NUMBERS.read(path, SIZE).pixels


def palette() -> Image.Image:
    image = Image.fromarray(draw(2).label)
    image.putpalette([7] * 768)
    return image


@pytest.mark.parametrize("image", [
    Image.fromarray(draw(2).label), palette(), Image.fromarray(draw(2).label > 0),
    Image.fromarray(draw(2).label.astype(np.uint16))], ids=["L", "P", "1", "I;16"])
def test_a_label_holds_numbers_however_it_is_stored(path, image):
    label = label_of(image, path)
    assert label.dtype == np.uint8 and np.array_equal(label, draw(2).label)


def test_numbers_beyond_8_bits_are_classes_too_and_several_may_be_void(path):
    numbers = np.array([0, 1, 300, 7, 8], np.uint16)
    label = label_of(Image.fromarray(numbers[draw(5).label]), path)
    assert np.array_equal(label, np.array([0, 1, 2, VOID, VOID], np.uint8)[draw(5).label])


def test_numbers_that_are_no_class_are_told_with_those_that_are(path):
    numbers = np.array([0, 2, 65535], np.uint16)[draw(3).label]
    assert ("holds the values 2, 65535, but a label must hold class numbers, 0 to 1, 300, and 7 to 8 for void"
            in refused(label_of, Image.fromarray(numbers), path))
    many = Image.fromarray(np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH))
    assert "holds the values 2, 3, 4, 5, 6, 9, 10, 11 …, but" in refused(label_of, many, path)


@pytest.mark.parametrize("name", ["label.jpg", "label.png"])
def test_a_jpeg_is_no_label_whatever_it_is_called(tmp_path, name):
    """Catches going by the name alone."""
    path = tmp_path / name
    Image.fromarray(draw(2).label).save(path, "JPEG")
    assert refused(NUMBERS.read, path, SIZE).startswith(f"{path} is a JPEG, which blurs labels")


def test_colours_are_looked_up_and_the_first_that_is_none_is_told(path):
    colours = np.array([(10, 20, 30), (255, 255, 255), (10, 20, 31)], np.uint8)
    labels = ColourLabels({colour_code(10, 20, 30): 0, colour_code(255, 255, 255): VOID}, "look it up")
    save(colours[draw(2).label], path)
    assert np.array_equal(labels.read(path, SIZE).pixels, np.where(draw(2).label == 1, VOID, 0))
    drawn = draw(3).label
    save(colours[drawn], path)
    count = int((drawn == 2).sum())
    assert refused(labels.read, path, SIZE) == (
        f"{path} holds the colour 10 20 31 in {count} pixels, which is none of the 2 that stand for a class; "
        f"{count / drawn.size:.1%} of its pixels have such colours; look it up")


@given(st.permutations(["frame-2", "frame-10", "frame-10b", "frame-b", "2", "10", "a1", "a01", "²", ""]))
def test_names_are_sorted_as_people_count_in_one_order_only(names):
    in_order = ["", "2", "10", "a01", "a1", "frame-2", "frame-10", "frame-10b", "frame-b", "²"]
    assert sorted(names, key=natural) == in_order


# Many at a time


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


def frames(count: int) -> list[Frame]:
    return [Frame("drive", f"{i}", Path(f"{i}.png"), Path(f"{i}.png")) for i in range(count)]


def blank(frame: Frame) -> Scene:
    return Scene(frame.name, frame.drive, PICTURE, draw(2).label)


def test_scenes_come_in_order_whichever_is_decoded_first(two_cores):
    """Every even one waits for the odd one after it, so as many as there are cores are decoded at a time."""
    done = [threading.Event() for _ in range(40)]

    def read(frame: Frame) -> Scene:
        number = int(frame.name)
        if number % 2 == 0:
            assert done[number + 1].wait(20), "only one is decoded at a time"
        done[number].set()
        return blank(frame)

    assert [scene.name for scene in threads.ahead(read, frames(40))] == [f"{i}" for i in range(40)]


def test_a_bounded_number_of_scenes_is_decoded_ahead_and_none_after_the_reader_has_left(two_cores):
    """Catches a data set in memory, and threads that go on behind a failed run."""
    begun = []

    def read(frame: Frame) -> Scene:
        begun.append(frame.name)
        return blank(frame)

    scenes = threads.ahead(read, frames(1000))
    for _ in range(3):
        next(scenes)
    scenes.close()
    count = len(begun)
    assert count <= 3 + 2 * threads.AHEAD
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_of_several_damaged_files_the_first_is_named_whichever_is_found_first(tmp_path):
    """So that two ranks, and two starts, say the same."""
    root = write_folder(tmp_path, {f"drive/{i}": draw(3, i) for i in range(12)})
    for number, content in ((3, (root / "images/train/drive/3.png").read_bytes()[:-30]), (4, b""), (9, b"")):
        (root / f"images/train/drive/{number}.png").write_bytes(content)
    for _ in range(5):
        assert "drive/3.png cannot be read" in refused(lambda: list(Folder(root).scenes("train")))
