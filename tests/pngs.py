"""PNGs of every bit depth and kind of colour, written sample by sample: Pillow cannot write all of them."""

import struct
import zlib
from pathlib import Path

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path: Path, samples: np.ndarray, depth: int = 8, kind: int = GREY,
              palette: "np.ndarray | list[tuple[int, int, int]] | None" = None, more: bytes = b"") -> Path:
    """Write samples (h, w) or (h, w, channels) of `depth` bits. more: chunks before the pixels."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if depth < 8:
        bits = (rows[..., None] >> np.arange(depth - 1, -1, -1) & 1).reshape(height, -1).astype(np.uint8)
        data = np.packbits(bits, axis=1)
    else:
        data = rows.astype(">u2").view(np.uint8).reshape(height, -1) if depth == 16 else rows.astype(np.uint8)
    pixels = b"".join(b"\0" + row.tobytes() for row in data)
    colours = chunk(b"PLTE", np.array(palette, np.uint8).tobytes()) if palette is not None else b""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)) + more
                     + colours + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b""))
    return path
