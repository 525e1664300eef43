"""Compare all algorithms on streets, each at the best of a small declared grid, and print the table as Markdown.

    python benchmarks/algorithms.py --out compared [--jobs 2] [--rounds 16] [--seeds 0 1 2] [--only avg admm]

A car is a drive of streets; all cars take part in every round with the same local steps. Phase by phase:

1. tune: every algorithm at every point of its GRID, on a seed of its own, by the last round's mIoU on the validation
   drives (never the test drives).
2. run: its best point with each of the seeds, scored after every round on test drives that nobody trained on.
3. time: two rounds of each, in turn, --turns times: what a round takes as a multiple of FedAvg's.

Every run is a directory under --out. What is there already is not run again, so the program may be stopped and started.
The worst car is the one for whose own kind of place and light the final model does worst, on the test drive of that
kind; where cars have models of their own, each is asked for its own kind.
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
LRS = [{"lr": lr} for lr in (0.1, 0.2)]
SERVER = [{"lr": 0.1, "server-step": step, "server-tau": tau}
          for step, tau in ((0.01, 0.001), (0.03, 0.01), (0.1, 0.01), (0.3, 0.03))]
GRID: dict[str, list[dict[str, object]]] = {
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
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each (default 2)")
    parser.add_argument("--rounds", type=int, default=16, help="as fedsim's --rounds (default 16)")
    parser.add_argument("--cars", type=int, default=4, help="as fedsim's --cars (default 4)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the final runs (default 0 1 2)")
    parser.add_argument("--target", type=float, default=0.6, help="mIoU whose cost is asked for (default 0.6)")
    parser.add_argument("--turns", type=int, default=3, help="of timing, at least 1 (default 3)")
    parser.add_argument("--only", nargs="+", choices=GRID, default=list(GRID), metavar="ALGO", help="a few of them")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="further options of fedsim, to the end")
    options = parser.parse_args()
    names = [name for name in GRID if name in options.only]
    best = tune(names, options)
    compare(best, options)
    pace = time_rounds(best, options)
    print(table(best, pace, options))


def tune(names: list[str], options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """The best point of every algorithm's grid."""
    points = [(name, point) for name in names for point in GRID[name]]
    runs = {(name, label(point)): options.out / "tune" / f"{name}-{label(point)}" for name, point in points}
    in_parallel([command(name, point, runs[name, label(point)], TUNING_SEED, options, "--evaluate-every",
                         str(options.rounds)) for name, point in points], options.jobs)
    best = {}
    for name in names:
        scores = {label(point): records(runs[name, label(point)])[-1]["global"]["miou"] for point in GRID[name]}
        best[name] = max(GRID[name], key=lambda point: scores[label(point)])
        print(f"{name}: " + ", ".join(f"{words} {score:.3f}" for words, score in scores.items()), flush=True)
    return best


def compare(best: dict[str, dict[str, object]], options: argparse.Namespace) -> None:
    in_parallel([command(name, point, options.out / "run" / f"{name}-{seed}", seed, options, "--eval-split", "test")
                 for seed in options.seeds for name, point in best.items()], options.jobs)


def time_rounds(best: dict[str, dict[str, object]], options: argparse.Namespace) -> dict[str, float]:
    """What a round's training and combining takes, as a multiple of FedAvg's: the median over the turns."""
    seconds: dict[str, list[float]] = {name: [] for name in best}
    for turn in range(options.turns):
        for name, point in best.items():
            run = options.out / "time" / f"{name}-{turn}"
            in_parallel([command(name, point, run, 0, options, "--rounds", "3", "--evaluate-every", "3")], 1)
            rounds = [record["seconds"] for record in records(run)[2:]]  # the first warms up
            seconds[name].append(statistics.mean(spent["local"] + spent["combine"] for spent in rounds))
    yardstick = "avg" if "avg" in best else next(iter(best))
    return {name: statistics.median(own / avg for own, avg in zip(spent, seconds[yardstick], strict=True))
            for name, spent in seconds.items()}


def table(best: dict[str, dict[str, object]], pace: dict[str, float], options: argparse.Namespace) -> str:
    """Markdown, the best final mIoU first."""
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
            TITLES[name], f"`--algo {name} {' '.join(words(point))}`",
            f"{statistics.mean(final):.3f} ± {statistics.stdev(final) if len(final) > 1 else 0:.3f}",
            f"{statistics.mean(worst):.3f}",
            "–" if rounds is None else f"{rounds:.1f}",
            "–" if rounds is None else f"{rounds * sent:.0f}",
            "–" if rounds is None else f"{rounds * pace[name]:.1f}"]) + " |"))
    head = ["algorithm", "options", "test mIoU", "worst car", f"rounds to {options.target:g}", "MB", "time"]
    return "\n".join(["", "| " + " | ".join(head) + " |", "|---|---|---|---:|---:|---:|---:|",
                      *(row for _, row in sorted(rows, reverse=True))])


def worst_car(run: Path, cars: int) -> float:
    """The lowest mIoU over the cars' own kinds of place and light, on the test drive of each."""
    import torch
    from safetensors.torch import load_file

    from fedsim.data import cache
    from fedsim.data.datasets.streets import Streets
    from fedsim.evaluation.evaluate import predict
    from fedsim.evaluation.metrics import confusion, scores
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
        kind = kind_of(names[car] if len(names) == cars else "", car)
        here = [place for place, drive in enumerate(scenes.drives) if kind in drive]
        logits = predict(FlatModel(module, torch.device("cpu")), scenes, here)
        found.append(scores(confusion(scenes.labels[here], logits.argmax(1), len(scenes.classes))).miou)
    return min(found)


def kind_of(name: str, car: int) -> str:
    """Such as town-day: of the car, or of the drive that the car of this number would have."""
    from fedsim.data.datasets.streets.drives import drive_of

    drive = drive_of("train", car)
    assert not name or f"{drive.kind}-{drive.light}" in name, f"car {car} is {name}"
    return f"{drive.kind}-{drive.light}"


def command(name: str, point: dict[str, object], run: Path, seed: int, options: argparse.Namespace,
            *more: str) -> tuple[list[str], Path]:
    return [sys.executable, "-m", "fedsim.main", "--algo", name, *words(point), "--cars", str(options.cars),
            "--rounds", str(options.rounds), "--seed", str(seed), "--threads", "1", *more, *options.options], run


def words(point: dict[str, object]) -> list[str]:
    return [word for option, value in point.items() for word in (f"--{option}", str(value))]


def label(point: dict[str, object]) -> str:
    return "_".join(f"{option}={value}" for option, value in point.items())


def in_parallel(commands: list[tuple[list[str], Path]], jobs: int) -> None:
    """Run those whose directory is not there yet; a run takes its name when it is complete."""
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
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    main()
