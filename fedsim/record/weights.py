"""Weights as a safetensors file: loading one runs no code."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from fedsim.errors import OutputError

UNSAVED = "num_batches_tracked"


def load_weights(path: Path, module: nn.Module) -> None:
    """Fill a module with the weights of a file. Raises OutputError where they are damaged or another network's."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path} cannot be read as weights ({error}); train the run again") from error
    wanted = weights_of(module)
    wrong = [name for name in wanted.keys() | state.keys()
             if name not in wanted or name not in state or wanted[name].shape != state[name].shape]
    if wrong:
        raise OutputError(f"{path} holds the weights of another network than its run's config.toml describes "
                          f"({min(wrong)} differs); take the file and the config of one run")
    if not all(tensor.isfinite().all() for tensor in state.values()):
        raise OutputError(f"{path} holds numbers that are not finite; train the run again")
    module.load_state_dict(state, strict=False)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """A network's state, but for BatchNorm's count of batches, which depends on the cars a rank played."""
    return {name: tensor for name, tensor in module.state_dict().items() if not name.endswith(UNSAVED)}


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
