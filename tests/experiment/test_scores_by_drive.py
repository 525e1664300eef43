"""Scores by drive, from a run's record to its page, an evaluation and a comparison."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from undrawn import draw_nothing

from fedsim.main import main

DRIVES = {"d1": 4, "d3": 4}  # of the test split


@pytest.fixture(scope="module")
def runs(tiny_camvid, tmp_path_factory) -> Path:
    """Two runs that are scored on a test split of two drives, which are not trained on. Read only."""
    folder = tmp_path_factory.mktemp("by-drive")
    root = Path(shutil.copytree(tiny_camvid, folder / "camvid"))
    lines = (root / "train.txt").read_text().splitlines(keepends=True)
    for split, wanted in (("train", False), ("test", True)):
        chosen = [line for line in lines if any(f"/{drive}_" in line for drive in DRIVES) == wanted]
        (root / f"{split}.txt").write_text("".join(chosen))
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch.setattr)
        for algo in ("avg", "local"):
            assert main(["--data", "camvid", "--data-root", str(root), "--eval-split", "test", "--algo", algo, "--cars",
                         "2", "--rounds", "1", "--width", "4", "--image-size", "32x24", "--threads", "1",
                         "--out", str(folder / algo)]) == 0
    return folder


def last_score(run: Path) -> dict:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["global"]


@pytest.mark.parametrize("algo", ["avg", "local"])
def test_a_record_and_a_summary_have_the_miou_of_every_drive(runs, algo):
    """Of the global model, or the mean over the cars' own."""
    score = last_score(runs / algo)
    assert list(score["drive_miou"]) == [*DRIVES] and len({*score["drive_miou"].values(), score["miou"]}) == 3
    text = (runs / algo / "report" / "summary.md").read_text()
    for drive, miou in score["drive_miou"].items():
        assert any(line.startswith(f"| {drive} |") and line.endswith(f"| {miou:.3f} |") for line in text.splitlines())
    events = EventAccumulator(str(runs / algo / "tensorboard" / "coordinator")).Reload()
    assert [event.value for event in events.Scalars("drive_miou/d3")][-1] == pytest.approx(score["drive_miou"]["d3"])


def test_an_evaluation_gives_the_same_and_a_comparison_a_table(runs, command, tmp_path):
    """To the bit. Catches scores of perturbed pictures that are not of all drives."""
    command("evaluate", runs / "avg", runs / "local", "--perturb", "fog:1", "--threads", "1", "--out", "scores")
    told = json.loads((tmp_path / "scores" / "robustness.json").read_text())["runs"]
    assert [run["clean"]["drive_miou"] for run in told] == [last_score(runs / algo)["drive_miou"]
                                                            for algo in ("avg", "local")]
    assert [run["clean"]["miou"] for run in told] == [last_score(runs / algo)["miou"] for algo in ("avg", "local")]
    assert "drive_miou" not in told[0]["perturbed"]["fog:1"]
    text = (tmp_path / "scores" / "robustness.md").read_text()
    mious = [f"{run['clean']['drive_miou']['d1']:.3f}" for run in told]
    assert "## mIoU by drive, test split" in text and f"| d1 | {' | '.join(mious)} |" in text
    command("compare", runs / "avg", runs / "local", "--out", "comparison")
    assert f"| d1 | {' | '.join(mious)} |" in (tmp_path / "comparison" / "report.md").read_text()
    with open(tmp_path / "comparison" / "table.csv", newline="") as file:
        assert [float(row["miou d1"]) for row in csv.DictReader(file)] == [run["clean"]["drive_miou"]["d1"]
                                                                           for run in told]
