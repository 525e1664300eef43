"""The costs of a network: its parameters, its arithmetic, and the time that it takes on this machine now."""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fedsim.models.outputs import Outputs

BATCH = 2  # pictures of a training step
SECONDS = 0.5  # in which a piece of work is repeated
LEAST, MOST = 3, 20  # repetitions, not counting the first one, in which memory is got


class Costs(NamedTuple):
    """The costs of a network for pictures of one size."""

    parameters: int
    flops: int  # operations for the logits of one picture; a multiplication and an addition are two
    seeing: float  # seconds for the logits of one picture
    training: float  # seconds of a training step without the optimiser, divided by its pictures


def measure_costs(network: nn.Module, classes: int, image_size: tuple[int, int]) -> Costs:
    """Measure a network on the CPU, with as many threads as torch uses. image_size: (width, height) in pixels.

    Seconds are medians. The network's gradients and running statistics change.
    """
    width, height = image_size
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pictures = torch.randn(BATCH, 3, height, width).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, classes, (BATCH, height, width))

    def see() -> Tensor:
        with torch.inference_mode():
            return network(pictures[:1])

    def train() -> None:
        returned = network(pictures)
        logits = returned.logits if isinstance(returned, Outputs) else returned
        F.cross_entropy(logits, labels).backward()

    network.eval()
    with FlopCounterMode(display=False) as counter:
        see()
    seeing = _time(see)
    network.train()
    return Costs(sum(one.numel() for one in network.parameters()), counter.get_total_flops(), seeing,
                 _time(train) / BATCH)


def _time(work: Callable[[], object]) -> float:
    """Return the median time of a piece of work, in seconds."""
    work()
    taken: list[float] = []
    while len(taken) < LEAST or (sum(taken) < SECONDS and len(taken) < MOST):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return median(taken)
