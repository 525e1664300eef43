"""Measure whether networks train faster on a CPU in the layout that fedsim gives them, channels_last, or row by row.

    python benchmarks/memory_layouts.py [--models segnet-small ...] [--image-size 80x60 ...] [--batches 2 8]

Two copies of a network take the same step, forward and backward, in turns on one thread. Each turn gives a ratio of the
time row by row to that in channels_last: above 1, channels_last is faster.
"""

import argparse
import copy
import statistics
import time
from itertools import product

import torch
import torch.nn.functional as F
from torch import nn

from fedsim.models import MODELS, build_model
from fedsim.models.outputs import read_outputs
from fedsim.system.allocator import keep_freed_memory

CLASSES, LEAST, MOST = 11, 3, 60  # turns
LAYOUTS = {"rows": torch.contiguous_format, "channels_last": torch.channels_last}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*MODELS], metavar="MODEL", help="values of --model of fedsim")
    parser.add_argument("--image-size", nargs="+", default=["80x60", "120x90", "240x180", "480x360"], metavar="SIZE")
    parser.add_argument("--batches", nargs="+", type=int, default=[2, 8], metavar="N", help="pictures of a step")
    parser.add_argument("--seconds", type=float, default=8, help="to take turns for, of each row (default 8)")
    options = parser.parse_args()
    keep_freed_memory()  # as every program of fedsim does: without it the layout that takes less memory is faster
    torch.set_num_threads(1)
    print("model, size, pictures: time row by row / time in channels_last, median (quartiles)")
    for name, size, batch in product(options.models, options.image_size, options.batches):
        width, height = map(int, size.split("x"))
        ratios = compare(build_model(name, CLASSES, None), torch.randn(batch, 3, height, width), options.seconds)
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        print(f"{name}, {size}, {batch}: {middle:.2f} ({low:.2f} to {high:.2f}), {len(ratios)} turns", flush=True)


def compare(network: nn.Module, pictures: torch.Tensor, seconds: float) -> list[float]:
    """Return the ratios of the times of steps, one of each turn."""
    labels = torch.randint(0, CLASSES, (len(pictures), *pictures.shape[2:]))
    sides = {name: (copy.deepcopy(network).to(memory_format=layout),  # type: ignore[call-overload]
                    pictures.contiguous(memory_format=layout)) for name, layout in LAYOUTS.items()}
    for side in sides.values():
        time_step(*side, labels)
    ratios: list[float] = []
    started = time.perf_counter()
    while len(ratios) < LEAST or (time.perf_counter() - started < seconds and len(ratios) < MOST):
        took = {name: time_step(*side, labels) for name, side in sides.items()}
        ratios.append(took["rows"] / took["channels_last"])
    return ratios


def time_step(network: nn.Module, pictures: torch.Tensor, labels: torch.Tensor) -> float:
    started = time.perf_counter()
    network.zero_grad(set_to_none=False)
    F.cross_entropy(read_outputs(network(pictures)).logits, labels).backward()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
