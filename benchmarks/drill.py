"""Kills runs at random moments until they have ended all the same, and compares them with undisturbed ones.

    python benchmarks/drill.py [--kills 50] [--algos avg admm scaffold adam] [--ranks 1 2 4] [--seed 0]

A run is tiny: 5 cars on frames of noise. It is started by torchrun on one of the numbers of ranks and killed
(SIGKILL): a rank, whereupon torchrun starts all again, or the whole job, whereupon it is started with --resume auto,
on another of these numbers perhaps. The moment is uniform over the duration of the undisturbed run: one kill in three
counts it from the start or the kill before, so that it may fall among ranks that are starting, or have yet to notice
that one is lost; the others over that of its rounds, from the first training.

A line for each kill says where it fell: what the killed rank, rank 0 for a whole job, was at. Equal is a run whose
records hold every round once, each with the undisturbed run's digest of the model. Exit status 1 if one is not.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "faults")]

from drilling import ALGORITHMS, Job, digests, options, records, send  # noqa: E402
from layouts import draw, write_segnet  # noqa: E402

ROUNDS = 100
SCENES = {"train": [5, 4, 3, 4, 2], "val": [6]}  # of each drive
# How what a rank is at begins -> where a kill falls; otherwise at the start.
PLACES = {"training": "training", "combining": "combining", "scoring": "scoring",
          "writing the checkpoint": "checkpoint", "writing the report": "report"}
LONGEST = 150  # seconds that a run may go on undisturbed


class Kill(NamedTuple):
    algo: str
    whole: bool  # the whole job, not one rank
    place: str


def main() -> None:
    if sys.argv[1:2] == ["play"]:
        sys.exit(play(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="at least so many (default 50)")
    parser.add_argument("--algos", nargs="+", choices=ALGORITHMS, default=[*ALGORITHMS], help="default: all")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="default 1 2 4")
    parser.add_argument("--seed", type=int, default=0, help="of whom to kill, and when (default 0)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FEDSIM_CACHE"] = f"{folder}/cache"
        drill = Drill(Path(folder), asked.ranks, random.Random(asked.seed))
        outcomes: list[tuple[Kill, bool]] = []
        for number, algo in enumerate(cycle(asked.algos)):
            if len(outcomes) >= asked.kills:
                break
            kills, equal = drill.run(algo, number, asked.kills - len(outcomes))
            outcomes += [(kill, equal) for kill in kills]
    summary(outcomes)
    sys.exit(not all(equal for _, equal in outcomes))


class Drill:
    """Runs that are killed, all with the same draws."""

    def __init__(self, folder: Path, ranks: list[int], draws: random.Random) -> None:
        self.folder, self.ranks, self.draws = folder, ranks, draws
        self.undisturbed: dict[str, list[tuple[int, str]]] = {}  # algorithm -> digests
        self.seconds = self.seconds_of_rounds = 0.0  # that the last undisturbed run and its rounds have taken
        for split, counts in SCENES.items():
            names = [f"{split}{drive}_{scene:05d}" for drive, count in enumerate(counts) for scene in range(count)]
            write_segnet(folder / "camvid", {name: draw(12, seed) for seed, name in enumerate(names)}, split)

    def run(self, algo: str, number: int, most: int) -> tuple[list[Kill], bool]:
        """At most so many kills of a run, and whether it has come out equal."""
        if algo not in self.undisturbed:
            self._play_undisturbed(algo)
        out, kills = self.folder / f"{algo}-{number}", []
        job = self._start(algo, out)
        try:
            while not self._ends(job, last=len(kills) == most):
                kills.append(self._kill(job, algo))
                if kills[-1].whole:
                    job = self._start(algo, out)
            status = job.wait(LONGEST)
        finally:
            job.kill()
        equal = status == 0 and digests(out) == self.undisturbed[algo]
        print(f"{out.name} has ended after {len(kills)} kills: {'equal' if equal else 'NOT EQUAL'}", flush=True)
        if not equal:
            print(f"exit status {status}, {len(digests(out))} records\n{job.log.read_text()[-3000:]}", flush=True)
        return kills, equal

    def _ends(self, job: Job, last: bool) -> bool:
        """Wait for the moment of the next kill; True if the run has ended before, or is to be left alone.

        It is after the last kill, and where all rounds are on record: else most kills would fall into the report.
        """
        if last or len(digests(job.out)) > ROUNDS:
            return True
        if self.draws.random() < 1 / 3:
            return job.wait(self.draws.uniform(0, self.seconds)) is not None
        while not any(doing(job, process) in PLACES.values() for process in job.ranks().values()):
            if job.wait(0.05) is not None:
                return True
        return job.wait(self.draws.uniform(0, self.seconds_of_rounds)) is not None

    def _play_undisturbed(self, algo: str) -> None:
        started, out = time.monotonic(), self.folder / algo
        with self._start(algo, out) as job:
            if job.wait(LONGEST) != 0:
                raise RuntimeError(f"the undisturbed run fails:\n{job.log.read_text()}")
        self.seconds, self.undisturbed[algo] = time.monotonic() - started, digests(out)
        self.seconds_of_rounds = sum(record["seconds"]["total"] for record in records(out))
        print(f"{algo} undisturbed: {self.seconds:.1f} s, rounds {self.seconds_of_rounds:.1f} s", flush=True)

    def _start(self, algo: str, out: Path) -> Job:
        return Job(self.draws.choice(self.ranks), out, [*options(algo, self.folder / "camvid", ROUNDS), "--resume",
                                                        "auto"], program=[__file__, "play"])

    def _kill(self, job: Job, algo: str) -> Kill:
        ranks = job.ranks()
        whole = not ranks or self.draws.random() < 0.5
        rank = min(ranks, default=0) if whole else self.draws.choice(sorted(ranks))
        process = ranks.get(rank, 0)
        if whole:
            job.kill()
        else:
            send(signal.SIGKILL, [process])
        text, who = said(job, process), "all ranks" if whole else f"rank {rank}"
        print(f"{job.out.name:12} {who:9} of {len(ranks)}, {text}", flush=True)
        return Kill(algo, whole, place_of(text))


def doing(job: Job, process: int) -> str:
    """Where in a run a process of it is."""
    return place_of(said(job, process))


def place_of(text: str) -> str:
    return next((place for begin, place in PLACES.items() if text.startswith(begin)), "start")


def said(job: Job, process: int) -> str:
    """What a process of a run is at, or was when it was killed."""
    file = doing_file(job.out, process)
    return file.read_text().strip() if file.exists() else "starting"


def doing_file(out: Path, process: int) -> Path:
    """Where a process of a run writes what it is at."""
    return out.with_name(f"{out.name}.doing-{process}")


def play(arguments: list[str]) -> int:
    """A rank: fedsim.main, which also writes down what it is at."""
    from fedsim.distributed.world import World
    from fedsim.main import main

    said = os.open(doing_file(Path(arguments[arguments.index("--out") + 1]), os.getpid()), os.O_WRONLY | os.O_CREAT)
    tell, ask = World.doing.fset, World.doing.fget

    def tell_and_write(world: World, text: str) -> None:
        os.pwrite(said, text.ljust(100).encode(), 0)
        tell(world, text)

    World.doing = property(ask, tell_and_write)
    return main(arguments)


def summary(outcomes: list[tuple[Kill, bool]]) -> None:
    print(f"\n{'':12}{'a rank':>10}{'whole job':>12}{'equal':>8}{'not equal':>12}")
    rows = {place: [(kill, equal) for kill, equal in outcomes if kill.place == place]
            for place in ("start", *PLACES.values())}
    for name, row in (*rows.items(), ("all", outcomes)):
        counts = Counter(kill.whole for kill, _ in row)
        equal = sum(equal for _, equal in row)
        print(f"{name:12}{counts[False]:10}{counts[True]:12}{equal:8}{len(row) - equal:12}")
    by_algo = Counter(kill.algo for kill, _ in outcomes)
    print("kills by algorithm:", ", ".join(f"{algo} {count}" for algo, count in by_algo.items()))


if __name__ == "__main__":
    main()
