"""Damages what fedsim reads by chance, and lets it be read.

    python benchmarks/fuzz.py [--cases 500] [--kinds checkpoint metrics.jsonl] [--seed 0]

Bytes are changed, removed, doubled, reversed, taken from another run, replaced by odd words; files are cut. A run that
goes on all the same must come to the models of the run that was not damaged, which the digests in its checkpoints tell.
What asks for too much, such as a thousand epochs, is not played.

A line a kind: how many damages were refused in a sentence, how many did no harm, and how many ended otherwise, each of
which is told with its number. Exit status 1 if there was one.
"""

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from damage import KINDS, Damage  # noqa: E402

NAMES = {0: "no harm", 1: "refused", 2: "refused", None: "not played"}
WRONG = "WRONG"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500, help="a kind (default 500)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS], help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    asked = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FEDSIM_CACHE"] = f"{folder}/cache"
        damage = Damage(Path(folder))
        for kind in asked.kinds:
            started = time.perf_counter()
            counts = Counter(came_of(damage, kind, f"{asked.seed}-{number}") for number in range(asked.cases))
            wrong += counts[WRONG]
            told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
            print(f"{kind:18} {told}   {time.perf_counter() - started:.0f} s", flush=True)
    sys.exit(wrong > 0)


def came_of(damage: Damage, kind: str, seed: str) -> str:
    """What came of a damage, in words."""
    try:
        return NAMES[KINDS[kind](damage, random.Random(seed)).status]
    except Exception:
        print(f"{kind}, {seed}:\n{traceback.format_exc()}", flush=True)
        return WRONG


if __name__ == "__main__":
    main()
