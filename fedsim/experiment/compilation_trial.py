"""Compile a network before training, and see whether it computes the same, and in less time."""

import time
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from fedsim.errors import SettingsError
from fedsim.experiment.blame import is_ctrl_c
from fedsim.federation.local_training import LocalTraining
from fedsim.federation.local_work import count_batches
from fedsim.models.compiled import CompiledNetwork
from fedsim.models.flat import FlatModel, norm
from fedsim.seeds import seed_torch

STEPS = 5  # of which the fastest counts
ROUNDING = {"float32": 0.01}  # by which gradients may differ, as a share
ROUNDING_OF_16_BITS = 0.25
LONGEST = 200  # characters of what a compiler says


class Gain(NamedTuple):
    """The gain of compiling, in words, and whether a step takes less time."""

    said: str
    pays: bool


def largest_batch(training: LocalTraining, images: Iterable[int]) -> int:
    """Return the number of scenes in the largest batch that a car trains on. images: the scenes of each car."""
    steps = {size for car, count in enumerate(images) for size in training.work.sizes(training.turn(count, 1, car))}
    return max(-(-size // count_batches(size, training.batch_size)) for size in steps)


def compile_network(name: str, model: FlatModel, training: LocalTraining, batch: int, size: tuple[int, int]) -> Gain:
    """Let the model train with a compiled network from now on.

    name: the value of --model. batch: the number of scenes, size: (width, height) in pixels, of what is compiled.
    Raises SettingsError if there is no compiler, or if the network cannot be compiled, or computes something else then.
    """
    draw = torch.Generator().manual_seed(1)
    pictures = torch.randn(batch, 3, size[1], size[0], generator=draw)
    labels = torch.randint(0, training.classes or 2, (batch, size[1], size[0]), generator=draw).to(model.device)
    pictures = pictures.contiguous(memory_format=torch.channels_last).to(model.device)
    norms = model.copy_norms()

    def step(seed: int = 1) -> tuple[float, Tensor]:
        """Return the seconds of a step, and its gradient (d + e,)."""
        model.load_norms(norms)
        model.gradient.zero_()
        seed_torch(seed, "trial")
        started = time.perf_counter()
        training.add_gradient(model, pictures, labels, None, training.precision.scaling(model.device))
        model.gradient.sum().item()  # waits for the device
        return time.perf_counter() - started, model.gradient.clone()

    model.module.train()
    first, other = step(1)[1], step(2)[1]
    plain, compiled = model.network, CompiledNetwork(model.module, batch)
    model.network = compiled
    try:
        compiling, gradient = step()
    except BaseException as error:  # whatever a compiler, or a user's own network, does
        if is_ctrl_c(error) or isinstance(error, torch.OutOfMemoryError):
            raise
        raise SettingsError(f"--compile: --model {name} cannot be compiled here: {_reason(error)}; leave --compile out"
                            ) from error
    allowed = ROUNDING.get(training.precision.name, ROUNDING_OF_16_BITS) * norm(first)
    if norm(first - other) <= allowed < norm(first - gradient):  # a network that draws at random draws anew
        raise SettingsError(f"--compile: --model {name} has another gradient after compiling, by "
                            f"{norm(first - gradient) / norm(first):.0%}: leave --compile out")
    seconds: dict[object, list[float]] = {plain: [], compiled: []}
    for _ in range(STEPS):
        for network, found in seconds.items():
            model.network = network  # type: ignore[assignment]  # one of the two
            found.append(step()[0])
    model.load_norms(norms)
    model.gradient.zero_()
    return _tell(compiling, min(seconds[compiled]), min(seconds[plain]), f"{batch} pictures of {size[0]}x{size[1]}")


def _tell(compiling: float, now: float, before: float, pictures: str) -> Gain:
    said = (f"--compile: compiling took {compiling:.1f} s. A step with {pictures} takes {now * 1e3:.1f} ms, and "
            f"{before * 1e3:.1f} ms without")
    if now >= before:
        return Gain(f"{said}, so it does not pay here: leave it out", False)
    return Gain(f"{said}, so it pays after {compiling / (before - now):,.0f} steps", True)


def _reason(error: BaseException) -> str:
    """Return why compiling failed, in one sentence. Compilers write pages."""
    error = getattr(error, "inner_exception", error)  # what a backend of torch.compile has raised
    said = str(error).strip()
    if "compiler found" in said:
        return "there is no C++ compiler on this machine (install g++)"
    return f"{type(error).__name__}: {' '.join(said.partition(chr(10))[0].split())[:LONGEST]}"
