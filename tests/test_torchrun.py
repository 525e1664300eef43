"""Real processes: the same bits on 1, 2 and 4 ranks, and what a run leaves on disk.

Five cars, so that neither 2 nor 4 ranks share them evenly, with 5, 4, 3, 4 and 2 scenes.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import product
from pathlib import Path

import pytest
import torch
from commandline import parse
from conftest import TINY_DRIVES
from launches import launch
from safetensors.torch import load_file

from fedsim.classes import CAMVID_11
from fedsim.experiment.identity import config
from fedsim.main import main
from fedsim.models import build_model
from fedsim.models.flat import FlatModel
from fedsim.record.checkpoints import PART

ROUNDS, BATCH = 3, 2
IMAGES = list(TINY_DRIVES.values())
STEPS = [-(-images // BATCH) for images in IMAGES]
JOBS = {
    "admm": ["--algo", "admm"],
    "half": ["--algo", "admm", "--participation", "0.5", "--batchnorm", "pooled", "--weighting", "images",
             "--average-weights", "swa:0.5"],
    "avg": ["--algo", "avg", "--local-epochs", "2", "--average-weights", "ema:0.5"],
    "robust": ["--algo", "scaffold", "--aggregator", "geometric-median", "--clip-norm", "3", "--attackers", "1",
               "--attack", "gaussian", "--batchnorm", "local", "--local-epochs", "1:2", "--car-failures", "0.2"],
    "disk": ["--algo", "dyn", "--car-states", "disk", "--participation", "0.6", "--batchnorm", "local-statistics"],
    "yogi": ["--algo", "nova", "--server-optimizer", "yogi", "--norm", "group", "--local-epochs", "0.4",
             "--precision", "fp16"],
    "krum": ["--algo", "fedprox", "--aggregator", "multi-krum", "--attackers", "1", "--attack", "label-flip",
             "--car-states", "disk", "--batchnorm", "average", "--precision", "bf16"],
    "balanced": ["--algo", "admm", "--rho", "balanced", "--local-start", "own", "--car-failures", "0.3"],
    "local": ["--algo", "local"],
    "central": ["--algo", "central"],
}
MAIN = "admm"
STARTED = (1, 4)  # on so many ranks the main job is started as a user would; the others are forked, and draw nothing
RANKS = (1, 2, 4)


def start(ranks: int, *program: str, folder: Path | None = None) -> subprocess.CompletedProcess:
    """Run a module on so many ranks, without torchrun if it is one, in a folder (the project's own)."""
    root = Path(__file__).parent.parent
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    launcher = torchrun if ranks > 1 else []
    return subprocess.run([sys.executable, *launcher, *program], capture_output=True, text=True, timeout=300,
                          cwd=folder or root, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)})


def command(root: Path, out: Path, *options: str) -> list[str]:
    return [*options, "--data", "camvid", "--data-root", str(root), "--cars", "5", "--rounds", str(ROUNDS),
            "--batch-size", str(BATCH), "--image-size", "32x24", "--width", "4", "--evaluate-every", "3",
            "--threads", "1", "--out", str(out)]


@pytest.fixture(scope="session")
def runs(tiny_camvid, tmp_path_factory) -> Path:
    """Finished runs: <job>-<ranks>/, and on one rank again/ and seed/."""
    folder = tmp_path_factory.mktemp("runs")

    def arguments(job: str, ranks: int) -> list[str]:
        return command(tiny_camvid, folder / f"{job}-{ranks}", *JOBS[job])

    for ranks in STARTED:
        done = start(ranks, "-m", "fedsim.main", *arguments(MAIN, ranks))
        assert done.returncode == 0, f"{MAIN} on {ranks} ranks:\n{done.stderr}"
    for job, ranks in product(JOBS, RANKS[1:]):
        if job != MAIN or ranks not in STARTED:
            ended = launch(arguments(job, ranks), folder, folder / f"{job}-{ranks}", ranks=ranks)
            assert ended.status == 0, f"{job} on {ranks} ranks:\n{ended.said}"
    for alone in [*(arguments(job, 1) for job in JOBS if job != MAIN),
                  command(tiny_camvid, folder / "seed", *JOBS[MAIN], "--seed", "1"),
                  ["--config", str(folder / f"{MAIN}-2" / "config.toml"), "--out", str(folder / "again")]]:
        assert main(alone) == 0
    return folder


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def digests(run: Path) -> list[tuple[str, str | None]]:
    """(digest of theta, digest of the statistics that were measured for the score) in the order of records."""
    return [(record["theta_sha256"], record.get("statistics_sha256")) for record in records(run)]


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("ranks", RANKS[1:])
def test_the_number_of_ranks_changes_no_bit(runs, job, ranks):
    alone, spread = records(runs / f"{job}-1"), records(runs / f"{job}-{ranks}")
    assert json.loads((runs / f"{job}-{ranks}" / "environment.json").read_text())["ranks"] == ranks
    assert len({record["theta_sha256"] for record in alone}) == ROUNDS + 1, "theta moves in every round"
    for one, other in zip(alone, spread, strict=True):
        assert one.pop("seconds").keys() == other.pop("seconds").keys()
        for timed in (*one["cars"], *other["cars"], one, other):
            timed.pop("pictures_per_second", None)
        assert one == other


