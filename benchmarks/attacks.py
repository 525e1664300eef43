"""What hostile cars do to each aggregator, on streets: one of five cars attacks in every round.

    python benchmarks/attacks.py --out attacked [--attacks sign-flip gaussian] [--jobs 2] [--rounds 16]

FedAvg with five cars, a drive each, by every aggregator, without attackers and with one, which the seed draws. Prints
the last round's mIoU on the validation drives, and how far an attack has moved it, as a Markdown table. Runs that are
there already under --out are not run again.
"""

import argparse
import sys
from pathlib import Path

from algorithms import in_parallel, label, records, words

AGGREGATORS = ("mean", "median", "trimmed-mean", "krum", "multi-krum", "geometric-median")
POINT: dict[str, object] = {"lr": 0.15}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--attacks", nargs="+", default=["sign-flip"], help="as fedsim's --attack (default sign-flip)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each (default 2)")
    parser.add_argument("--rounds", type=int, default=16, help="as fedsim's --rounds (default 16)")
    options = parser.parse_args()
    runs = {("none", aggregator): run({"aggregator": aggregator}, options) for aggregator in AGGREGATORS}
    for attack in options.attacks:
        for aggregator in AGGREGATORS:
            runs[attack, aggregator] = run({"aggregator": aggregator, "attackers": 1, "attack": attack}, options)
    in_parallel(list(runs.values()), options.jobs)
    score = {key: records(path)[-1]["global"]["miou"] for key, (_, path) in runs.items()}
    print("\n| aggregator | without attackers | " + " | ".join(options.attacks) + " |")
    print("|---|---:|" + "---:|" * len(options.attacks))
    for aggregator in AGGREGATORS:
        clean = score["none", aggregator]
        found = [score[attack, aggregator] for attack in options.attacks]
        print(f"| {aggregator} | {clean:.3f} | "
              + " | ".join(f"{miou:.3f} ({miou - clean:+.3f})" for miou in found) + " |")


def run(extra: dict[str, object], options: argparse.Namespace) -> tuple[list[str], Path]:
    """The command, and the directory that it leaves."""
    command = [sys.executable, "-m", "fedsim.main", "--algo", "avg", "--cars", "5", "--threads", "1", "--rounds",
               str(options.rounds), "--evaluate-every", str(options.rounds), *words(POINT | extra)]
    return command, options.out / label(extra)


if __name__ == "__main__":
    main()
