"""Compare all algorithms on streets, each at the best point of a small grid, and print a table in Markdown.

    python benchmarks/algorithms.py --out compared [--jobs 2] [--rounds 16] [--seeds 0 1 2] [--only avg admm]

Each car has one drive of streets. All cars take part in every round and take the same number of local steps. There
are three phases:

1. tune: run every algorithm at every point of its GRID, with a seed that no later phase uses. The point with the
   highest mIoU after the last round is chosen, on the validation drives and never on the test drives.
2. run: run every algorithm at its best point with each of the seeds, and score it after every round on test drives
   that nobody trained on.
3. time: run two rounds of every algorithm, one algorithm after the other, and repeat this --turns times. The result
   is the time of a round as a multiple of FedAvg's.

Every run has a directory under --out. A run that is already there is not repeated, so the program can be stopped and
started again. A car is scored on the test drive that has the car's own kind of place and light, with the final model,
or with its own model if cars have models of their own. The worst car is the one with the lowest of these scores.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TUNING_SEED = 100
Point = dict[str, object]  # options of fedsim
LRS: list[Point] = [{"lr": lr} for lr in (0.1, 0.2)]
SERVER: list[Point] = [{"lr": 0.1, "server-step": step, "server-tau": tau}
                       for step, tau in ((0.01, 0.001), (0.03, 0.01), (0.1, 0.01), (0.3, 0.03))]
GRID: dict[str, list[Point]] = {
    "central": LRS,
    "avg": LRS,
    "prox": [{"mu": 0.01} | point for point in LRS],
    "admm": LRS,
    "scaffold": LRS,
    "dyn": LRS,
    "nova": LRS,
    "avgm": [{"lr": 0.1, "server-momentum": beta, "server-step": step} for beta, step in ((0.3, 1), (0.6, 0.6))],
    "adagrad": SERVER,
    "adam": SERVER,
    "yogi": SERVER,
    "local": LRS,
}
TITLES = {"central": "centralised", "avg": "FedAvg", "prox": "FedProx", "admm": "FedADMM", "scaffold": "SCAFFOLD",
          "dyn": "FedDyn", "nova": "FedNova", "avgm": "FedAvgM", "adagrad": "FedAdagrad", "adam": "FedAdam",
          "yogi": "FedYogi", "local": "cars alone"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time, with one thread each (default 2)")
    parser.add_argument("--rounds", type=int, default=16, help="--rounds of fedsim (default 16)")
    parser.add_argument("--cars", type=int, default=4, help="--cars of fedsim (default 4)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of phase 2 (default 0 1 2)")
    parser.add_argument("--target", type=float, default=0.6, help="mIoU whose cost the table shows (default 0.6)")
    parser.add_argument("--turns", type=int, default=3, help="repetitions of phase 3, at least 1 (default 3)")
    parser.add_argument("--only", nargs="+", choices=GRID, default=list(GRID), metavar="ALGO",
                        help="algorithms to compare (default: all)")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[],
                        help="more options of fedsim: everything after --options")
    options = parser.parse_args()
    names = [name for name in GRID if name in options.only]
    best = tune(names, options)
    compare(best, options)
    pace = time_rounds(best, options)
    print(table(best, pace, options))


def tune(names: list[str], options: argparse.Namespace) -> dict[str, Point]:
    """Run every algorithm at every point of its grid, and return the best point of each."""
    points = [(name, point) for name in names for point in GRID[name]]
    runs = {(name, label(point)): options.out / "tune" / f"{name}-{label(point)}" for name, point in points}
    run_all([command(name, point, runs[name, label(point)], TUNING_SEED, options, "--evaluate-every",
                     str(options.rounds)) for name, point in points], options.jobs)
    best = {}
    for name in names:
        scores = {label(point): records(runs[name, label(point)])[-1]["global"]["miou"] for point in GRID[name]}
        best[name] = max(GRID[name], key=lambda point: scores[label(point)])
        print(f"{name}: " + ", ".join(f"{words} {score:.3f}" for words, score in scores.items()), flush=True)
    return best


def compare(best: dict[str, Point], options: argparse.Namespace) -> None:
    """Run every algorithm at its best point with each of the seeds."""
    run_all([command(name, point, options.out / "run" / f"{name}-{seed}", seed, options, "--eval-split", "test")
             for seed in options.seeds for name, point in best.items()], options.jobs)


def time_rounds(best: dict[str, Point], options: argparse.Namespace) -> dict[str, float]:
    """Return the time that a round trains and combines, as a multiple of FedAvg's: the median over all turns."""
    seconds: dict[str, list[float]] = {name: [] for name in best}
    for turn in range(options.turns):
        for name, point in best.items():
            run = options.out / "time" / f"{name}-{turn}"
            run_all([command(name, point, run, 0, options, "--rounds", "3", "--evaluate-every", "3")], 1)
            rounds = [record["seconds"] for record in records(run)[2:]]  # the first round warms up
            seconds[name].append(statistics.mean(spent["local"] + spent["combine"] for spent in rounds))
    yardstick = "avg" if "avg" in best else next(iter(best))
    return {name: statistics.median(own / avg for own, avg in zip(spent, seconds[yardstick], strict=True))
            for name, spent in seconds.items()}


