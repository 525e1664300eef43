"""Parts of a state as safetensors files: written down to the disk with their digests, read if these still hold."""

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

import torch

from fedsim.record.snapshot import Part, Unfit

DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
          torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}


class Written(NamedTuple):
    """A part on disk."""

    round: int  # in which what it holds came about
    bytes: int
    sha256: str


def write_part(path: Path, part: Part, number: int) -> Written:
    """Write a part as a safetensors file, down to the disk. Raises OSError.

    Straight from the tensors, digest included: the library's own writer copies them twice, which takes as long as the
    disk does.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in part.items()}
    path.unlink(missing_ok=True)  # a copy of the run may share the file
    digest, size = hashlib.sha256(), 0
    with open(path, "xb", buffering=0) as file:
        for piece in (_header(tensors), *(_bytes(tensor) for tensor in tensors.values())):
            digest.update(piece)
            size += len(piece)
            while piece:
                piece = piece[file.write(piece):]
        os.fsync(file.fileno())
    return Written(number, size, digest.hexdigest())


def _header(tensors: Part) -> memoryview:
    """What a safetensors file begins with: its own length, then names, types, shapes and places as JSON."""
    entries, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.itemsize
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # what follows is aligned
    return memoryview(len(text).to_bytes(8, "little") + text)


def _bytes(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data)


def read_part(path: Path, written: Written, most: int) -> Part:
    """Read a part, checked by size and digest. Raises Unfit."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        size = path.stat().st_size
        if size != written.bytes or size > most:
            raise Unfit(f"it has {size} bytes and should have {min(written.bytes, most)}")
        data = path.read_bytes()
    except OSError as error:
        raise Unfit(f"{error.strerror or error}") from error
    if digest_of(data) != written.sha256:
        raise Unfit("it is damaged: its digest is another than was written")
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Unfit(f"it holds no tensors ({error})") from error


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
