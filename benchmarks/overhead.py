"""Measure what fedsim costs beyond the training itself, as ratios within one run of this program.

    python benchmarks/overhead.py [--pairs 7] [--model segnet-small] [--image-size 80x60 240x180 ...]

1. fedsim on one rank with one thread is compared with a bare PyTorch loop, written without a thought for speed. Both
   take the same number of local SGD steps, with the same model, scenes and batch size. They alternate, each in its
   own process. Each pair gives a ratio of processor time over the rounds, without evaluation, one of wall time, and
   one of peak memory. Other programs disturb processor time less; on an otherwise idle machine it is the wall time.
   This is done for pictures of several sizes. A cell of the table has the median and the quartiles of the ratios.
2. The processor time from the start to the first local step is compared with that of `import torch`, with a warm scene
   cache.

Ratios can be compared between machines. scale.py measures the cost of a car that hardly trains, and how it grows with
the number of cars.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CARS, ROUNDS = 4, 2  # of measurement 1, after one round of warm-up
SIZES = ["80x60", "120x90", "240x180", "480x360"]
MOST_STEPS, LEAST_STEPS, PIXELS = 24, 2, 16 * 120 * 90  # of a car in a round: fewer, if pictures are large
FIGURES = ("processor", "seconds", "peak_mib")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of runs, at least 1 (default 7)")
    parser.add_argument("--model", default="segnet-small", help="--model of fedsim (default segnet-small)")
    parser.add_argument("--image-size", nargs="+", default=SIZES, metavar="SIZE",
                        help=f"values of --image-size of fedsim (default {' '.join(SIZES)})")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(WORKERS[options.worker](options)))
        return
    print(f"1. fedsim / bare loop, {options.model}, one thread, {options.pairs} pairs: medians (and quartiles)\n")
    print("| pictures | steps | processor time | wall time | peak memory |\n|---|---|---|---|---|", flush=True)
    for size in options.image_size:
        run("bare", options.model, size)  # builds the scene cache and fills the page cache
        pairs = [(run("fedsim", options.model, size), run("bare", options.model, size)) for _ in range(options.pairs)]
        steps = pairs[0][0]["steps"]
        assert all(side["steps"] == steps for pair in pairs for side in pair)
        cells = [cell([ours[figure] / bare[figure] for ours, bare in pairs]) for figure in FIGURES]
        print(f"| {size} | {steps} | " + " | ".join(cells) + " |", flush=True)
    print("\n2. start to first local step / import torch")
    starts = [(run("start", options.model, SIZES[0]), run("import", options.model, SIZES[0])["seconds"])
              for _ in range(options.pairs)]
    show("all", [start["seconds"] / imported for start, imported in starts])
    show("without scoring round 0", [(start["seconds"] - start["scoring"]) / imported for start, imported in starts])


def quartiles(values: list[float]) -> list[float]:
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3


def cell(values: list[float]) -> str:
    low, middle, high = quartiles(values)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def show(figure: str, values: list[float]) -> None:
    low, middle, high = quartiles(values)
    print(f"   {figure:24} median {middle:.3f}   quartiles {low:.3f} to {high:.3f}   all {min(values):.3f} to "
          f"{max(values):.3f}", flush=True)


def run(worker: str, model: str, size: str) -> dict[str, float]:
    return in_process(__file__, worker, "--model", model, "--image-size", size)


def steps_of(size: str) -> int:
    """Return the steps of a car in a round with pictures of a size."""
    width, height = map(int, size.split("x"))
    return max(LEAST_STEPS, min(MOST_STEPS, PIXELS // (width * height)))


def in_process(program: str, worker: str, *arguments: str) -> dict[str, float]:
    """Run one worker of a program in its own process, with one thread, and return its figures."""
    command = [sys.executable, program, "--worker", worker, *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                            env=os.environ | {"OMP_NUM_THREADS": "1"}).stdout
    return json.loads(output.splitlines()[-1])


def peak_mib() -> float:
    """Return the peak memory of this process, in MiB.

    On Linux ru_maxrss is of no use: a process starts with that of its parent, even after exec.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peak = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)  # KiB
    if peak is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
    return peak / 1024


def now() -> tuple[float, float]:
    """Return the wall time and the processor time of this process, in seconds."""
    return time.perf_counter(), time.process_time()


def since(started: tuple[float, float]) -> dict[str, float]:
    return {figure: end - begin for figure, end, begin in zip(("seconds", "processor"), now(), started, strict=True)}


