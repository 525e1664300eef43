"""Kill runs at random moments until they end all the same, and compare them with runs that were not killed.

    python benchmarks/drill.py [--kills 50] [--algos avg admm scaffold adam] [--ranks 1 2 4] [--seed 0]

A run is tiny: 5 cars on pictures of noise. torchrun starts it on one of the numbers of ranks, and SIGKILL ends one
rank, torchrun alone, or the whole job. If it is one rank, torchrun starts all ranks again. If it is torchrun, its ranks
must end by themselves within 20 seconds. Then, and if it is the whole job, this program starts it again with --resume
auto, perhaps on another number of ranks.

The moment of a kill is drawn uniformly. One kill in three falls within the duration of the undisturbed run, counted
from the start or from the kill before. So it may hit ranks that are still starting, or that have not noticed yet that
another one is lost. The other kills fall within the duration of the undisturbed run's rounds, counted from the first
training.

The program prints a line for each kill: what the killed rank was doing, or rank 0 if it was not one rank. A run
is equal if its records hold every round once, each with the digest of the model that the undisturbed run has. The
exit status is 1 if a run is not equal.
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
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "faults")]

from drilling import ALGORITHMS, Job, digests, options, records, send  # noqa: E402
from layouts import draw, write_segnet  # noqa: E402

ROUNDS = 100
SCENES = {"train": [5, 4, 3, 4, 2], "val": [6]}  # scenes of each drive
# First words of what a rank is doing -> the place of a kill in the summary; any other words: the start.
PLACES = {"training": "training", "combining": "combining", "scoring": "scoring",
          "writing the checkpoint": "checkpoint", "writing the report": "report"}
TARGETS = ("a rank", "torchrun", "whole job")
LONELY = 20  # seconds in which ranks end after torchrun
LONGEST = 150  # seconds that a run may take after its last kill


class Kill(NamedTuple):
    """A kill of a run."""

    algo: str
    target: str  # one of TARGETS
    place: str  # one of PLACES' values, or "start"


def main() -> None:
    if sys.argv[1:2] == ["play"]:
        sys.exit(play(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="least number of kills (default 50)")
    parser.add_argument("--algos", nargs="+", choices=ALGORITHMS, default=[*ALGORITHMS],
                        help="algorithms to run (default: all)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], metavar="N",
                        help="numbers of ranks (default 1 2 4)")
    parser.add_argument("--seed", type=int, default=0, help="seed of whom to kill, and when (default 0)")
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
    print_summary(outcomes)
    sys.exit(not all(equal for _, equal in outcomes))


class Drill:
    """Kills runs, with draws from one random stream."""

    def __init__(self, folder: Path, ranks: list[int], draws: random.Random) -> None:
        self.folder, self.ranks, self.draws = folder, ranks, draws
        self.undisturbed: dict[str, list[tuple[int, str]]] = {}  # algorithm -> digests of the undisturbed run
        self.seconds = self.seconds_of_rounds = 0.0  # of the last undisturbed run, and of its rounds
        for split, counts in SCENES.items():
            names = [f"{split}{drive}_{scene:05d}" for drive, count in enumerate(counts) for scene in range(count)]
            write_segnet(folder / "camvid", {name: draw(12, seed) for seed, name in enumerate(names)}, split)

    def run(self, algo: str, number: int, most: int) -> tuple[list[Kill], bool]:
        """Play a run and kill it up to `most` times. Return the kills, and whether the run is equal."""
        if algo not in self.undisturbed:
            self._play_undisturbed(algo)
        out, kills = self.folder / f"{algo}-{number}", []
        job = self._start(algo, out)
        try:
            while not self._ends(job, last=len(kills) == most):
                kills.append(self._kill(job, algo))
                if kills[-1].target != "a rank":
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
        """Wait for the moment of the next kill. Return True if the run has ended before, or must not be killed again.

        A run is not killed again after its last kill, or once all its rounds are recorded. Otherwise most kills would
        hit the report.
        """
        if last or len(digests(job.out)) > ROUNDS:
            return True
        if self.draws.random() < 1 / 3:
            return job.wait(self.draws.uniform(0, self.seconds)) is not None
        while not any(place_of(activity(job, process)) in PLACES.values() for process in job.ranks().values()):
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
        target = self.draws.choice(TARGETS) if ranks else "whole job"
        rank = self.draws.choice(sorted(ranks)) if target == "a rank" else min(ranks, default=0)
        process = ranks.get(rank, 0)
        if target == "whole job":
            job.kill()
        else:
            send(signal.SIGKILL, [process if target == "a rank" else job.launcher])
        if target == "torchrun":
            self._wait_for_lonely_ranks(job)
        text, who = activity(job, process), f"rank {rank}" if target == "a rank" else target
        print(f"{job.out.name:12} {who:9} of {len(ranks)}, {text}", flush=True)
        return Kill(algo, target, place_of(text))

    def _wait_for_lonely_ranks(self, job: Job) -> None:
        limit = time.monotonic() + LONELY
        while job.processes():
            if time.monotonic() > limit:
                raise RuntimeError(f"ranks outlive torchrun by {LONELY} s:\n{job.log.read_text()[-3000:]}")
            time.sleep(0.05)
        job.kill()


def place_of(text: str) -> str:
    """Return the place in a run that an activity belongs to."""
    return next((place for begin, place in PLACES.items() if text.startswith(begin)), "start")


def activity(job: Job, process: int) -> str:
    """Return what a process of a run is doing, or was doing when it was killed."""
    file = activity_file(job.out, process)
    return file.read_text().strip() if file.exists() else "starting"


def activity_file(out: Path, process: int) -> Path:
    """Return the file in which a process of a run writes what it is doing."""
    return out.with_name(f"{out.name}.doing-{process}")


def play(arguments: list[str]) -> int:
    """Play one rank, as fedsim.main does, and write down what it is doing."""
    from fedsim.distributed.world import World
    from fedsim.main import main

    file = os.open(activity_file(Path(arguments[arguments.index("--out") + 1]), os.getpid()), os.O_WRONLY | os.O_CREAT)
    doing: Any = World.doing  # a property

    def tell_and_write(world: World, text: str) -> None:
        os.pwrite(file, text.ljust(100).encode(), 0)
        doing.fset(world, text)

    World.doing = property(doing.fget, tell_and_write)
    return main(arguments)


def print_summary(outcomes: list[tuple[Kill, bool]]) -> None:
    """Print how many kills fell at each place, and how many of their runs are equal."""
    print(f"\n{'':12}{''.join(f'{target:>12}' for target in TARGETS)}{'equal':>8}{'not equal':>12}")
    rows = {place: [(kill, equal) for kill, equal in outcomes if kill.place == place]
            for place in ("start", *PLACES.values())}
    for name, row in (*rows.items(), ("all", outcomes)):
        counts = Counter(kill.target for kill, _ in row)
        equal = sum(equal for _, equal in row)
        columns = "".join(f"{counts[target]:12}" for target in TARGETS)
        print(f"{name:12}{columns}{equal:8}{len(row) - equal:12}")
    by_algo = Counter(kill.algo for kill, _ in outcomes)
    print("kills by algorithm:", ", ".join(f"{algo} {count}" for algo, count in by_algo.items()))


if __name__ == "__main__":
    main()