def table(best: dict[str, Point], pace: dict[str, float], options: argparse.Namespace) -> str:
    """Return the table in Markdown, with the best final mIoU first."""
    rows = []
    for name, point in best.items():
        runs = [records(options.out / "run" / f"{name}-{seed}") for seed in options.seeds]
        final = [run[-1]["global"]["miou"] for run in runs]
        worst = [worst_car(options.out / "run" / f"{name}-{seed}", options.cars) for seed in options.seeds]
        reached = [next((record["round"] for record in run[1:] if record["global"]["miou"] >= options.target), None)
                   for run in runs]
        rounds = None if None in reached else statistics.mean(reached)
        sent = statistics.mean((run[-1]["bytes_up"] + run[-1]["bytes_down"]) / 1e6 for run in runs)
        rows.append((statistics.mean(final), "| " + " | ".join([
            TITLES[name], f"`--algo {name} {' '.join(as_flags(point))}`",
            f"{statistics.mean(final):.3f} ± {statistics.stdev(final) if len(final) > 1 else 0:.3f}",
            f"{statistics.mean(worst):.3f}",
            "–" if rounds is None else f"{rounds:.1f}",
            "–" if rounds is None else f"{rounds * sent:.0f}",
            "–" if rounds is None else f"{rounds * pace[name]:.1f}"]) + " |"))
    head = ["algorithm", "options", "test mIoU", "worst car", f"rounds to {options.target:g}", "MB", "time"]
    return "\n".join(["", "| " + " | ".join(head) + " |", "|---|---|---|---:|---:|---:|---:|",
                      *(row for _, row in sorted(rows, reverse=True))])


def worst_car(run: Path, cars: int) -> float:
    """Return the lowest mIoU of a car, each on the test drive that has its own kind of place and light."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    from fedsim.data import cache
    from fedsim.data.datasets.streets import Streets
    from fedsim.evaluation.evaluate import count_confusion
    from fedsim.evaluation.metrics import scores
    from fedsim.models import build_model
    from fedsim.models.flat import FlatModel

    torch.set_num_threads(1)
    scenes = cache.load(Streets(cars), "test", (80, 60), lambda text: None)
    environment = json.loads((run / "environment.json").read_text())
    names = [car["scenes"][0].rsplit("/", 1)[0] for car in environment["partition"]]
    own = sorted((run / "checkpoints").glob("car-*.safetensors"))
    found = []
    for car in range(cars):
        module = build_model("segnet-small", len(scenes.classes), None)
        module.load_state_dict(load_file(own[car] if own else run / "checkpoints" / "model.safetensors"), strict=False)
        kind = place_and_light(names[car] if len(names) == cars else "", car)
        here = [place for place, drive in enumerate(scenes.drives) if kind in drive]
        found.append(scores(count_confusion(FlatModel(module, torch.device("cpu")), scenes, [np.array(here)])).miou)
    return min(found)


def place_and_light(name: str, car: int) -> str:
    """Return the kind of place and light, such as town-day, of a car's training drive.

    name: of the car's drive, or empty if there is one car with all scenes.
    """
    from fedsim.data.datasets.streets.drives import drive_of

    drive = drive_of("train", car)
    assert not name or f"{drive.kind}-{drive.light}" in name, f"car {car} is {name}"
    return f"{drive.kind}-{drive.light}"


def command(name: str, point: Point, run: Path, seed: int, options: argparse.Namespace,
            *more: str) -> tuple[list[str], Path]:
    """Return a command, without its --out, and the directory of its run."""
    return [sys.executable, "-m", "fedsim.main", "--algo", name, *as_flags(point), "--cars", str(options.cars),
            "--rounds", str(options.rounds), "--seed", str(seed), "--threads", "1", *more, *options.options], run


def as_flags(point: Point) -> list[str]:
    """Return the options of a point as words of a command line."""
    return [word for option, value in point.items() for word in (f"--{option}", str(value))]


def label(point: Point) -> str:
    """Return the name of a point, for the directory of its run."""
    return "_".join(f"{option}={value}" for option, value in point.items())


def run_all(commands: list[tuple[list[str], Path]], jobs: int) -> None:
    """Run the commands whose directories do not exist yet; a directory gets its name when its run is complete."""
    def play(one: tuple[list[str], Path]) -> None:
        words, run = one
        if run.exists():
            return
        part = run.with_name(run.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        run.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([*words, "--out", str(part)], capture_output=True, text=True,
                              env=os.environ | {"OMP_NUM_THREADS": "1"})
        if done.returncode:
            raise SystemExit(f"{' '.join(words)}\n{done.stdout[-500:]}{done.stderr}")
        part.rename(run)
        print(f"{run}: {records(run)[-1]['global']['miou']:.3f}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(play, commands))


def records(run: Path) -> list[dict]:
    """Return the records of a run, from round 0 on."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    main()
