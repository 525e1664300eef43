"""Measure what each part of the recipe of local training is worth, in a federation of many short rounds.

    python benchmarks/recipe.py --out DIR [--seeds 3] [--jobs 2] [--rows NAME ...]

The four cars of streets train with FedAvg for 160 rounds of 5 steps, with the momentum averaged along with the model. A
row differs from this base in one part. The score is the mIoU on the validation drives, which no car has. The program
prints a table in Markdown: the score of every row, and its difference to the base with the same seeds. The average of
the weights is scored beside theta. A run that is already under --out is not repeated.

The learning rate of the base was chosen by the same drives, and the others keep it: a row says what a part is worth
beside the rest of the base, and not what it would be worth at its own best learning rate. AdamW has rows of its own,
because its learning rate is another one.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runs import make_parser, play, show

BASE = ("--algo", "avg", "--cars", "4", "--rounds", "160", "--local-steps", "5", "--momentum-across-rounds", "average",
        "--lr", "0.15", "--evaluate-every", "160", "--checkpoint-every", "160")
EMA = ("--average-weights", "ema:0.9")  # theta is the same with it
CONSTANT = ("--lr-schedule", "constant", "--average-weights", "swa:0.5")
ADAMW = ("--optimizer", "adamw", "--weight-decay", "1e-2", "--lr")
THETA, AVERAGE = "global", "averaged"  # the model whose score is read
ROWS = {  # what differs -> its settings, which overrule those of the base, and the model that is scored
    "the base": (EMA, THETA),
    "--average-weights ema:0.9": (EMA, AVERAGE),
    "--lr-schedule constant": (CONSTANT, THETA),
    "--lr-schedule constant --average-weights swa:0.5": (CONSTANT, AVERAGE),
    "--lr-schedule poly": (("--lr-schedule", "poly"), THETA),
    "--lr-schedule steps": (("--lr-schedule", "steps"), THETA),
    "the base, --nesterov": (("--nesterov",), THETA),
    "--clip-gradient 1": (("--clip-gradient", "1"), THETA),
    "--optimizer adamw --lr 1e-3": ((*ADAMW, "1e-3"), THETA),
    "--optimizer adamw --lr 2e-3": ((*ADAMW, "2e-3"), THETA),
    "--loss ohem": (("--loss", "ohem"), THETA),
    "--loss focal": (("--loss", "focal"), THETA),
    "--loss cross-entropy+dice": (("--loss", "cross-entropy+dice"), THETA),
    "--loss cross-entropy+lovasz": (("--loss", "cross-entropy+lovasz"), THETA),
    "--class-weights none": (("--class-weights", "none"), THETA),
    "--augment none": (("--augment", "none"), THETA),
    "--scale-range 0.75,1.5": (("--scale-range", "0.75,1.5"), THETA),
    "--colour-jitter 0.3": (("--colour-jitter", "0.3"), THETA),
    "--batch-size 1 --accumulate 2": (("--batch-size", "1", "--accumulate", "2"), THETA),
    "--precision bf16": (("--precision", "bf16"), THETA),
}


def main() -> None:
    options = make_parser(__doc__, ROWS).parse_args()
    rows = ["the base", *(row for row in options.rows if row != "the base")]
    runs = list(dict.fromkeys((ROWS[row][0], seed) for row in rows for seed in range(options.seeds)))
    with ThreadPoolExecutor(options.jobs) as pool:
        records = dict(zip(runs, pool.map(lambda run: play_row(run[0], run[1], options.out), runs), strict=True))
    scores = {(row, seed): records[ROWS[row][0], seed][ROWS[row][1]]["miou"] for row in rows
              for seed in range(options.seeds)}
    base = [scores["the base", seed] for seed in range(options.seeds)]
    print("| | validation mIoU | to the base |\n| --- | ---: | ---: |")
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
