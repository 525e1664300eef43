"""The bytes of picture files: formats told by the first of them, and the chunks of PNGs."""

import re
import struct
import zlib
from collections.abc import Iterator

FIRST_BYTES = 64  # enough to tell every format below
KINDS = tuple((re.compile(first, re.DOTALL), name) for first, name in (
    (rb"\x89PNG", "PNG"), (rb"\xff\xd8\xff\xf7", "JPEG-LS"), (rb"\xff\xd8", "JPEG"), (rb"RIFF....WEBP", "WebP"),
    (rb"GIF8[79]a", "GIF"), (rb"BM.{12}", "BMP"), (rb"II[*+]\0|MM\0[*+]", "TIFF"),
    (rb"....ftyp.{0,40}?avi[fs]", "AVIF"), (rb"....ftyp(hei|hev|mif1|msf1)", "HEIC"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"), (rb"\0\0\0\x0cJXL |\xff\x0a", "JPEG XL"),
    (rb"II\xbc", "JPEG XR"), (rb"8BPS", "Photoshop's PSD"), (rb"P[1-7]\s|P[Ff]\n", "Netpbm's PPM"), (rb"qoif", "QOI"),
    (rb"v/1\x01", "OpenEXR"), (rb"#\?R", "Radiance HDR"), (rb"\0\0\x01\0.\0", "ICO"), (rb"DDS ", "DDS"),
    (rb"(<\?xml.*)?<svg", "SVG")))
STRANGERS = tuple((re.compile(first, re.DOTALL), what) for first, what in (
    (rb"version https://git-lfs", "is a pointer of Git LFS instead of the picture; run git lfs pull"),
    (rb"\s*<(!(?i:doctype) )?(?i:html)", "is a web page instead of a picture; get the picture itself"),
    (rb"\0+\Z", "holds zeros instead of a picture, as after a copy that broke off; get the file anew")))
ORIENTATION = (b"Raw profile type exif", b"XML:com.adobe.xmp")  # texts of a PNG that may tell how a picture is turned
SIGNATURE = 8  # bytes before the first chunk of a PNG


def tell_format(first: bytes) -> str:
    """Return the format that the first bytes of a file tell, such as "PNG" or "WebP"; "" for no known picture."""
    return next((name for pattern, name in KINDS if pattern.match(first[:FIRST_BYTES])), "")


def describe_stranger(first: bytes) -> str:
    """Say what a file is that begins with other bytes than PNG and JPEG, and what to do: the end of a sentence."""
    if not first:
        return "is empty; get the file anew"
    if form := tell_format(first):
        return f"is {form}; save it as PNG or JPEG"
    return next((what for pattern, what in STRANGERS if pattern.match(first[:FIRST_BYTES])),
                "is neither PNG nor JPEG; save it as one of these")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind of each chunk of a PNG and the whole chunk, as far as chunks are whole.

    Raises ValueError if the sum that protects a chunk of the picture itself is wrong: not all decoders look at it.
    """
    place, kind = SIGNATURE, b""
    while kind != b"IEND" and place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        chunk = data[place:place + 12 + length]
        if len(chunk) < 12 + length:
            if _is_critical(kind):
                raise ValueError("it ends within its pixels")
            return
        if _is_critical(kind) and zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise ValueError(f"the check sum of its part {kind.decode('ascii', 'replace')} is wrong")
        yield kind, chunk
        place += len(chunk)


def strip_png(data: bytes, texts: tuple[bytes, ...] = ()) -> bytes:
    """Return a PNG without all that does not decide its pixels, such as texts and colour profiles.

    texts: the keywords of texts that stay; EXIF stays with them.
    """
    return data[:SIGNATURE] + b"".join(
        chunk for kind, chunk in png_chunks(data)
        if _is_critical(kind) or kind == b"tRNS" or (texts and (kind == b"eXIf" or chunk[8:].startswith(texts))))


def name_odd_jpeg(data: bytes) -> str | None:
    """Name the kind of a JPEG that few programs can read; None for the usual kinds."""
    place = 2
    while place + 5 <= len(data) and data[place] == 0xFF:
        marker, length, bits = data[place + 1], *struct.unpack_from(">HB", data, place + 2)
        if marker == 0xDA:  # the pixels begin
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
                return "a lossless or hierarchical JPEG"
            return f"a JPEG of {bits} bits" if bits != 8 else None
        place += 2 + length
    return None


def _is_critical(kind: bytes) -> bool:
    return not kind[:1].islower()
