"""Parts of a checkpoint as safetensors files with sizes and digests."""

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

import torch

from fedsim.record.snapshot import InvalidPart, Tensors

DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
          torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}


class PartFile(NamedTuple):
    """A part's file, as a checkpoint names it."""

    round: int  # after which it was written
    bytes: int
    sha256: str


def write_part(path: Path, tensors: Tensors, round_number: int) -> PartFile:
    """Write a part as a safetensors file and sync it to the disk. Raises OSError if the disk refuses.

    It writes straight from the tensors and takes the digest on the way. The library's own writer copies the tensors
    twice, which takes as long as the disk does.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.unlink(missing_ok=True)  # a copy of the run may share the file by a hard link
    digest, size = hashlib.sha256(), 0
    with open(path, "xb", buffering=0) as file:
        for piece in (_header(tensors), *(_bytes(tensor) for tensor in tensors.values())):
            digest.update(piece)
            size += len(piece)
            while piece:
                piece = piece[file.write(piece):]
        os.fsync(file.fileno())
    return PartFile(round_number, size, digest.hexdigest())


def _header(tensors: Tensors) -> memoryview:
    """Return the header of a safetensors file: its own length, then names, types, shapes and offsets as JSON."""
    entries, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.itemsize
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    return memoryview(len(text).to_bytes(8, "little") + text)


def _bytes(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data)


def read_part(path: Path, file: PartFile, max_bytes: int) -> Tensors:
    """Read a part whose size and digest a checkpoint names as `file`.

    Raises InvalidPart if the file is missing, is another file, or is larger than `max_bytes`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        size = path.stat().st_size
        if size != file.bytes or size > max_bytes:
            raise InvalidPart(f"it has {size} bytes and should have {min(file.bytes, max_bytes)}")
        data = path.read_bytes()
    except OSError as error:
        raise InvalidPart(f"{error.strerror or error}") from error
    if digest_of(data) != file.sha256:
        raise InvalidPart("it is damaged: its digest is not the one that was written")
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InvalidPart(f"it holds no tensors ({error})") from error


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of some bytes, as checkpoints write it."""
    return hashlib.sha256(data).hexdigest()
