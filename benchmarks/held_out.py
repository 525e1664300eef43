"""Measure on drives of CamVid that nobody trained on how far federations are behind centralised training.

    FEDSIM_DATA=FOLDER python benchmarks/held_out.py --out DIR [--seeds 3] [--jobs 2] [--rows NAME ...]

FOLDER holds camvid. Each of the three training drives is held out once, and the cars of the other two train for 16
epochs. So every score is of a drive that no car has seen. A run is played by `fedsim run`; one that is already under
--out is not repeated. The program prints a table in Markdown: for every row the mean of the three drives, its standard
deviation over seeds, and the distance to both kinds of centralised training with the same seed.

The learning rates of the rows were chosen by the validation split, in a federation of all three drives with seed 0. The
number of short rounds was chosen for each held-out drive by the scores of the other two with seed 0: it is 128 for all.
"""

import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runs import make_parser, play, show

DRIVES = ("0001TP", "0006R0", "0016E5")
SHORT = ("--algo", "avg", "--lr", "0.2", "--weighting", "images", "--momentum-across-rounds", "average")
ROWS = {
    "central": ("--algo", "central", "--lr", "0.2"),
    "central-wide": ("--algo", "central-wide", "--lr", "0.2"),
    "FedAvg, 16 rounds": ("--algo", "avg", "--lr", "0.2", "--weighting", "images"),
    "FedADMM, 16 rounds": ("--algo", "admm", "--lr", "0.05", "--weighting", "images"),
    "FedAvg, 128 short rounds": (*SHORT, "--rounds", "128", "--local-epochs", "0.125"),
}


def main() -> None:
    parser = make_parser(__doc__, ROWS)
    parser.add_argument("--init", metavar="RUN|FILE",
                        help="weights that every run starts from; {seed} in it stands for the run's seed. Choose "
                             "another --out than without")
    options = parser.parse_args()
    runs = [(row, drive, seed) for seed in range(options.seeds) for row in options.rows for drive in DRIVES]
    with ThreadPoolExecutor(options.jobs) as pool:
        played = [pool.submit(score, *run, options.out, options.init) for run in runs]
    scores = {run: one.result() for run, one in zip(runs, played, strict=True)}
    print(tabulate(scores, options.rows, options.seeds))


def score(row: str, drive: str, seed: int, out: Path, init: str | None) -> float:
    """Return the mIoU of a run on the drive that it held out."""
    start = () if init is None else ("--init", init.replace("{seed}", str(seed)))
    folder = out / f"{row.replace(', ', '-').replace(' ', '-')}-{drive}-{seed}"
    rounds = int(ROWS[row][ROWS[row].index("--rounds") + 1]) if "--rounds" in ROWS[row] else 16
    every = ("--evaluate-every", str(rounds // 4), "--checkpoint-every", str(rounds // 4))
    settings = ("--data", "camvid", *ROWS[row], *every, *start, "--hold-out-drive", drive, "--seed", str(seed))
    return float(play(settings, folder)[-1]["global"]["miou"])


def tabulate(scores: dict[tuple[str, str, int], float], rows: list[str], seeds: int) -> str:
    """Return the table of scores, which are by row, drive and seed, in Markdown."""
    lines = [f"| | mean of the drives | {' | '.join(DRIVES)} | to central | to central, same steps |",
             "| --- |" + " ---: |" * (len(DRIVES) + 3)]
    means = {(row, seed): statistics.mean(scores[row, drive, seed] for drive in DRIVES)
             for row in rows for seed in range(seeds)}
    for row in rows:
        cells = [show([means[row, seed] for seed in range(seeds)])]
        cells += [show([scores[row, drive, seed] for seed in range(seeds)]) for drive in DRIVES]
        for yardstick in ("central", "central-wide"):
            cells.append("–" if row == yardstick or yardstick not in rows else
                         show([means[row, seed] - means[yardstick, seed] for seed in range(seeds)], "+"))
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
