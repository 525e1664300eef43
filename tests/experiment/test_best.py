"""The best round of a run: its model is kept, and a run ends that no longer gets better.

Each test names a mutation that it was seen to catch.
"""

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from sameness import tensors
from undrawn import draw_nothing

from fedsim.experiment.best import is_best, why_it_ends
from fedsim.main import main
from fedsim.record.overview import Overview
from fedsim.settings.fields import Settings

TINY = ["--data", "camvid", "--algo", "avg", "--width", "4", "--image-size", "32x24", "--threads", "1", "--lr-schedule",
        "constant", "--rounds", "30"]


def made_up(*mious: float | None) -> list[dict]:
    return [{"round": number, "global": None if miou is None else {"miou": miou}} for number, miou in enumerate(mious)]


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def digests(run: Path) -> list[tuple]:
    return [(record["round"], record["theta_sha256"], record["global"], record.get("ended")) for record in records(run)]


def test_patience_counts_scored_rounds_since_the_best_and_a_target_ends_at_once():
    """Catches rounds without a score that count, an equal score that counts as a higher one, and a strict target."""
    patient, aiming = Settings(patience=2), Settings(stop_at=0.5)
    assert why_it_ends(made_up(0.1, 0.3, 0.2, None), patient) is None
    assert why_it_ends(made_up(0.1, 0.3, None, 0.3), patient) is None
    assert why_it_ends(made_up(0.1, 0.3, 0.3, None, 0.2), patient) == (
        "its mIoU has not risen for 2 scored rounds, since 0.300 (--patience 2)")
    assert why_it_ends(made_up(0.1, 0.3, 0.2, 0.4), patient) is None
    assert why_it_ends(made_up(0.1, 0.5), aiming) == "its mIoU has reached 0.5 (--stop-at)"
    assert why_it_ends(made_up(0.1, 0.5, None), aiming) is None and why_it_ends([], aiming) is None
    assert why_it_ends(made_up(0.9, 0.1, 0.1, 0.1), Settings()) is None
    assert why_it_ends(made_up(0.1, 0.5), Settings(stop_at=0.5, rounds=1)) is None, "it ends anyway"
    assert [is_best(made_up(*mious)) for mious in ((0.1,), (0.1, 0.1), (0.1, None, 0.2), (0.2, None))] == [
        True, False, True, False]


def test_a_run_ends_early_keeps_its_best_model_and_goes_on_if_it_may(tiny_camvid, tmp_path, monkeypatch, capsys):
    """Catches a run that counts as stopped, one that trains on after a resume, an end that the record keeps although
    the settings have changed, the last model under the name of the best, and a new patience that changes bits."""
    draw_nothing(monkeypatch.setattr)
    one, whole, plain = (tmp_path / name for name in ("one", "whole", "plain"))
    base = [*TINY, "--data-root", str(tiny_camvid)]
    assert main([*base, "--patience", "1", "--keep-best", "--out", str(one)]) == 0
    found = records(one)
    mious = [record["global"]["miou"] for record in found]
    best = mious.index(max(mious))
    assert 0 < best == len(found) - 2 < 29 and "ended" in found[-1] and not any("ended" in each for each in found[:-1])
    assert Overview.of(one).state == "finished"
    summary = (one / "report" / "summary.md").read_text()
    assert f"after round {len(found) - 1} of 30" in summary and f"the model of round {best}, whose mIoU" in summary
    kept = one / "checkpoints" / "best.safetensors"
    assert json.loads(safe_open(kept, "pt").metadata()["chosen"]) == {
        "round": best, "miou": mious[best], "on": "val split"}
    assert main([*base, "--rounds", str(best), "--out", str(plain)]) == 0
    assert tensors(kept) == tensors(plain / "checkpoints" / "model.safetensors")

    before = digests(one)
    capsys.readouterr()
    assert main(["--resume", str(one)]) == 0
    assert digests(one) == before and "nothing is trained" in capsys.readouterr().out
    assert main([*base, "--patience", "3", "--keep-best", "--out", str(whole)]) == 0
    assert main(["--resume", str(one), "--patience", "3"]) == 0
    assert len(digests(whole)) > len(before) and digests(one) == digests(whole)
    assert tensors(kept) == tensors(whole / "checkpoints" / "best.safetensors")


@pytest.mark.parametrize(("options", "words"), [
    (["--patience", "3", "--eval-split", "test"], "--patience would choose a model by the test split"),
    (["--keep-best", "--hold-out-drive", "d1"], "--keep-best would choose a model by the held-out drive d1"),
    (["--keep-best", "--algo", "local"], "--keep-best keeps the global model; with local there is none"),
    (["--stop-at", "50"], "--stop-at is 50.0; it must be above 0 and at most 1"),
    (["--patience", "0"], "--patience is 0; it must be at least 1")])
def test_a_mistake_gets_a_sentence(options, words, tiny_camvid, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*TINY, "--data-root", str(tiny_camvid), *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and words in lines[0]
