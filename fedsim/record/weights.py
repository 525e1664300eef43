"""Weights as a safetensors file: loading one runs no code."""

import os
from pathlib import Path

import torch
from torch import Tensor


def save_weights(state: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write `state` (name -> tensor of any device and strides) and `metadata` to `path`, replacing it whole.

    Written beside and renamed: whoever opens `path`, at any moment, finds either the old weights or the new.
    Raises OSError where the disk refuses.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Copies: parameters are views into one vector, and safetensors refuses tensors that share memory.
    tensors = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
               for name, tensor in state.items()}
    path = Path(path)
    beside = path.with_name(f".{path.name}.part")
    try:
        save_file(tensors, beside, metadata=metadata)
        os.replace(beside, path)
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        beside.unlink(missing_ok=True)
