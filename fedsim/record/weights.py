"""A network's weights as a safetensors file, which runs no code when it is loaded."""

from pathlib import Path

import torch
from torch import Tensor, nn

from fedsim.errors import OutputError
from fedsim.system.files import replacing


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the state of a network, on the CPU, and the metadata in a file. Raises OutputError if it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 it is not a dict
            metadata = file.metadata() or {}
        finite = all(tensor.isfinite().all() for tensor in state.values())
    except (OSError, SafetensorError, NotImplementedError) as error:  # the last one: a type that fedsim never writes
        raise OutputError(f"{path} cannot be read as weights ({error}); name a .safetensors file of a run, "
                          "or restore this one") from error
    if not finite:
        raise OutputError(f"{path} holds numbers that are not finite; take another file that a run has written")
    return state, metadata


def fill(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load into a module, which may be on the meta device, the state that was read from `path`.

    Raises OutputError if it is the state of another network.
    """
    wanted = weights_of(module)
    wrong = [name for name in wanted.keys() | state.keys()
             if name not in wanted or name not in state or wanted[name].shape != state[name].shape
             or wanted[name].dtype != state[name].dtype]
    if wrong:
        raise OutputError(f"{path} holds the weights of another network than its run or its model card describes "
                          f"({min(wrong)} differs); take the file that the run wrote")
    counts = {name: torch.zeros_like(tensor, device="cpu") for name, tensor in module.state_dict().items()
              if name in _counts(module)}
    # PyTorch adds a count for every layer, also for one that does not count: that all else is there has been checked.
    module.load_state_dict(state | counts, strict=False, assign=True)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a network's state without BatchNorm's count of batches, which depends on the cars of a rank."""
    counts = _counts(module)
    return {name: tensor for name, tensor in module.state_dict().items() if name not in counts}


def _counts(module: nn.Module) -> set[str]:
    """Return the names of the counts of batches in a network's state."""
    return {f"{name}.num_batches_tracked".lstrip(".") for name, layer in module.named_modules()
            if isinstance(layer, nn.modules.batchnorm._NormBase)}


def save_weights(state: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write `state` (name -> tensor of any device and strides) and `metadata` to `path`, replacing it whole.

    A program that opens `path` finds either the old weights or the new ones. Raises OSError if the disk refuses.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Copies: parameters are views into one vector, and safetensors refuses tensors that share memory.
    tensors = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
               for name, tensor in state.items()}
    try:
        with replacing(path) as new:
            save_file(tensors, new, metadata=metadata)
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from error
