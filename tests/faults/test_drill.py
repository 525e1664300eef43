"""Runs that are killed at random moments and go on: they end as if nothing had happened, on any number of ranks.

A short form of benchmarks/drill.py. The moments are drawn with a fixed seed.
"""

import json
import random
import time
from pathlib import Path

import pytest
import torch
from drilling import ALGORITHMS, Job, options, records
from safetensors.torch import load_file

from fedsim.main import main

ROUNDS = 12
CHAIN = "admm"  # is killed on one rank and on four, too


@pytest.fixture(scope="module", params=ALGORITHMS)
def drilled(request, tiny_camvid, tmp_path_factory) -> tuple[Path, Path]:
    """A run that loses a rank, whereupon torchrun starts all again, then all ranks in the middle of a checkpoint.

    And the undisturbed run before it.
    """
    algo, folder = request.param, tmp_path_factory.mktemp(request.param)
    undisturbed, out, draw = folder / "undisturbed", folder / "run", random.Random(algo)
    asked, go_on = options(algo, tiny_camvid, ROUNDS), ["--resume", "auto"]
    assert main([*asked, "--out", str(undisturbed)]) == 0
    with Job(2, out, asked) as job:
        play_on(job, draw.randint(1, 3), draw)
        lost = job.ranks()
        job.kill_rank(draw.randrange(2))
        job.until(lambda: len(job.ranks()) == 2 and not {*job.ranks().values()} & {*lost.values()}, 60)
        job.kill_in_a_checkpoint()
    if algo == CHAIN:
        with Job(None, out, go_on) as job:
            job.kill_in_a_checkpoint()
        with Job(4, out, go_on) as job:
            play_on(job, 2, draw)
            job.kill()
        with Job(2, out, go_on) as job:
            assert job.wait(120) == 0, job.log.read_text()
    else:
        assert main(["--resume", str(out)]) == 0
    return undisturbed, out


def play_on(job: Job, rounds: int, draw: random.Random) -> None:
    """Wait until so many more rounds are on record, and a little longer."""
    before = len(records(job.out))
    job.until(lambda: len(records(job.out)) >= before + rounds, 120)
    time.sleep(draw.uniform(0, 0.3))


def test_a_killed_run_ends_with_the_records_of_the_undisturbed_one(drilled):
    """Every round once; catches a round played twice, and anything that a car keeps and a checkpoint does not."""
    undisturbed, killed = (records(run) for run in drilled)
    assert [record["round"] for record in killed] == list(range(ROUNDS + 1))
    for one, other in zip(undisturbed, killed, strict=True):
        for timed in (one, other, *one["cars"], *other["cars"]):
            timed |= dict.fromkeys(("seconds", "pictures_per_second"))
        assert one == other


def test_a_killed_run_leaves_the_models_and_checkpoints_of_the_undisturbed_one(drilled):
    """And nothing of checkpoints that were cut short, or of rounds that came about twice."""
    undisturbed, killed = ({path.name: path for path in (run / "checkpoints").iterdir()} for run in drilled)
    assert killed.keys() == undisturbed.keys() and "model.safetensors" in killed
    for name, path in undisturbed.items():
        if path.suffix == ".safetensors":
            was, weights = load_file(path), load_file(killed[name])
            assert was.keys() == weights.keys()
            assert [key for key in was if not torch.equal(was[key], weights[key])] == []
        else:
            was, content = (json.loads(file.read_text())["checkpoint"] for file in (path, killed[name]))
            assert was == content
