"""A trial of a precision before training: the device has it, the network bears it, and it is no slower."""

import time
from collections.abc import Callable

import torch
from torch import nn

from fedsim.errors import SettingsError
from fedsim.experiment.blame import blame_setting
from fedsim.federation.precision import Precision
from fedsim.models.flat import FlatModel
from fedsim.seeds import seed_torch

BATCH = 2  # scenes
STEPS = 3  # of which the fastest counts


def check_precision(name: str, model: str, build: Callable[[], nn.Module], size: tuple[int, int],
                    device: torch.device) -> str | None:
    """Try a step with a precision. Return a warning if float32 is faster on this CPU, or None.

    name: the value of --precision; model: that of --model; build: makes the network; size: (width, height) in pixels of
    what it trains on. Raises SettingsError if the device lacks the precision, or if the network does not bear it.
    """
    if name == "float32":
        return None
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise SettingsError(f"--precision bf16: {torch.cuda.get_device_name(device)} does not compute with it; take "
                            "fp16 or float32")
    with blame_setting(f"--precision {name}: --model {model} does not train with it"):
        seconds = {kind: _time_step(build(), Precision(kind), size, device) for kind in (name, "float32")}
    if device.type != "cpu" or seconds[name] <= seconds["float32"]:
        return None
    now, plain = (f"{seconds[kind] * 1e3:.1f} ms" for kind in (name, "float32"))
    return (f"--precision {name}: a step with {BATCH} pictures of {size[0]}x{size[1]} takes {now} on this CPU, and "
            f"{plain} with float32: leave it out here")


def _time_step(module: nn.Module, precision: Precision, size: tuple[int, int], device: torch.device) -> float:
    """Return the seconds of a step: the network forward and backward."""
    model, found = FlatModel(module, device), []
    pictures = torch.randn(BATCH, 3, size[1], size[0], generator=torch.Generator().manual_seed(1))
    pictures = pictures.contiguous(memory_format=torch.channels_last).to(device)
    for _ in range(STEPS):
        seed_torch(1, "trial")
        started = time.perf_counter()
        returned = precision.compute(model.module, pictures)
        (returned if isinstance(returned, torch.Tensor) else returned.logits).square().mean().backward()
        model.gradient.sum().item()  # waits for the device
        found.append(time.perf_counter() - started)
    return min(found)
