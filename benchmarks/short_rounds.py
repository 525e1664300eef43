"""Measure what many short rounds cost, compared with few long ones that take the same steps.

    python benchmarks/short_rounds.py [--pairs 3] [--rounds 16] [--steps 50] [--factor 10] [--ranks 2]

Whole runs of `fedsim run` alternate: long rounds without momentum from the round before, and `factor` times as many
rounds of a `factor`-th of the steps, whose averaged momentum goes on. Both see the same pictures, and are scored and
write checkpoints equally often. Each pair gives a ratio of the time from the first round to the last, and one of the
wall time of the command. A third run writes a checkpoint in every short round.

Ratios can be compared between machines.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCORES = 4  # in a run, after the one of round 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="pairs of runs, at least 1 (default 3)")
    parser.add_argument("--rounds", type=int, default=16, help="long rounds, a multiple of 4 (default 16)")
    parser.add_argument("--steps", type=int, default=50, help="steps of a long round (default 50)")
    parser.add_argument("--factor", type=int, default=10, help="short rounds in a long one (default 10)")
    parser.add_argument("--ranks", type=int, default=2, help="ranks of a run (default 2)")
    options = parser.parse_args()
    if options.pairs < 1 or options.rounds % SCORES or options.rounds < SCORES or options.steps % options.factor:
        parser.error("--pairs is at least 1, --rounds a multiple of 4, and --steps a multiple of --factor")
    rounds, steps, factor = options.rounds, options.steps, options.factor
    long, short = (rounds, steps), (rounds * factor, steps // factor)
    carried = ("--momentum-across-rounds", "average")
    sides = {"long": (*long, rounds // SCORES, ()), "short": (*short, rounds * factor // SCORES, carried),
             "short, checkpoint in every round": (*short, 1, carried)}
    with tempfile.TemporaryDirectory() as folder:
        play(Path(folder) / "warm-up", options.ranks, SCORES, 1, 1, ())  # draws the scenes
        found = [{name: play(Path(folder) / f"{pair}-{place}", options.ranks, *side)
                  for place, (name, side) in enumerate(sides.items())} for pair in range(options.pairs)]
    print(f"{short[0]} rounds of {short[1]} steps / {long[0]} rounds of {long[1]} steps, {options.ranks} ranks, "
          f"{options.pairs} pairs")
    for name in list(sides)[1:]:
        for place, figure in enumerate(("rounds", "command")):
            ratios = [times[name][place] / times["long"][place] for times in found]
            print(f"   {name + ': ' + figure:44} median {statistics.median(ratios):.3f}   min {min(ratios):.3f}   "
                  f"max {max(ratios):.3f}")


def play(out: Path, ranks: int, rounds: int, steps: int, checkpoint_every: int,
         more: tuple[str, ...]) -> tuple[float, float]:
    """Return the seconds of a run's rounds, with scores and checkpoints, and those of its whole command."""
    command = [sys.executable, "-m", "fedsim", "run", "--ranks", str(ranks), "--algo", "avg", "--threads", "1",
               "--quiet", "--rounds", str(rounds), "--local-steps", str(steps), "--evaluate-every",
               str(rounds // SCORES), "--checkpoint-every", str(checkpoint_every), "--out", str(out), *more]
    before = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - before
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return sum(record["seconds"]["total"] for record in records[1:]), seconds


if __name__ == "__main__":
    main()
