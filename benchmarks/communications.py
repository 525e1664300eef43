"""Measure what a federation loses by communicating seldom, at equal pictures and equal sequential steps.

    python benchmarks/communications.py --out DIR [--rounds 16 32 80 160 400] [--seeds 3] [--jobs 2] [--figure FILE]

FedAvg trains the four cars of streets for 800 steps each, in so many rounds, with the momentum averaged along with the
model. Centralised training takes the same 800 steps on the same pictures (`central-wide`). Each is a comparison by
`fedsim compare` with one seed after the other, at the best of some learning rates, chosen on the validation drives and
scored on the test drives. The program prints a table in Markdown and draws a figure. A comparison that is already
under --out is not repeated.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

STEPS = 800  # of each car, one after another
SCORES = 16  # in a run, the last of them at its end
LRS = {"central-wide": "0.1,0.15,0.2,0.3,0.5", "avg": "0.15,0.2,0.3"}


class Point(NamedTuple):
    """The result of one comparison: means over seeds, and standard deviations."""

    lr: float
    miou: float
    deviation: float
    megabytes: float  # all cars, both ways, all rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the comparisons")
    parser.add_argument("--rounds", type=int, nargs="+", default=[16, 32, 80, 160, 400],
                        help="numbers of rounds, divisors of 800 (default 16 32 80 160 400)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each comparison (default 3)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time, with one thread each (default 2)")
    parser.add_argument("--figure", type=Path, help="the figure, a PNG (default: communications.png under --out)")
    options = parser.parse_args()
    if wrong := [rounds for rounds in options.rounds if rounds < 1 or STEPS % rounds]:
        parser.error(f"--rounds: {wrong[0]} does not divide {STEPS}")
    wide = play("central-wide", ["--rounds", "16"], options.out / "central-wide", options)
    points = {rounds: play("avg", of_rounds(rounds), options.out / str(rounds), options) for rounds in options.rounds}
    print("\n| rounds | steps in a round | MB | learning rate | test mIoU | to central, same steps |\n"
          "|---:|---:|---:|---:|---:|---:|")
    for rounds, point in points.items():
        print(f"| {rounds} | {STEPS // rounds} | {point.megabytes:,.0f} | {point.lr:g} | {point.miou:.3f} ± "
              f"{point.deviation:.3f} | {point.miou - wide.miou:+.3f} |")
    print(f"| central-wide | | 0 | {wide.lr:g} | {wide.miou:.3f} ± {wide.deviation:.3f} | |")
    draw(points, wide, options.figure or options.out / "communications.png")


def of_rounds(rounds: int) -> list[str]:
    """Return the settings of a run with so many rounds."""
    return ["--rounds", str(rounds), "--local-steps", str(STEPS // rounds), "--momentum-across-rounds", "average",
            "--evaluate-every", str(max(1, rounds // SCORES)), "--checkpoint-every", str(max(1, rounds // SCORES))]


def play(algo: str, settings: list[str], out: Path, options: argparse.Namespace) -> Point:
    """Play a comparison if it has not been played, and return its result."""
    table = out / "summary.csv"
    if not table.exists():
        command = [sys.executable, "-m", "fedsim", "compare", "--algos", algo, "--seeds", str(options.seeds), "--cars",
                   "4", "--threads", "1", "--lrs", LRS[algo], "--eval-split", "test", "--jobs", str(options.jobs),
                   *settings, "--out", str(out)]
        print(" ".join(command[2:]), flush=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(table, encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    return Point(float(row["lr"]), float(row["final_miou"]), float(row["final_miou_sd"] or 0), float(row["mb"]))


def draw(points: dict[int, Point], wide: Point, path: Path) -> None:
    """Draw mIoU over the number of rounds, with the megabytes of each on a second axis."""
    from matplotlib.figure import Figure

    from fedsim.report.figures import save_png, styled

    with styled():
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        rounds = sorted(points)
        axes.errorbar(rounds, [points[one].miou for one in rounds], [points[one].deviation for one in rounds],
                      marker="o", capsize=3, label="FedAvg, momentum averaged")
        axes.axhspan(wide.miou - wide.deviation, wide.miou + wide.deviation, color="0.85")
        axes.axhline(wide.miou, color="0.2", linestyle="--", label="centralised, the same steps and pictures")
        axes.set_xscale("log")
        axes.set_xticks(rounds, [str(one) for one in rounds])
        axes.minorticks_off()
        axes.set_xlabel(f"rounds of a run of {STEPS} local steps")
        axes.set_ylabel("mIoU on 12 test drives")
        above = axes.secondary_xaxis("top")
        above.set_xticks(rounds, [f"{points[one].megabytes:,.0f}" for one in rounds])
        above.minorticks_off()
        above.set_xlabel("megabytes between cars and coordinator")
        axes.legend(loc="lower right")
        save_png(figure, path)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