@pytest.mark.parametrize("job", JOBS)
def test_the_saved_weights_and_checkpoints_are_the_same_on_any_number_of_ranks(runs, job):
    """Catches buffers that count what a rank has played, such as BatchNorm's num_batches_tracked."""
    alone = {path.name: load_file(path) for path in (runs / f"{job}-1" / "checkpoints").glob("*.safetensors")}
    models = [name for name in alone if not PART.fullmatch(name)]
    assert len(models) == {"local": len(IMAGES), "robust": 1 + len(IMAGES), "disk": 1 + len(IMAGES),
                           "half": 2, "avg": 2}.get(job, 1)
    for ranks in RANKS[1:]:
        for name, weights in alone.items():
            here = load_file(runs / f"{job}-{ranks}" / "checkpoints" / name)
            assert here.keys() == weights.keys()
            assert [key for key in weights if not torch.equal(here[key], weights[key])] == []


def test_the_last_digest_is_that_of_the_saved_weights(runs):
    """Of parameters, and of statistics. Catches weights saved of another round or of a car."""
    module = build_model("segnet-small", len(CAMVID_11), 4)
    module.load_state_dict(load_file(runs / "admm-2" / "checkpoints" / "model.safetensors"))
    model = FlatModel(module, torch.device("cpu"))
    saved = [hashlib.sha256(part.numpy().tobytes()).hexdigest() for part in (model.parameters, model.statistics)]
    assert tuple(saved) == digests(runs / "admm-2")[-1]


def test_a_run_directory_repeats_the_run_to_the_bit(runs):
    """Its config.toml alone, on another number of ranks."""
    assert digests(runs / "again") == digests(runs / "admm-2")
    assert tomllib.loads((runs / "again" / "config.toml").read_text()) == tomllib.loads(
        (runs / "admm-2" / "config.toml").read_text())


@pytest.mark.parametrize("job", JOBS)
def test_what_was_decided_is_a_preset_that_decides_the_same(runs, job):
    """Catches a default written down for an algorithm that then refuses it."""
    path = runs / f"{job}-2" / "config.toml"
    written = tomllib.loads(path.read_text())
    assert config(parse(["--config", str(path)])) == written
    assert written["threads"] == 1 and ("weighting" in written) == (job not in ("local", "central"))


def test_another_seed_gives_another_run(runs):
    assert not set(digests(runs / "seed")) & set(digests(runs / "admm-1"))


