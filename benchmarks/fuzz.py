"""Damage the files and options that fedsim reads, at random, and check how it takes them.

    python benchmarks/fuzz.py [--cases 500] [--kinds checkpoint metrics.jsonl] [--seed 0]

Bytes are changed, removed, doubled, reversed, taken from another run, or replaced by odd words, and files are cut.
fedsim must refuse the damage in a sentence, or reach the same models as without the damage; digests in the
checkpoints tell. A command that asks for too much, such as a thousand epochs, is not run.

The kinds labels and cache are made-up data sets, and data sets and caches that change. fedsim must refuse them in a
sentence, or read in each pixel what an independent reader (pypng) finds in the files.

The kind pairs is runs with options at random. Each is stopped, killed or prolonged at random and resumed, on one rank
or on two, and must end with the bits of a run left alone on one rank.

The kind callers is calls of fedsim.run and fedsim.load from programs in states of their own, such as another default
type, closed streams or several threads. They must give the numbers of an undisturbed run, and keep the state.

The kind own is algorithms and networks of a user's own, made up at random. Right ones must give the same bits on one
rank and on two, and after a resume. Wrong ones must be refused in a sentence with the place.

The kind environments is a command with odd variables, locales, homes, terminals and streams. fedsim must refuse it in a
sentence, or do what it does elsewhere.

The program prints a line for each kind of file: how many damages were refused, how many did no harm, and how many
ended in any other way. Each of the latter is printed with its seed, and the exit status is then 1.
"""

import argparse
import io
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import damage  # noqa: E402
from cache_states import CacheStates  # noqa: E402
from callers import Callers  # noqa: E402
from damage import Damage, Outcome  # noqa: E402
from environments import Environments  # noqa: E402
from own_parts import OwnParts  # noqa: E402
from pairs import Pairs  # noqa: E402
from readings import Readings  # noqa: E402

SUBJECTS = {kind: Damage for kind in damage.KINDS} | {"labels": Readings, "cache": CacheStates, "pairs": Pairs,
                                                      "callers": Callers, "own": OwnParts,
                                                      "environments": Environments}
KINDS: dict[str, Callable[[Any, random.Random], Outcome]] = {
    **damage.KINDS, "labels": Readings.read_labels, "cache": CacheStates.serve_again, "pairs": Pairs.resume,
    "callers": Callers.call_at_random, "own": OwnParts.play, "environments": Environments.play}
NAMES = {0: "no harm", 1: "refused", 2: "refused", None: "not run"}
WRONG = "WRONG"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500, help="damages of each kind (default 500)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS],
                        help="kinds of files to damage (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damages (default 0)")
    asked = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FEDSIM_CACHE"] = f"{folder}/cache"
        subject_of = cache(lambda kind: kind(Path(folder)))  # made when it is needed first
        for kind in asked.kinds:
            with redirect_stdout(io.StringIO()):  # what runs print is not read here
                subject = subject_of(SUBJECTS[kind])
            started = time.perf_counter()
            counts = Counter(outcome_of(subject, kind, f"{asked.seed}-{number}") for number in range(asked.cases))
            wrong += counts[WRONG]
            told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
            print(f"{kind:18} {told}   {time.perf_counter() - started:.0f} s", flush=True)
    sys.exit(wrong > 0)


def outcome_of(subject: Any, kind: str, seed: str) -> str:
    """Apply a damage, and return in words how fedsim took it."""
    try:
        with redirect_stdout(io.StringIO()):
            return NAMES[KINDS[kind](subject, random.Random(seed)).status]
    except Exception:
        print(f"{kind}, {seed}:\n{traceback.format_exc()}", flush=True)
        return WRONG


if __name__ == "__main__":
    main()