def fedsim_rounds(options: argparse.Namespace) -> dict[str, float]:
    """Time rounds of FedAvg on one rank, which plays four cars in turn."""
    from fedsim.distributed.world import World
    from fedsim.experiment.assembly import assemble
    from fedsim.federation.rounds import initial_state, run_round
    from fedsim.settings.fields import Settings
    from fedsim.settings.methods import make_methods
    from fedsim.system.allocator import keep_freed_memory
    from fedsim.system.console import SILENT

    keep_freed_memory()  # as every program of fedsim does
    size, = options.image_size
    settings = Settings(algo="avg", cars=CARS, model=options.model, image_size=size, threads=1,
                        local_steps=steps_of(size))
    federation = assemble(settings, make_methods(settings), World.join(threads=1), SILENT).federation
    state = run_round(federation, initial_state(federation)).state
    started, first = now(), state.sequential_steps
    for _ in range(ROUNDS):
        state = run_round(federation, state).state
    return since(started) | {"peak_mib": peak_mib(), "steps": CARS * (state.sequential_steps - first)}


def bare_rounds(options: argparse.Namespace) -> dict[str, float]:
    """Time the same steps in a plain script, on the scenes of fedsim's cache."""
    import torch
    import torch.nn.functional as F

    from fedsim.data import cache
    from fedsim.data.datasets.streets import Streets
    from fedsim.data.pixels import nearest
    from fedsim.models import build_model
    from fedsim.models.outputs import read_outputs

    torch.set_num_threads(1)
    size, = options.image_size
    width, height = map(int, size.split("x"))
    scenes = cache.load(Streets(CARS), "train", (width, height), None)
    own_height, own_width = scenes.labels[0].shape
    rows, columns = nearest(own_height, height), nearest(own_width, width)
    model = build_model(options.model, len(scenes.classes), None)
    weights = torch.ones(len(scenes.classes))
    steps = 0

    def one_round() -> int:
        taken = 0
        for car in range(CARS):
            share = torch.arange(car, len(scenes), CARS)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            for batch in share[torch.randperm(len(share))].split(2)[: steps_of(size)]:
                pixels = torch.from_numpy(scenes.images[batch.numpy()]).float()
                deviation, mean = torch.std_mean(pixels, (2, 3), keepdim=True)
                images = (pixels - mean) / deviation
                truth = torch.from_numpy(scenes.labels.stack(batch.numpy())[:, rows][:, :, columns]).long()
                if torch.rand(()) < 0.5:
                    images, truth = images.flip(-1), truth.flip(-1)
                optimizer.zero_grad()
                logits, auxiliary = read_outputs(model(images))
                loss = F.cross_entropy(logits, truth, weight=weights, ignore_index=255)
                for more in auxiliary:
                    more = F.interpolate(more, (height, width), mode="bilinear")
                    loss = loss + 0.4 * F.cross_entropy(more, truth, weight=weights, ignore_index=255)
                loss.backward()
                optimizer.step()
                taken += 1
        return taken

    one_round()
    started = now()
    for _ in range(ROUNDS):
        steps += one_round()
    return since(started) | {"peak_mib": peak_mib(), "steps": steps}


def first_step(options: argparse.Namespace) -> dict[str, float]:
    """Return the processor time of the command from its start to its first local step, where it is stopped."""
    from fedsim.system.allocator import keep_freed_memory
    from fedsim.system.collector import put_off_collection

    put_off_collection()  # both as every program of fedsim does
    keep_freed_memory()
    from fedsim import main
    from fedsim.experiment import assembly
    from fedsim.federation import car

    scoring = []
    score = assembly.score

    def score_and_time(*arguments: object) -> object:
        before = time.process_time()
        result = score(*arguments)
        scoring.append(time.process_time() - before)
        return result

    def stop(*arguments: object, **named: object) -> None:
        print(json.dumps({"seconds": time.process_time(), "scoring": sum(scoring)}), flush=True)
        os._exit(0)

    assembly.score, car.train_locally = score_and_time, stop
    with tempfile.TemporaryDirectory() as folder:
        main.main(["--algo", "avg", "--threads", "1", "--out", f"{folder}/run"])
    raise AssertionError("the run took no local step")


def import_torch(options: argparse.Namespace) -> dict[str, float]:
    import torch  # noqa: F401

    return {"seconds": time.process_time()}


WORKERS = {"fedsim": fedsim_rounds, "bare": bare_rounds, "start": first_step, "import": import_torch}

if __name__ == "__main__":
    main()