def shape(value):
    """A record with types in the place of values, lists by their distinct elements."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        shapes = []
        for inner in value:
            if shape(inner) not in shapes:
                shapes.append(shape(inner))
        return shapes
    return type(value)


SCORES = {"loss": float, "miou": float, "pixel_accuracy": float,
          "class_iou": dict.fromkeys(CAMVID_11.names, float)}
CAR = {"car": int, "name": str, "images": int, "steps": int, "loss": float, "drift": float, "gradient_norm": float,
       "weight_norm": float, "train_miou": float, "pictures_per_second": float}
ALWAYS = {"round": int, "algo": str, "pictures": int, "sequential_steps": int, "bytes_up": int,
          "bytes_down": int, "seconds": dict.fromkeys(("local", "combine", "evaluate", "total"), float),
          "theta_norm": float, "theta_sha256": str}
ADMM = {"primal_residual": float, "dual_residual": float, "mean_dual_norm": float, "rho": float}


@pytest.mark.parametrize(("job", "of_round", "of_car"), [
    ("admm", ADMM, {"dual_norm": float}), ("half", ADMM, {"dual_norm": float}), ("avg", {}, {}),
    ("central", {}, {}), ("local", {}, {})])
def test_every_round_is_recorded_under_its_keys_and_no_others(runs, job, of_round, of_car):
    """Keys of ADMM are absent elsewhere; round 0 has no cars; a round that is not scored says null."""
    untrained, *between, last = records(runs / f"{job}-2")
    assert [record["round"] for record in (untrained, *between, last)] == list(range(ROUNDS + 1))
    measured = {"statistics_sha256": str} if job in ("admm", "avg", "central") else {}
    assert shape(untrained) == ALWAYS | {"global": SCORES, "cars": []} | measured | (
        {"worst": {"car": int, "name": str, "miou": float}} if job == "local" else {})
    trained = ALWAYS | {"lr": float, "step_norm": float, "pictures_per_second": float} | of_round
    trained |= {"cars": [CAR | of_car]}
    for record in between:
        assert shape(record) == trained | {"global": type(None)}
    if job == "local":
        own = CAR | {"miou": float, "own_loss": float}
        trained |= {"cars": [own], "worst": {"car": int, "name": str, "miou": float}}
    averaged = {"averaged": SCORES} if job in ("half", "avg") else {}
    assert shape(last) == trained | {"global": SCORES} | measured | averaged
    assert all(re.fullmatch("[0-9a-f]{64}", record["theta_sha256"]) for record in (untrained, *between, last))


def test_pictures_and_sequential_steps_of_federations_count_all_cars_and_the_slowest(runs):
    """Catches a sum of steps over cars, and pictures that forget local epochs."""
    for job, epochs in (("admm", 1), ("avg", 2)):
        for record in records(runs / f"{job}-4"):
            assert record["pictures"] == record["round"] * epochs * sum(IMAGES)
            assert record["sequential_steps"] == record["round"] * epochs * max(STEPS)


def test_cars_that_sit_out_are_not_counted(runs):
    pictures = steps = 0
    for record in records(runs / "half-4")[1:]:
        cars = [entry["car"] for entry in record["cars"]]
        assert len(cars) == 2
        pictures += sum(IMAGES[car] for car in cars)
        steps += max(STEPS[car] for car in cars)
        assert (record["pictures"], record["sequential_steps"]) == (pictures, steps)


def test_central_training_sees_as_many_pictures_in_steps_one_after_another(runs):
    for central, admm in zip(records(runs / "central-2"), records(runs / "admm-2"), strict=True):
        assert central["pictures"] == admm["pictures"]
        assert central["sequential_steps"] == central["round"] * -(-sum(IMAGES) // BATCH)


def test_bytes_are_what_the_rounds_cars_would_exchange(runs):
    """Contribution and statistics up, theta and statistics down; 4 bytes each.

    Statistics that are measured are exchanged in round 3 alone, which is scored, and theta goes down again for them.
    """
    environment = json.loads((runs / "avg-4" / "environment.json").read_text())
    d, c = environment["parameters"], environment["statistics"]
    for job, cars, up, down in [("avg", 5, d, d), ("half", 2, d + c, d + c), ("local", 5, 0, 0),
                                ("central", 1, 0, 0)]:
        *others, last = records(runs / f"{job}-4")[1:]
        if job == "avg":
            assert (last["bytes_up"], last["bytes_down"]) == (4 * cars * (d + c), 4 * cars * (2 * d + c))
        for record in others if job == "avg" else [*others, last]:
            assert (record["bytes_up"], record["bytes_down"]) == (4 * cars * up, 4 * cars * down), job


def files(run: Path) -> set[str]:
    return {re.sub(r"tfevents\..*", "tfevents", str(path.relative_to(run)))
            for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("job", ["admm", "local"])
def test_a_run_directory_is_complete(runs, job, ranks):
    """With the two latest checkpoints, to which every car belongs that keeps something."""
    cars = [f"car-{number:02d}-{drive}" for number, drive in enumerate(TINY_DRIVES)]
    models = ["model"] if job == "admm" else cars
    kept = [ROUNDS - 1, ROUNDS]
    assert files(runs / f"{job}-{ranks}") == {
        "config.toml", "environment.json", "partition.json", "lock", "metrics.jsonl", "report/loss.png",
        "report/miou.png", "report/segmentation.png", "report/summary.md",
        "report/index.html", "report/summary.json",
        *(f"tensorboard/{part}/events.out.tfevents" for part in ("coordinator", "result", *cars)),
        *(f"checkpoints/{name}.safetensors" for name in models),
        *(f"checkpoints/round-{number:06d}.json" for number in kept),
        *(f"checkpoints/global-{number:06d}.safetensors" for number in kept),
        *(f"checkpoints/car-{car:05d}-{number:06d}.safetensors" for car in range(len(cars)) for number in kept)}


def test_the_partition_names_every_scene_and_the_environment_every_cars_rank(runs):
    alone, spread = (json.loads((runs / f"admm-{ranks}/environment.json").read_text()) for ranks in (1, 4))
    split = json.loads((runs / "admm-4" / "partition.json").read_text())
    assert [len(car["scenes"]) for car in split["cars"]] == [car["images"] for car in alone["partition"]] == IMAGES
    assert {car["rank"] for car in spread["partition"]} == {0, 1, 2, 3}
    assert alone["data"] == spread["data"] and set(alone["data"]) == {"train", "val"}


def test_a_directory_that_holds_a_run_is_refused_and_left_as_it_is(runs, tiny_camvid, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(runs / "avg-1", run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(command(tiny_camvid, run, "--algo", "avg")) == 2
    assert capsys.readouterr().err == (
        f"fedsim: {run} already holds a run or other files; choose a new directory with --out\n")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
