"""What checkpoints cost.

    python benchmarks/checkpoints.py [--pairs 5] [--cars 100] [--rounds 5] [--folder DIR]

1. A checkpoint of segnet-basic with 100 cars of FedADMM that have all taken part / the same bytes in as many files,
   each written and synced: in turn, pair by pair, by the clock and in processor time. Beside it what SHA-256 of these
   bytes takes.
2. The default job with fewer rounds, a checkpoint in each / none: processes in turn, by the clock, scoring included.
   Where other programs run, that ratio is mostly noise; directly, seconds of checkpoints / seconds of all else.

How long a write takes depends on the disk: --folder is on the one to measure, by default that of temporary files.
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
KEPT = 2  # checkpoints; the first ones, which replace none, are not timed


class Took(NamedTuple):
    seconds: float
    processor: float  # seconds of it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="at least 1 (default 5)")
    parser.add_argument("--cars", type=int, default=100, help="of 1 (default 100)")
    parser.add_argument("--rounds", type=int, default=5, help="of 2, at least 3 (default 5)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to write")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    parser.add_argument("--every", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            print(json.dumps(WORKERS[asked.worker](asked, Path(folder))))
        return
    common = [f"--{name}={getattr(asked, name)}" for name in ("pairs", "cars", "rounds", "folder")]
    compare_writes(asked, common)
    compare_jobs(asked, common)


def compare_writes(asked: argparse.Namespace, common: list[str]) -> None:
    written: Any = in_process(__file__, "write", *common)
    triples = [[Took(*took) for took in triple] for triple in written["triples"]]
    print(f"1. a checkpoint of {asked.cars} cars, {written['mib']:.0f} MiB / a plain write, {asked.pairs} pairs")
    show("by the clock", [ours.seconds / plain.seconds for ours, plain, _ in triples])
    show("processor time", [ours.processor / plain.processor for ours, plain, _ in triples])
    for number, name in enumerate(("checkpoint", "plain write", "SHA-256")):
        show(f"{name}, s", [triple[number].seconds for triple in triples])
        show(f"{name}, s of processor", [triple[number].processor for triple in triples])


def compare_jobs(asked: argparse.Namespace, common: list[str]) -> None:
    pairs = [[in_process(__file__, "job", *common, f"--every={every}") for every in (1, NEVER)]
             for _ in range(asked.pairs)]
    print(f"2. default job of {asked.rounds} rounds, {asked.pairs} pairs")
    show("checkpoints / none", [often["rounds"] / never["rounds"] for often, never in pairs])
    show("checkpoints / all else", [often["saves"] / (often["rounds"] - often["saves"]) for often, _ in pairs])
    show("ms of a checkpoint", [1000 * often["saves"] / (asked.rounds - 1) for often, _ in pairs])
    show("ms of a round without", [1000 * never["rounds"] / (asked.rounds - 1) for _, never in pairs])


def written_twice(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What a checkpoint, a plain write of its bytes and SHA-256 of them take, again and again."""
    from fedsim.federation.rounds import initial_state
    from fedsim.record.checkpoints import Checkpoints

    federation = everyone_federation(asked.cars)
    state, algorithm = initial_state(federation), federation.method.algorithm
    checkpoints, contents, triples = Checkpoints(folder, federation, "a benchmark"), [], []
    for number in range(1, KEPT + asked.pairs + 1):
        memories = {car: algorithm.init_memory(state.shared.theta.clone()) for car in range(asked.cars)}
        state = replace(state, round=number, memories=memories)
        ours = timed(checkpoints.save, state)
        contents = contents or [path.read_bytes() for path in sorted(folder.iterdir())]
        triples.append([ours, timed(write_plainly, folder, number, contents), timed(digests, contents)])
    return {"triples": triples[KEPT:], "mib": sum(map(len, contents)) / 2**20}


def everyone_federation(cars: int) -> Any:
    """What a checkpoint asks of a federation whose cars are all on this rank."""
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
        schedule=Schedule(rounds=NEVER, lr=0.1, cosine=False, participation=1.0, seed=0),
        fleet=Fleet((Car("car", 8),) * cars, (0,) * cars, (8,) * cars, dict.fromkeys(range(cars), nothing)),
        memories=make_memories(algorithm.init_memory(model.theta), range(cars), None))


def write_plainly(folder: Path, number: int, contents: list[bytes]) -> None:
    """As many generations are kept as there are of checkpoints: where files lie decides how long writing them takes."""
    for place, content in enumerate(contents):
        with open(folder / f"plain-{number}-{place}", "xb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
    for path in folder.glob(f"plain-{number - KEPT}-*"):
        path.unlink()


def digests(contents: list[bytes]) -> None:
    for content in contents:
        hashlib.sha256(content).digest()


def timed(action: Callable[..., object], *arguments: object) -> Took:
    started, before = time.perf_counter(), time.process_time()
    action(*arguments)
    return Took(time.perf_counter() - started, time.process_time() - before)


def job(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Seconds of all rounds but the first, and of the checkpoints among them."""
    from fedsim.main import main as fedsim_main
    from fedsim.record.checkpoints import Checkpoints

    save, saves = Checkpoints.save, []

    def timed_save(checkpoints: Checkpoints, state: Any) -> None:
        saves.append(timed(save, checkpoints, state).seconds)

    Checkpoints.save, out = timed_save, folder / "run"
    assert fedsim_main(["--rounds", str(asked.rounds), "--checkpoint-every", str(asked.every), "--threads", "1",
                        "--out", str(out)]) == 0
    totals = [json.loads(line)["seconds"]["total"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    # A round's seconds count from the record before, so the checkpoint before is among them.
    return {"rounds": sum(totals[2:]), "saves": sum(saves[:-1])}


WORKERS: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {"write": written_twice, "job": job}

if __name__ == "__main__":
    main()
