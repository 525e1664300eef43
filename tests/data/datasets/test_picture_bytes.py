"""The bytes of picture files: whole ones are read however they are packed, all others are told apart."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fedsim.data.datasets.picture_files import format_of, pictures, read_picture, read_upright
from fedsim.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
TURNED = np.rot90(PIXELS, -1)  # what EXIF orientation 6 asks for


def packed(form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(new: bytes) -> bytes:
    """A PNG with one more chunk, after the first."""
    return packed()[:33] + new + packed()[33:]


def refused(path, read=read_picture) -> str:
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path} ") and "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path} ").removeprefix("cannot be read as a picture: ")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.png"


# Other formats

FORMATS = {"WEBP": "WebP", "BMP": "BMP", "TIFF": "TIFF", "GIF": "GIF", "AVIF": "AVIF", "JPEG2000": "JPEG 2000",
           "PPM": "Netpbm's PPM", "ICO": "ICO", "DDS": "DDS", "PNG": "PNG", "JPEG": "JPEG"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_is_told_by_its_first_bytes_and_others_say_what_to_do(path, form):
    path.write_bytes(packed(form))
    assert format_of(path) == FORMATS[form]
    if form not in ("PNG", "JPEG"):
        for read in (read_picture, read_upright):
            assert refused(path, read) == f"it is {FORMATS[form]}; save it as PNG or JPEG"


@pytest.mark.parametrize(("first", "form"), [
    (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"), (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"), (b"MM\0*\0\0\0\x08", "TIFF"), (b"8BPS\0\x01", "Photoshop's PSD"),
    (b'<?xml version="1.0"?>\n<svg xmlns="h"', "SVG"), (b"\xff\xd8\xff\xf7\0", "JPEG-LS")])
def test_formats_that_pillow_does_not_write(path, first, form):
    path.write_bytes(first)
    assert refused(path) == f"it is {form}; save it as PNG or JPEG"


@pytest.mark.parametrize(("content", "said"), [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "it is a pointer of Git LFS instead of the picture; "
                                                                   "run git lfs pull"),
    (b"<!DOCTYPE html><title>404</title>", "it is a web page instead of a picture; get the picture itself"),
    (b"<html>", "it is a web page instead of a picture; get the picture itself"),
    (b"\0" * 5000, "it holds zeros instead of a picture, as after a copy that broke off; get the file anew")])
def test_files_that_are_no_pictures_are_told_apart(path, content, said):
    path.write_bytes(content)
    assert refused(path) == said


# Damage


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_file_that_is_cut_off_says_so_wherever_it_is_cut(path, form):
    whole = packed(form)
    for length in range(4, len(whole) - 20, 7):
        path.write_bytes(whole[:length])
        assert refused(path).startswith(f"it is a damaged or incomplete {form} ("), length


def test_a_bit_that_flips_is_never_read_as_another_colour(path):
    """Catches damage that Pillow does not notice, because it does not look at the sums of a picture's chunks."""
    Image.fromarray(PIXELS // 64).save(path)
    whole, true = path.read_bytes(), read_picture(path)
    for place in range(8, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1:])
        try:
            assert np.array_equal(read_picture(path), true), place
        except DataError as error:
            assert "get the file anew" in str(error) or "shrink it" in str(error)


def test_a_jpeg_that_few_programs_read_is_whole(path):
    whole = bytearray(packed("JPEG"))
    whole[whole.index(b"\xff\xc0") + 4] = 12
    path.write_bytes(whole)
    assert refused(path) == "it is a JPEG of 12 bits; save it as PNG or as a JPEG of 8 bits"


# Whole files with odd extras


def large_text(kind: str) -> bytes:
    text = PngImagePlugin.PngInfo()
    if kind == "iTXt":
        text.add_itxt("note", "x" * 3_000_000, zip=True)
    elif kind == "XMP":
        text.add_itxt("XML:com.adobe.xmp", "x" * 3_000_000, zip=True)
    elif kind == "tEXt":
        for number in range(5):
            text.add_text(f"note {number}", "x" * 15_000_000)
    else:
        text.add_text("note", "x" * 3_000_000, zip=True)
    return packed(pnginfo=text)


@pytest.mark.parametrize("data", [
    *(pytest.param(large_text(kind), id=kind) for kind in ("zTXt", "iTXt", "XMP", "tEXt")),
    pytest.param(packed(icc_profile=b"x" * 3_000_000), id="iCCP"),
    pytest.param(with_chunk(chunk(b"iCCP", b"name\0\x07junk")), id="a profile packed in an unknown way"),
    pytest.param(with_chunk(chunk(b"zTXt", b"name\0\x05junk")), id="a text packed in an unknown way"),
    pytest.param(with_chunk(chunk(b"tEXt", b"note\0text")[:-1] + b"?"), id="a text with a wrong sum"),
    pytest.param(packed() + b"more after the end", id="bytes after the end"),
])
def test_a_whole_png_is_read_whatever_else_is_in_it(path, data, recwarn):
    path.write_bytes(data)
    assert np.array_equal(read_picture(path), PIXELS) and np.array_equal(read_upright(path), PIXELS)
    assert not recwarn.list


def test_a_png_with_large_text_is_turned_as_its_exif_says(path):
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "x" * 3_000_000, zip=True)
    exif = Image.Exif()
    exif[274] = 6
    path.write_bytes(packed(pnginfo=text, exif=exif))
    assert np.array_equal(read_upright(path), TURNED)
    assert refused(path).startswith("is marked as turned or mirrored (EXIF orientation 6)")


def entry(kind: int, count: int, value: bytes) -> bytes:
    """EXIF with one entry, the orientation."""
    head = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12" + struct.pack(">HI", kind, count)
    return head + value.ljust(4, b"\0") + b"\0" * 4


ODD_EXIF = {
    "0": entry(3, 1, b"\0\0"), "9": entry(3, 1, b"\0\x09"), "a large number": entry(4, 1, b"\xff" * 4),
    "a word": entry(2, 4, b"six\0"), "bytes": entry(7, 4, b"\1\2\3\4"),
    "an unknown kind": entry(99, 1, b"\0\x06"), "no numbers": entry(3, 0, b""),
    "a cut list": b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03", "a place outside": b"Exif\0\0MM\0*\xff\xff\xff\xff",
    "no byte order": b"Exif\0\0??\0*\0\0\0\x08", "nothing": b"Exif\0\0", "junk": b"Exif\0\0" + bytes(range(200)),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("exif", ODD_EXIF.values(), ids=ODD_EXIF)
def test_a_mark_that_means_nothing_counts_as_none_without_a_word(path, exif, form):
    whole = packed("JPEG")
    if form == "JPEG":
        path.write_bytes(whole[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + whole[2:])
    else:
        path.write_bytes(with_chunk(chunk(b"eXIf", exif[6:])))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert read_picture(path).shape == read_upright(path).shape == PIXELS.shape
    assert not said


def test_every_ending_of_jpeg_and_png_is_found(tmp_path):
    for name in ("1.jfif", "2.JPE", "3.jpeg", "4.JPG", "5.png", "6.webp", "7.tif"):
        (tmp_path / name).touch()
    assert [path.name[0] for path in pictures(tmp_path)] == ["1", "2", "3", "4", "5"]
