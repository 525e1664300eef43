"""Measure what each part of the recipe for CamVid is worth, in a short federation, on a drive that nobody trained on.

    FEDSIM_DATA=FOLDER python benchmarks/recipe.py --out DIR [--seeds 3] [--jobs 2] [--rows NAME ...]

FOLDER holds camvid. The cars of two drives train ddrnet-small with FedAvg for 20 rounds of 5 steps, on parts of
120x96 pixels of pictures of 240x180. A row differs from this base in one part. The score is the mIoU on the third
drive, 0006R0. The program prints a table in Markdown: the score of every row, and its difference to the base with the
same seeds. The average of the weights is scored beside theta. A run that is already under --out is not repeated.

No setting was chosen by these scores: those of the base are of docs/results.md, "At the size of the labels", and the
others are what their papers or fedsim's help name. So a row says what a part is worth in this job, and not what it
would be worth at its own best learning rate. SGD has two learning rates, because the base has none for it.
"""

import argparse
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runs import play, show

BASE = ("--data", "camvid", "--partition", "drive", "--hold-out-drive", "0006R0", "--algo", "avg", "--weighting",
        "images", "--model", "ddrnet-small", "--image-size", "240x180", "--crop", "120x96", "--scale-range", "0.5,1.6",
        "--colour-jitter", "0.3", "--batch-size", "8", "--optimizer", "adamw", "--lr", "2e-3", "--weight-decay", "1e-2",
        "--lr-schedule", "poly", "--warmup", "2", "--rounds", "20", "--local-steps", "5", "--momentum-across-rounds",
        "average", "--evaluate-every", "20", "--checkpoint-every", "20")
SGD = ("--optimizer", "sgd", "--weight-decay", "0", "--lr")
EMA = ("--average-weights", "ema:0.9")  # theta is the same with it
CONSTANT = ("--lr-schedule", "constant", "--average-weights", "swa:0.5")
UNSCALED = ("--scale-range", "1,1")
PLAIN = "global"  # the score of theta
ROWS = {  # what differs -> its settings, which overrule those of the base, and the score that is read
    "the base": (EMA, PLAIN),
    "--average-weights ema:0.9": (EMA, "averaged"),
    "--lr-schedule cosine": (("--lr-schedule", "cosine"), PLAIN),
    "--lr-schedule constant": (CONSTANT, PLAIN),
    "--lr-schedule constant --average-weights swa:0.5": (CONSTANT, "averaged"),
    "whole pictures of 120x90, no parts": (("--image-size", "120x90", "--crop", "120x90", *UNSCALED), PLAIN),
    "without --scale-range": (UNSCALED, PLAIN),
    "without --colour-jitter": (("--colour-jitter", "0"), PLAIN),
    "without mirroring": (("--augment", "none"), PLAIN),
    "--weight-decay 0": (("--weight-decay", "0"), PLAIN),
    "--optimizer sgd --lr 0.1": ((*SGD, "0.1"), PLAIN),
    "--optimizer sgd --lr 0.2": ((*SGD, "0.2"), PLAIN),
    "--optimizer sgd --lr 0.2 --nesterov": ((*SGD, "0.2", "--nesterov"), PLAIN),
    "--momentum-across-rounds none": (("--momentum-across-rounds", "none"), PLAIN),
    "--class-weights none": (("--class-weights", "none"), PLAIN),
    "--label-smoothing 0.1": (("--label-smoothing", "0.1"), PLAIN),
    "--loss ohem": (("--loss", "ohem"), PLAIN),
    "--loss focal": (("--loss", "focal"), PLAIN),
    "--loss cross-entropy+dice": (("--loss", "cross-entropy+dice"), PLAIN),
    "--loss cross-entropy+lovasz": (("--loss", "cross-entropy+lovasz"), PLAIN),
    "--batch-size 4 --accumulate 2": (("--batch-size", "4", "--accumulate", "2"), PLAIN),
    "--precision bf16": (("--precision", "bf16"), PLAIN),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each row (default 3)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time, with one thread each (default 2)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[*ROWS], metavar="NAME",
                        help=f"rows to measure (default all): {'; '.join(ROWS)}")
    options = parser.parse_args()
    rows = ["the base", *(row for row in options.rows if row != "the base")]
    runs = list(dict.fromkeys((ROWS[row][0], seed) for row in rows for seed in range(options.seeds)))
    with ThreadPoolExecutor(options.jobs) as pool:
        records = dict(zip(runs, pool.map(lambda run: play_row(run[0], run[1], options.out), runs), strict=True))
    scores = {(row, seed): records[ROWS[row][0], seed][ROWS[row][1]]["miou"] for row in rows
              for seed in range(options.seeds)}
    base = [scores["the base", seed] for seed in range(options.seeds)]
    print("| | mIoU on a drive that nobody trained on | to the base |\n| --- | ---: | ---: |")
    for row in rows:
        found = [scores[row, seed] for seed in range(options.seeds)]
        gains = [one - other for one, other in zip(found, base, strict=True)]
        print(f"| {row} | {show(found)} | {'–' if row == 'the base' else show(gains, '+')} |")


def play_row(settings: tuple[str, ...], seed: int, out: Path) -> dict[str, Any]:
    """Return the last record of a run. Rows that differ only in the score that is read share a run."""
    name = re.sub("[^a-z0-9]+", "-", " ".join(("base", *settings, str(seed))))
    return play((*BASE, *settings, "--seed", str(seed)), out / name)[-1]


if __name__ == "__main__":
    main()
