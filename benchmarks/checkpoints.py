"""Measure the cost of checkpoints.

    python benchmarks/checkpoints.py [--pairs 5] [--cars 100] [--rounds 5] [--folder DIR]

1. A checkpoint of segnet-basic with 100 cars of FedADMM, all of which have taken part, is compared with a plain write
   of the same bytes to as many files, each of them synced. The two alternate, and each pair gives a ratio of wall
   time and one of processor time. The time of SHA-256 over the same bytes is printed too.
2. The default run with fewer rounds is compared with and without a checkpoint in every round. The two alternate, each
   in its own process, and each pair gives a ratio of wall time, scoring included. If other programs run, this ratio
   is mostly noise. So the program also prints a ratio within one run: seconds of checkpoints to seconds of everything
   else.

The time of a write depends on the disk. --folder names a folder on the disk to measure, by default the folder of
temporary files.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from overhead import in_process, show

NEVER = 10**6  # rounds between checkpoints
KEPT = 2  # checkpoints that a run keeps; the first ones are not timed, as they replace none


class Spent(NamedTuple):
    """The time that something took, in seconds."""

    seconds: float  # wall time
    processor: float  # processor time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="pairs of measurements, at least 1 (default 5)")
    parser.add_argument("--cars", type=int, default=100, help="cars of measurement 1 (default 100)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of measurement 2, at least 3 (default 5)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="folder to write to")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--every", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            print(json.dumps(WORKERS[asked.worker](asked, Path(folder))))
        return
    common = [f"--{name}={getattr(asked, name)}" for name in ("pairs", "cars", "rounds", "folder")]
    compare_writes(asked, common)
    compare_runs(asked, common)


def compare_writes(asked: argparse.Namespace, common: list[str]) -> None:
    written: Any = in_process(__file__, "write", *common)
    triples = [[Spent(*spent) for spent in triple] for triple in written["triples"]]
    print(f"1. a checkpoint of {asked.cars} cars, {written['mib']:.0f} MiB / a plain write, {asked.pairs} pairs")
    show("wall time", [ours.seconds / plain.seconds for ours, plain, _ in triples])
    show("processor time", [ours.processor / plain.processor for ours, plain, _ in triples])
    for number, name in enumerate(("checkpoint", "plain write", "SHA-256")):
        show(f"{name}, s", [triple[number].seconds for triple in triples])
        show(f"{name}, s of processor", [triple[number].processor for triple in triples])


def compare_runs(asked: argparse.Namespace, common: list[str]) -> None:
    pairs = [[in_process(__file__, "job", *common, f"--every={every}") for every in (1, NEVER)]
             for _ in range(asked.pairs)]
    print(f"2. default run of {asked.rounds} rounds, {asked.pairs} pairs")
    show("checkpoints / none", [often["rounds"] / never["rounds"] for often, never in pairs])
    show("checkpoints / the rest", [often["saves"] / (often["rounds"] - often["saves"]) for often, _ in pairs])
    show("ms of a checkpoint", [1000 * often["saves"] / (asked.rounds - 1) for often, _ in pairs])
    show("ms of a round without", [1000 * never["rounds"] / (asked.rounds - 1) for _, never in pairs])


def time_writes(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time a checkpoint, a plain write of its bytes and their SHA-256, again and again."""
    from fedsim.federation.rounds import initial_state
    from fedsim.record.checkpoints import Checkpoints

    federation = make_federation(asked.cars)
    state, algorithm = initial_state(federation), federation.method.algorithm
    checkpoints, contents, triples = Checkpoints(folder, federation, "a benchmark"), [], []
    for number in range(1, KEPT + asked.pairs + 1):
        memories = {car: algorithm.init_memory(state.shared.theta.clone()) for car in range(asked.cars)}
        state = replace(state, round=number, memories=memories)
        ours = time_call(checkpoints.save, state)
        contents = contents or [path.read_bytes() for path in sorted(folder.iterdir())]
        triples.append([ours, time_call(write_plainly, folder, number, contents),
                        time_call(digest_all, contents)])
    return {"triples": triples[KEPT:], "mib": sum(map(len, contents)) / 2**20}


def make_federation(cars: int) -> Any:
    """Make the parts of a federation that a checkpoint needs, with all cars on this rank."""
    from fedsim.algorithms import FedADMM
    from fedsim.distributed.world import World
    from fedsim.federation.federation import Car, Federation, Fleet, Method, Schedule
    from fedsim.federation.memories import make_memories
    from fedsim.models import build_model
    from fedsim.models.flat import FlatModel

    world, nothing = World.join(device="cpu", threads=1), None
    model, algorithm = FlatModel(build_model("segnet-basic", 11, None), world.device), FedADMM()
    return Federation(
        world=world, model=model, training=nothing, method=Method(algorithm),
        schedule=Schedule(rounds=NEVER, lr=0.1, participation=1.0, seed=0),
        fleet=Fleet((Car("car", 8),) * cars, (0,) * cars, (8,) * cars, dict.fromkeys(range(cars), nothing)),
        memories=make_memories(algorithm.init_memory(model.theta), range(cars), None))


def write_plainly(folder: Path, number: int, contents: list[bytes]) -> None:
    """Write contents to files, and keep as many generations of them as of checkpoints.

    A disk that holds the same files takes as long to write new ones.
    """
    for place, content in enumerate(contents):
        with open(folder / f"plain-{number}-{place}", "xb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
    for path in folder.glob(f"plain-{number - KEPT}-*"):
        path.unlink()


def digest_all(contents: list[bytes]) -> None:
    for content in contents:
        hashlib.sha256(content).digest()


def time_call(action: Callable[..., object], *arguments: object) -> Spent:
    started, before = time.perf_counter(), time.process_time()
    action(*arguments)
    return Spent(time.perf_counter() - started, time.process_time() - before)


def time_run(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return the seconds of all rounds but the first, and of the checkpoints in them."""
    from fedsim.main import main as fedsim_main
    from fedsim.record.checkpoints import Checkpoints

    save, saves = Checkpoints.save, []

    def save_and_time(checkpoints: Checkpoints, state: Any) -> None:
        saves.append(time_call(save, checkpoints, state).seconds)

    Checkpoints.save, out = save_and_time, folder / "run"
    assert fedsim_main(["--rounds", str(asked.rounds), "--checkpoint-every", str(asked.every), "--threads", "1",
                        "--out", str(out)]) == 0
    totals = [json.loads(line)["seconds"]["total"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    # The seconds of a round start at the record of the round before, so they include that round's checkpoint.
    return {"rounds": sum(totals[2:]), "saves": sum(saves[:-1])}


WORKERS: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {"write": time_writes, "job": time_run}

if __name__ == "__main__":
    main()
