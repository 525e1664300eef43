"""Compare the exact mean of the ranks' vectors with a plain all-reduce of float64 vectors, which rounds.

    python benchmarks/exact_mean.py [--ranks 2] [--pairs 7] [--numbers 110000 29000000]

Every rank has the vector of one car. The exact mean is what a round does with it: make the sum, add the vector, combine
over ranks, divide by the weights. The all-reduce has a float64 vector that is ready. The two alternate in one start of
the ranks, which have one thread each. Each pair gives a ratio of wall time.

The vectors are like those of a model: layers whose numbers are of different sizes (made up, normally distributed). The
traffic is what a rank hands over to collectives, in vectors of float32: an all-reduce in float64 has two of them.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from overhead import show

LAYERS = 24  # of the made-up model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2, help="number of ranks (default 2)")
    parser.add_argument("--pairs", type=int, default=7, help="pairs of measurements, at least 1 (default 7)")
    parser.add_argument("--numbers", type=int, nargs="+", default=[110_000, 29_000_000], metavar="N",
                        help="lengths of the vectors (default 110000 29000000)")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        measure(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found.json")
        start_ranks(options.ranks, [sys.executable, __file__, *sys.argv[1:], "--worker", str(found)])
        rows = json.loads(found.read_text())
    for row in rows:
        exact, plain = zip(*row["pairs"], strict=True)
        ours, bare = (1000 * statistics.median(times) for times in (exact, plain))
        print(f"{row['numbers']:,} numbers, {options.ranks} ranks: exact mean {ours:.2f} ms, all-reduce {bare:.2f} ms, "
              f"traffic {row['traffic']:.2f} float32 vectors")
        show("exact mean / all-reduce", [own / other for own, other in row["pairs"]])


def start_ranks(ranks: int, command: list[str]) -> None:
    """Run a command on every rank, with one thread each, and wait for all of them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    many = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen(command, env=os.environ | meeting | many | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
               for rank in range(ranks)]
    if any([process.wait() for process in started]):
        sys.exit("a rank has failed")


def measure(options: argparse.Namespace) -> None:
    """Time both on this rank. The coordinator writes the figures of all vectors."""
    from fedsim.distributed.world import World
    from fedsim.system.allocator import keep_freed_memory

    keep_freed_memory()  # as every program of fedsim does
    world = World.join(device="cpu", threads=1)
    rows = [pairs_of(numbers, options.pairs, world) for numbers in options.numbers]
    if world.is_coordinator:
        options.worker.write_text(json.dumps(rows))
    world.leave()


def pairs_of(numbers: int, pairs: int, world: Any) -> dict[str, Any]:
    """Return the seconds of every pair, and the traffic of one exact mean."""
    import torch

    from fedsim.aggregation.mean import Mean

    draw = torch.Generator().manual_seed(world.rank)
    vector = torch.randn(numbers, generator=draw)
    for place, layer in enumerate(vector.tensor_split(LAYERS)):
        layer.mul_(0.5 ** (place % 8))
    repeats = max(1, 1_000_000 // numbers)
    traffic = 0
    wide = vector.double()

    def exact() -> None:
        for _ in range(repeats):
            gathered = Mean().gather([vector], range(world.size), world.size, world, None)
            gathered.add(world.rank, [vector], 100)
            gathered.combine()

    def plain() -> None:
        for _ in range(repeats):
            world.sum_(wide)

    def timed(action: Any) -> float:
        world.sum_(torch.zeros(1))  # ranks begin together
        started = time.perf_counter()
        action()
        return (time.perf_counter() - started) / repeats

    send = world._collective

    def count(tensor: torch.Tensor, *arguments: Any) -> None:
        nonlocal traffic
        traffic += tensor.numel() * tensor.itemsize
        send(tensor, *arguments)

    world._collective = count
    repeats, most = 1, repeats
    exact()
    sent, repeats, world._collective = traffic, most, send
    plain()
    times = [(timed(exact), timed(plain)) for _ in range(pairs)]
    return {"numbers": numbers, "pairs": times, "traffic": sent / (4 * numbers)}


if __name__ == "__main__":
    main()
