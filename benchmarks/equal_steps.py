"""Measure federated and centralised training of the same number of steps, one after another, until both are flat.

    python benchmarks/equal_steps.py --out DIR [--seeds 3] [--jobs 2] [--rows NAME ...] [--figure FILE]

A car of streets takes as many steps as centralised training does, 3,200 or 6,400. So the four cars together see four
times the pictures, in the time of centralised training. FedAvg communicates after every 5 steps and averages the
momentum along with the model. Learning rates are those that were best on the validation drives for 160 rounds of 5
steps, and for 16 rounds of centralised training. The score is the mIoU on the 12 test drives. The program prints a
table in Markdown and draws the curves over the steps. A run that is already under --out is not repeated.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from runs import make_parser, play, show

SHORT = ("--algo", "avg", "--lr", "0.15", "--local-steps", "5", "--momentum-across-rounds", "average")
ROWS = {  # name -> its settings, and its number of rounds
    "FedAvg, 640 rounds of 5 steps": (SHORT, 640),
    "FedAvg, 1,280 rounds of 5 steps": (SHORT, 1280),
    "centralised, 3,200 steps": (("--algo", "central", "--lr", "0.3"), 16),
    "centralised, 6,400 steps": (("--algo", "central", "--lr", "0.3"), 32),
}
SCORES = 8  # in a run, after equal numbers of rounds


class Score(NamedTuple):
    """The score of a round, and the work that led to it."""

    steps: int  # one after another
    pictures: int
    miou: float


def main() -> None:
    parser = make_parser(__doc__, ROWS)
    parser.add_argument("--figure", type=Path, help="the figure, a PNG (default: equal-steps.png under --out)")
    options = parser.parse_args()
    runs = [(row, seed) for seed in range(options.seeds) for row in options.rows]
    with ThreadPoolExecutor(options.jobs) as pool:
        played = [pool.submit(curve_of, *run, options.out) for run in runs]
    curves = {run: one.result() for run, one in zip(runs, played, strict=True)}
    rows = {row: [curves[row, seed] for seed in range(options.seeds)] for row in options.rows}
    print("| | steps | pictures | mIoU at the end | best mIoU on the way, and its step |\n|---|---:|---:|---:|---:|")
    for row, found in rows.items():
        best = [max(curve, key=lambda score: score.miou) for curve in found]
        print(f"| {row} | {found[0][-1].steps:,} | {found[0][-1].pictures:,} | "
              f"{show([curve[-1].miou for curve in found])} | {show([score.miou for score in best])}, "
              f"{min(score.steps for score in best):,} to {max(score.steps for score in best):,} |")
    draw(rows, options.figure or options.out / "equal-steps.png")


def curve_of(row: str, seed: int, out: Path) -> list[Score]:
    """Return the scores of a run."""
    settings, rounds = ROWS[row]
    every = str(rounds // SCORES)
    records = play(("--cars", "4", *settings, "--rounds", str(rounds), "--evaluate-every", every,
                    "--checkpoint-every", every, "--eval-split", "test", "--seed", str(seed)),
                   out / f"{settings[1]}-{rounds}-{seed}")
    return [Score(one["sequential_steps"], one["pictures"], one["global"]["miou"]) for one in records
            if one["round"] % (rounds // SCORES) == 0 and one["round"] > 0]


def draw(rows: dict[str, list[list[Score]]], path: Path) -> None:
    """Draw the mean mIoU over the steps, and a band from the lowest to the highest seed."""
    from matplotlib.figure import Figure

    from fedsim.report.figures import save_png, styled

    with styled():
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for row, curves in rows.items():
            steps = [score.steps for score in curves[0]]
            scores = [[score.miou for score in at] for at in zip(*curves, strict=True)]
            line = axes.plot(steps, [mean(at) for at in scores], marker=".", label=row,
                             linestyle="--" if row.startswith("centralised") else "-")[0]
            axes.fill_between(steps, [min(at) for at in scores], [max(at) for at in scores], alpha=0.2,
                              color=line.get_color())
        axes.set_xlabel("steps, one after another")
        axes.set_ylabel("mIoU on 12 test drives")
        axes.legend(loc="lower right")
        save_png(figure, path)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
