"""Scenes that are held out from each car: nothing trains on them, and every car is scored on its own.

Each test names a mutation that it was seen to catch.
"""

import csv
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import draw, write_folder
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from undrawn import draw_nothing

from fedsim.data.car_scenes import CarScenes
from fedsim.data.partition.dealt import Dealt
from fedsim.data.scene_set import SceneSet
from fedsim.evaluation.evaluate import count_confusion
from fedsim.evaluation.metrics import scores
from fedsim.evaluation.own_scores import OwnScores
from fedsim.experiment import assembly
from fedsim.inference.segmenter import Segmenter
from fedsim.losses.class_weights import class_counts
from fedsim.main import main

SCENES = {"d0": 9, "d1": 8, "d2": 5, "d3": 3, "d4": 2}  # of drives whose times nobody knows
CPU = torch.device("cpu")
OPTIONS = ["--data", "folder", "--cars", "5", "--rounds", "2", "--width", "4", "--image-size", "32x24", "--threads",
           "1", "--own-test", "0.25"]
JOBS = {"avg": ["--algo", "avg"], "local": ["--algo", "local"], "central": ["--algo", "central"],
        "norms": ["--algo", "admm", "--batchnorm", "local", "--partition", "iid", "--evaluate-every", "2"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    numbers = itertools.count()
    root = tmp_path_factory.mktemp("data")
    write_folder(root, {"v/0": draw(3, next(numbers)), "v/1": draw(3, next(numbers))}, "val")
    return write_folder(root, {f"{drive}/{scene}": draw(3, next(numbers)) for drive, count in SCENES.items()
                               for scene in range(count)})


@pytest.fixture(scope="module")
def runs(root, tmp_path_factory) -> tuple[Path, dict[str, Dealt], dict[str, set[str]]]:
    """The folder of a run of each job, its scenes, and the names of the scenes that anything of training looked at."""
    folder, dealt, seen = tmp_path_factory.mktemp("own-test"), {}, {}
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch.setattr)
        read, deal, count = CarScenes._read, assembly.deal, class_counts
        for job, options in JOBS.items():
            names: set[str] = set()
            seen[job] = names

            def trace(scenes, indices, names=names):
                names.update(np.array(scenes._set.names)[indices])
                return read(scenes, indices)

            def keep(*arguments, job=job):
                dealt[job] = deal(*arguments)
                return dealt[job]

            def check(histograms, job=job):
                trained = dealt[job].train_set.histograms[_all(dealt[job], "indices")]
                assert histograms.sum() <= trained.sum()
                return count(histograms)

            patch.setattr(CarScenes, "_read", trace)
            patch.setattr(assembly, "deal", keep)
            patch.setattr(assembly, "class_counts", check)
            assert main([*OPTIONS, *options, "--data-root", str(root), "--out", str(folder / job)]) == 0
    return folder, dealt, seen


def _all(dealt: Dealt, which: str) -> np.ndarray:
    return np.concatenate([getattr(shard, which) for shard in dealt.shards])


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def last(run: Path) -> dict:
    return records(run)[-1]["own_test"]


def miou(model: Segmenter, scenes: SceneSet, indices: np.ndarray) -> float:
    """Of one scene after the other, by a confusion matrix of their own; NaN if there are no scenes."""
    total = sum((count_confusion(model, scenes, [indices[i:i + 1]]) for i in range(len(indices))), torch.zeros(2, 2))
    return scores(total).miou if total.any() else math.nan


@pytest.mark.parametrize("job", JOBS)
def test_no_scene_that_is_held_out_reaches_a_batch_a_statistic_or_a_class_weight(runs, job):
    """Catches centralised training on whole shards, BatchNorm that is measured on them, and scenes in the gap."""
    _, dealt, seen = runs
    names = np.array(dealt[job].train_set.names)
    trained = set(names[_all(dealt[job], "indices")])
    assert seen[job] == trained and len(trained) + len(_all(dealt[job], "own_test")) < len(names), "there is a gap"


@pytest.mark.parametrize("job", JOBS)
def test_a_record_has_the_score_of_every_cars_model_on_its_own_scenes_and_on_the_others(runs, job):
    """By hand, from the files of weights. Catches another car's model, the mean of a confusion matrix over cars, and
    cars without held-out scenes that count as 0."""
    folder, dealt, _ = runs
    pattern = {"local": "car-*-d?.safetensors", "norms": "car-*-iid-*.safetensors"}.get(job, "model.safetensors")
    models = [Segmenter.load(file, CPU) for file in sorted((folder / job / "checkpoints").glob(pattern))]
    shards, scenes = dealt[job].shards, dealt[job].train_set
    table = np.array([[miou(models[car % len(models)], scenes, shard.own_test) for shard in shards]
                      for car in range(len(shards))])
    found, own = last(folder / job), table.diagonal()
    assert len(models) == (5 if job in ("local", "norms") else 1)
    assert list(found["cars"]) == [shard.name for shard in shards]
    assert [math.nan if one is None else one for one in found["cars"].values()] == pytest.approx(own, nan_ok=True)
    there = own[~np.isnan(own)]
    assert len(there) > 1 and (job == "norms" or len(there) < 5), "d3 and d4 are too short"
    pairs = [table[one, other] for one in range(5) for other in range(5) if one != other]
    assert found["mean"] == pytest.approx(there.mean()) and found["worst"] == pytest.approx(there.min())
    assert found["cars"][found["worst_car"]] == found["worst"]
    assert found["others"] == pytest.approx(np.nanmean(pairs)) and found["deviation"] == pytest.approx(there.std())
    assert found["jain"] == pytest.approx(there.sum() ** 2 / (len(there) * (there**2).sum()))


def test_the_matrix_has_every_model_on_every_cars_scenes_and_what_a_car_gains(runs, tmp_path, command, capsys):
    """Catches a table that is turned round, a gain of another car's model, and cars without scenes that count as 0."""
    folder, dealt, _ = runs
    command("evaluate", folder / "avg", folder / "local", "--matrix", "--threads", "1", "--out", "scores")
    lines = [*csv.DictReader((tmp_path / "scores" / "matrix.csv").open())]
    cars = [shard.name for shard in dealt["local"].shards]
    assert [line["model"] for line in lines] == ["global", *cars]
    scenes = dealt["local"].train_set
    for line in lines:
        run = folder / line["run"]
        pattern = "model.safetensors" if line["model"] == "global" else f"car-*-{line['model']}.safetensors"
        model = Segmenter.load(next((run / "checkpoints").glob(pattern)), CPU)
        expected = [miou(model, scenes, shard.own_test) for shard in dealt["local"].shards]
        assert [float(line[car] or "nan") for car in cars] == pytest.approx(expected, nan_ok=True)
        whole = miou(model, dealt["local"].eval_set, np.arange(2))
        assert float(line["unseen"]) == pytest.approx(whole)
    text, (joined, *alone) = (tmp_path / "scores" / "matrix.md").read_text(), lines
    for car, line in zip(cars, alone, strict=True):
        own = [format(float(one[car]), ".3f") if one[car] else "–" for one in (line, joined)]
        gain = f"{float(joined[car]) - float(line[car]):+.3f}" if line[car] else ""
        assert f"| {car} | {own[0]} | {own[1]} | {gain} | {float(line['unseen']):.3f} |" in text
    assert (tmp_path / "scores" / "matrix.png").stat().st_size > 0
    for arguments, words in (([folder / "avg", folder / "norms"], "hold out different scenes, or have different cars"),
                             ([folder / "avg" / "checkpoints" / "model.safetensors"], "is a file of weights")):
        with pytest.raises(SystemExit):
            command("evaluate", *arguments, "--matrix", "--threads", "1")
        assert words in capsys.readouterr().err


def test_the_index_of_fairness_and_a_single_car():
    """Its published ends, 1 and 1/n. Catches a division by 0, and others of nobody."""
    assert OwnScores.of_one("abcd", np.full(4, 0.3)).jain == pytest.approx(1)
    assert OwnScores.of_one("abcd", np.array([0, 0.5, 0, 0])).jain == pytest.approx(1 / 4)
    assert OwnScores.of_one("ab", np.zeros(2)).jain == 1
    assert OwnScores.of_one("a", np.array([0.5])).others is None
    assert OwnScores.of_one("ab", np.array([0.5, math.nan])).others == 0.5


def test_every_report_shows_them(runs, root, tmp_path, command):
    """Catches a page, a board or a comparison that forgets them, and training scenes under their name."""
    folder, dealt, _ = runs
    found = last(folder / "avg")
    summary = (folder / "avg" / "report" / "summary.md").read_text()
    assert f"{found['worst']:.3f} ({found['worst_car']}) |" in summary and f"| {found['jain']:.3f} |" in summary
    events = EventAccumulator(str(folder / "avg" / "tensorboard" / "coordinator")).Reload()
    assert events.Scalars("own_test/worst")[-1].value == pytest.approx(found["worst"])
    said = command("compare", folder / "avg", folder / "local", "--threads", "1", "--out", "table")
    assert "worst car, own scenes" not in said and "Jain's index" in said
    report = (tmp_path / "table" / "report.md").read_text()
    other = last(folder / "local")
    assert re.search(rf"\| avg \| {found['mean']:.3f} \| {found['worst']:.3f} \| {found['others']:.3f} \|", report)
    assert re.search(rf"\| local \| {other['mean']:.3f} \| {other['worst']:.3f} \| {other['others']:.3f} \|", report)
    lines = [*csv.DictReader((tmp_path / "table" / "table.csv").open())]
    assert [line["own_test_worst_car"] for line in lines] == [found["worst_car"], other["worst_car"]]
    said = command("data", "inspect", "--data", "folder", "--data-root", root, "--cars", "5",
                   "--own-test", "0.25", "--out", "look")
    told = json.loads((tmp_path / "look" / "inspection.json").read_text())
    assert [car["own_test"] for car in told["cars"]] == [len(shard.own_test) for shard in dealt["avg"].shards]
    assert "held out" in said and "belong to no car: they lie within 5 seconds" in said


def test_a_file_keeps_them_and_a_run_goes_on_with_them(runs, root, tmp_path, capsys, monkeypatch):
    """Catches a copy of the file that is dealt otherwise, a resume that refuses the command of its start, a share of 0
    that is forgotten, and another file that is taken for the run's."""
    draw_nothing(monkeypatch.setattr)
    folder, _, _ = runs
    split, plain = folder / "norms" / "partition.json", tmp_path / "plain.json"
    content = json.loads(split.read_text())
    for car in content["cars"]:
        car["scenes"] += car.pop("own_test", []) + car.pop("left_out", [])
    plain.write_text(json.dumps(content))
    base = [*OPTIONS[:2], *OPTIONS[4:-2], "--algo", "avg", "--lr-schedule", "constant", "--data-root", str(root)]
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    assert main([*base, "--partition", str(split), "--out", str(one)]) == 0
    again = [*base, "--partition", str(plain), "--own-test", "0.25", "--resume", "auto", "--out", str(two), "--rounds"]
    assert main([*again, "1"]) == 0 and main([*again, "2"]) == 0
    assert main(["--resume", str(two), "--partition", str(split)]) == 0
    assert main([*base, "--partition", str(split), "--own-test", "0", "--out", str(three)]) == 0
    given, copied, kept, whole = (json.loads((run / "partition.json").read_text())["cars"]
                                  for run in (folder / "norms", one, two, three))
    assert copied == given == kept and not any({"own_test", "left_out"} & car.keys() for car in whole)
    first, second = ([record["theta_sha256"] for record in records(run)] for run in (one, two))
    assert first == second and last(two)["mean"] > 0
    assert "own_test" not in records(three)[-1]
    capsys.readouterr()
    content["cars"][0]["own_test"] = content["cars"][0]["scenes"][-1:]
    del content["cars"][0]["scenes"][-1:]
    plain.write_text(json.dumps(content))
    assert main(["--resume", str(one), "--partition", str(plain)]) == 2
    assert "--partition is" in capsys.readouterr().err
