"""Measure what a car costs one rank, from 8 cars to 1,024: time beyond its training steps, and memory.

    python benchmarks/scale.py [--pairs 3] [--cars 8 64 512 1024]

1. Milliseconds per car and round beyond training. The network is a perceptron of 0.1 M parameters. All cars take part
   in every round, and each takes one step on a fixed batch, with one thread. The same steps without a federation are
   timed right after each round and subtracted from it. A row of the table has the time of a bare averaging loop (load
   the average, add up the result). A column has the number of vectors that an algorithm keeps and sends for a car.
   The median keeps all contributions until the round ends, and then sorts them.
2. Peak memory of a rank whose cars keep their memory on disk, with most cars compared with fewest cars.

Every measurement runs in its own process. Times are processor time, which other programs disturb less than wall time;
on an otherwise idle machine the two are the same. They are valid for this machine only; ratios can be compared
between machines.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overhead import in_process, peak_mib, show

CAR_ROUNDS = 1024  # least number of cars times rounds that a process times; it times three rounds or more
ALGORITHMS = ("avg", "scaffold", "dyn", "nova", "admm", "avg, median")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="processes for each figure, at least 1 (default 3)")
    parser.add_argument("--cars", type=int, nargs="+", default=[8, 64, 512, 1024], metavar="N",
                        help="numbers of cars, in ascending order (default 8 64 512 1024)")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--algo", choices=ALGORITHMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(WORKERS[options.worker](options.algo, options.cars[0])))
        return
    time_table(options.pairs, options.cars)
    fewest, most = options.cars[0], options.cars[-1]
    print(f"2. peak memory with the cars' memory on disk, {most:,} cars / {fewest:,} cars")
    for algo in ("avg", "admm"):
        pairs = [[measure("memory", algo, cars)["peak_mib"] for cars in (most, fewest)] for _ in range(options.pairs)]
        show(f"{algo}, from {statistics.median(few for _, few in pairs):.0f} MiB", [many / few for many, few in pairs])


def time_table(pairs: int, counts: list[int]) -> None:
    """Measure and print the table of times, row by row."""
    print("1. milliseconds per car and round beyond training, and as a multiple of avg's")
    print(f"   {'':14}{'vectors':>8}" + "".join(f"{f'{cars:,} cars':>16}" for cars in counts), flush=True)
    yardstick: list[float] = []
    for algo in ALGORITHMS:
        runs = [[measure("time", algo, cars) for _ in range(pairs)] for cars in counts]
        beyond = [statistics.median(run["beyond"] for run in some) for some in runs]
        yardstick = yardstick or beyond
        print(f"   {algo:14}{runs[0][0]['vectors']:8}{cells(beyond, yardstick)}", flush=True)
        if algo == "avg":
            loop = [statistics.median(run["loop"] for run in some) for some in runs]
            print(f"   {'bare loop':22}{cells(loop, yardstick)}", flush=True)


def cells(row: list[float], yardstick: list[float]) -> str:
    return "".join(f"{own:9.3f} ({own / avg:4.1f})" for own, avg in zip(row, yardstick, strict=True))


def measure(worker: str, algo: str, cars: int) -> dict[str, float]:
    return in_process(__file__, worker, "--algo", algo, "--cars", str(cars))


def perceptron_federation(algo: str, cars: int, folder: Path | None = None) -> Any:
    """Make a federation of a perceptron of 101,770 parameters, whose cars take one step a round on the same batch."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from fedsim.aggregation import Mean, Median
    from fedsim.algorithms import FedADMM, FedAvg, FedDyn, FedNova, Scaffold
    from fedsim.data.augment import Unchanged
    from fedsim.distributed.world import World
    from fedsim.federation.federation import Car, Federation, Fleet, Method, Schedule
    from fedsim.federation.local_training import LocalTraining
    from fedsim.federation.local_work import Epochs
    from fedsim.federation.memories import make_memories
    from fedsim.federation.optimizers import SGD
    from fedsim.models.flat import FlatModel

    world, batch = World.join(device="cpu", threads=1), (torch.randn(8, 784), torch.randint(0, 10, (8,)))

    class Fixed:
        def __len__(self) -> int:
            return 8

        def batch(self, positions: object, augment: object = None) -> tuple[torch.Tensor, torch.Tensor]:
            return batch

    classes = {"avg": FedAvg, "scaffold": Scaffold, "dyn": FedDyn, "nova": FedNova, "admm": FedADMM}
    module = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    model, algorithm = FlatModel(module, world.device), classes[algo.split(",")[0]]()
    return Federation(
        world=world, model=model, training=LocalTraining(Epochs(1, 1), 8, SGD(), F.cross_entropy, Unchanged, 0),
        method=Method(algorithm, Median() if algo.endswith("median") else Mean()),
        schedule=Schedule(rounds=10**6, lr=1e-3, participation=1.0, seed=0),
        fleet=Fleet((Car("car", 8),) * cars, (0,) * cars, (8,) * cars, dict.fromkeys(range(cars), Fixed())),
        memories=make_memories(algorithm.init_memory(model.theta), range(cars), folder))


def time_beyond_training(algo: str, cars: int) -> dict[str, float]:
    """Return the milliseconds per car that a round takes beyond its training steps."""
    import torch

    from fedsim.federation.bundles import to_tensors
    from fedsim.federation.memories import memory_bytes
    from fedsim.federation.rounds import initial_state, run_round

    federation = perceptron_federation(algo, cars)
    model, training = federation.model, federation.training
    step, (inputs, targets) = training.optimizer.start(), federation.fleet.scenes[0].batch(None)
    state = run_round(federation, initial_state(federation)).state
    state = run_round(federation, state).state  # after two rounds the system has given all memory that is needed

    def one_round() -> None:
        nonlocal state
        state = run_round(federation, state).state

    def steps_alone() -> None:
        for _ in range(cars):
            model.gradient.zero_()
            training.criterion(model.module(inputs), targets).backward()
            step.take(model.parameters, model.gradient, federation.schedule.lr)

    def averaging_alone() -> None:
        """Do what a bare loop does beyond its steps: load the average, and add up the result."""
        start, total = model.parameters.clone(), torch.zeros_like(model.parameters)
        for _ in range(cars):
            model.parameters.copy_(start)
            total.add_(model.parameters, alpha=1 / cars)

    times = [[milliseconds(action) / cars for action in (one_round, steps_alone, averaging_alone)]
             for _ in range(max(3, CAR_ROUNDS // cars))]
    memory = federation.method.algorithm.init_memory(model.theta)
    kept = memory_bytes(memory) // (model.theta.numel() * model.theta.itemsize)
    return {"beyond": statistics.median(full - steps for full, steps, _ in times),
            "loop": statistics.median(loop for _, _, loop in times),
            "vectors": kept + sum(part.ndim for part in to_tensors(federation.contribution_like))}


def milliseconds(action: Callable[[], None]) -> float:
    started = time.process_time()
    action()
    return 1000 * (time.process_time() - started)


def peak_memory(algo: str, cars: int) -> dict[str, float]:
    """Return the peak memory of three rounds with the cars' memory on disk."""
    from fedsim.federation.rounds import initial_state, run_round

    with tempfile.TemporaryDirectory() as folder:
        federation = perceptron_federation(algo, cars, Path(folder))
        state = initial_state(federation)
        for _ in range(3):
            state = run_round(federation, state).state
        federation.memories.close()
    return {"peak_mib": peak_mib()}


WORKERS = {"time": time_beyond_training, "memory": peak_memory}

if __name__ == "__main__":
    main()
