"""Measure how much one hostile car of five lowers the mIoU on streets, with every aggregator.

    python benchmarks/attacks.py --out attacked [--attacks sign-flip gaussian] [--jobs 2] [--rounds 16]

FedAvg trains five cars with one drive each. It runs with every aggregator, once without an attacker and once with
one, which the seed draws and which attacks in every round. The program prints a table in Markdown: the mIoU on the
validation drives after the last round, and how much the attack changes it. A run that is already under --out is not
repeated.
"""

import argparse
import sys
from pathlib import Path

from algorithms import Point, as_flags, label, records, run_all

AGGREGATORS = ("mean", "median", "trimmed-mean", "krum", "multi-krum", "geometric-median")
POINT: Point = {"lr": 0.15}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--attacks", nargs="+", default=["sign-flip"], help="attacks to try (default sign-flip)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time, with one thread each (default 2)")
    parser.add_argument("--rounds", type=int, default=16, help="--rounds of fedsim (default 16)")
    options = parser.parse_args()
    runs = {("none", aggregator): command({"aggregator": aggregator}, options) for aggregator in AGGREGATORS}
    for attack in options.attacks:
        for aggregator in AGGREGATORS:
            runs[attack, aggregator] = command({"aggregator": aggregator, "attackers": 1, "attack": attack}, options)
    run_all(list(runs.values()), options.jobs)
    score = {key: records(path)[-1]["global"]["miou"] for key, (_, path) in runs.items()}
    print("\n| aggregator | without attackers | " + " | ".join(options.attacks) + " |")
    print("|---|---:|" + "---:|" * len(options.attacks))
    for aggregator in AGGREGATORS:
        clean = score["none", aggregator]
        found = [score[attack, aggregator] for attack in options.attacks]
        print(f"| {aggregator} | {clean:.3f} | "
              + " | ".join(f"{miou:.3f} ({miou - clean:+.3f})" for miou in found) + " |")


def command(extra: Point, options: argparse.Namespace) -> tuple[list[str], Path]:
    """Return a command, without its --out, and the directory of its run."""
    words = [sys.executable, "-m", "fedsim.main", "--algo", "avg", "--cars", "5", "--threads", "1", "--rounds",
             str(options.rounds), "--evaluate-every", str(options.rounds), *as_flags(POINT | extra)]
    return words, options.out / label(extra)


if __name__ == "__main__":
    main()
