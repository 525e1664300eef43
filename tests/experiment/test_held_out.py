"""A drive that is held out: nobody trains on it, and it is scored."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commandline import parse
from layouts import draw, write_folder
from scenery import SOLO
from undrawn import draw_nothing

from fedsim.data.datasets.streets.drives import FRAMES
from fedsim.data.partition import PARTITIONS
from fedsim.data.partition.dealt import Dealt
from fedsim.errors import SettingsError
from fedsim.experiment.dealing import cars_of, deal, source_of
from fedsim.main import main
from fedsim.settings import compatible
from fedsim.settings.fields import Settings
from fedsim.system.console import SILENT

TINY = ["--data", "camvid", "--rounds", "2", "--width", "4", "--image-size", "32x24", "--threads", "1"]


@pytest.fixture
def settings(tiny_camvid) -> Settings:
    return Settings(data="camvid", data_root=str(tiny_camvid), image_size="32x24", hold_out_drive="d1")


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """A function that plays a command line and returns the sentence that refuses it."""
    monkeypatch.chdir(tmp_path)

    def play(*arguments: str) -> str:
        assert main(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    return play


def train(*arguments: object) -> None:
    """Play a run without figures, which take longer than the run."""
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch.setattr)
        assert main([*map(str, arguments)]) == 0


def dealt(settings: Settings) -> Dealt:
    compatible.check(settings)
    cars = cars_of(settings, ranks=1)
    return deal(settings, source_of(settings, cars), cars, SOLO, SILENT)


def without_drive(root: Path, drive: str, copy: Path) -> Path:
    """Write a data set that lacks a drive in training, and has it as its only validation drive."""
    shutil.copytree(root, copy)
    lines = (root / "train.txt").read_text().splitlines(keepends=True)
    for split, wanted in (("train", False), ("val", True)):
        (copy / f"{split}.txt").write_text("".join(line for line in lines if (f"/{drive}_" in line) == wanted))
    return copy


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("scheme", PARTITIONS)
@pytest.mark.parametrize("cars", [2, 4, 6])
def test_the_cars_are_those_of_a_data_set_without_the_drive(settings, tiny_camvid, tmp_path, scheme, cars):
    """Names, scenes, conditions and pictures. Catches scenes that are dealt and dropped afterwards."""
    root = without_drive(tiny_camvid, "d1", tmp_path / "less")
    one = dealt(replace(settings, partition=scheme, cars=cars))
    other = dealt(replace(settings, partition=scheme, cars=cars, hold_out_drive=None, data_root=str(root)))
    for ours, theirs in zip(one.shards, other.shards, strict=True):
        assert (ours.name, ours.condition) == (theirs.name, theirs.condition)
        assert [one.train_set.names[i] for i in ours.indices] == [other.train_set.names[i] for i in theirs.indices]
    for mine, its in ((one.train_set, other.train_set), (one.eval_set, other.eval_set)):
        assert (mine.names, mine.drives, mine.times) == (its.names, its.drives, its.times)
        assert (mine.histograms == its.histograms).all() and mine.images.shape == its.images.shape
        for index in range(len(its)):
            assert np.array_equal(mine.images[index], its.images[index])
            assert np.array_equal(mine.labels[index], its.labels[index])
        assert np.array_equal(mine.images[np.array([2, 0])], its.images[np.array([2, 0])])
    assert {*one.eval_set.drives} == {"d1"} and "d1" not in one.train_set.drives
    assert len(one.train_set) + len(one.eval_set) == 18
    assert not any("no car" in warning or "shares drives" in warning for warning in one.warnings())


@pytest.mark.parametrize("options", [
    ["--algo", "avg", "--cars", "3", "--partition", "dirichlet"], ["--algo", "central"],
    ["--algo", "local", "--cars", "2", "--partition", "condition"],
    ["--algo", "admm", "--cars", "6", "--participation", "0.5", "--attackers", "1"],
], ids=lambda options: options[1])
def test_a_run_is_that_of_a_data_set_without_the_drive(tiny_camvid, tmp_path, options):
    """Vectors, losses, scores and baselines, to the bit. Catches class weights or baselines that see the drive."""
    root = without_drive(tiny_camvid, "d1", tmp_path / "less")
    base = [*TINY, "--cars", "4", *options]
    train(*base, "--data-root", tiny_camvid, "--hold-out-drive", "d1", "--out", tmp_path / "one")
    train(*base, "--data-root", root, "--out", tmp_path / "other")
    ours, theirs = (records(tmp_path / name) for name in ("one", "other"))
    for mine, its in zip(ours, theirs, strict=True):
        assert mine["theta_sha256"] == its["theta_sha256"] and mine["global"] == its["global"]
    baselines = [json.loads((tmp_path / name / "report" / "summary.json").read_text())["baselines"]
                 for name in ("one", "other")]
    assert baselines[0] == baselines[1]


def test_a_run_goes_on_is_repeated_scored_and_shown(tiny_camvid, tmp_path, command, refused, capsys):
    """Each from what the run has written. Catches a drive that one of them forgets."""
    base = [*TINY, "--data-root", tiny_camvid, "--algo", "avg"]
    one, again = tmp_path / "one", tmp_path / "again"
    train(*base, "--hold-out-drive", "d1", "--lr-schedule", "constant", "--rounds", "1", "--out", one)
    assert [car["name"] for car in json.loads((one / "environment.json").read_text())["partition"]] == [
        "d0", "d2", "d3", "d4"]
    capsys.readouterr()
    assert ("--hold-out-drive is d2, but one was run with d1, and that would change the result"
            in refused("--resume", "one", "--hold-out-drive", "d2"))
    train("--resume", one, "--rounds", "2", "--hold-out-drive", "d1")
    train("--config", one / "config.toml", "--partition", one / "partition.json", "--out", again)
    ours, repeated = records(one), records(again)
    assert [record["theta_sha256"] for record in ours] == [record["theta_sha256"] for record in repeated]
    assert [record["global"] for record in ours] == [record["global"] for record in repeated]
    named = "held-out drive d1"
    assert named in (one / "report" / "summary.md").read_text()

    def heading(*arguments: object) -> str:
        shutil.rmtree(tmp_path / "scores", ignore_errors=True)
        command("evaluate", *arguments, "--threads", "1", "--out", "scores")
        return (tmp_path / "scores" / "robustness.md").read_text().splitlines()[0].removeprefix("## ")

    capsys.readouterr()
    assert f"Global model, {named}" in command("show", one)
    assert heading(one, again) == f"Pictures as they are, {named}"
    scored = json.loads((tmp_path / "scores" / "robustness.json").read_text())
    assert (scored["split"], scored["hold_out_drive"]) == ("held-out", "d1")
    assert [run["clean"]["miou"] for run in scored["runs"]] == [ours[-1]["global"]["miou"]] * 2
    file = one / "checkpoints" / "model.safetensors"
    assert heading(file, "--perturb", "fog:1") == f"Pictures as they are, {named}"
    assert heading(one, "--eval-split", "val") == "Pictures as they are, val split"
    assert heading(one, "--eval-split", "train") == "Pictures as they are, train split without drive d1"
    assert heading(one, "--data", "camvid", "--data-root", tiny_camvid) == f"Pictures as they are, {named}"
    config = again / "config.toml"
    config.write_text(config.read_text().replace('hold_out_drive = "d1"', 'hold_out_drive = "d2"'))
    split = (again / "partition.json").read_text()
    (again / "partition.json").write_text(re.sub("d2_0000([0-3])", r"d1_0000\1", split))
    for words, told in (("compare", "one has --hold-out-drive d1 and again d2, so that their scores cannot be "
                                    "compared"), ("evaluate", "scored on different splits or drives; name one")):
        with pytest.raises(SystemExit):
            command(words, "one", "again")
        assert told in capsys.readouterr().err


def test_an_inspection_shows_the_cars_of_the_run(tiny_camvid, tmp_path, command):
    said = command("data", "inspect", "--data", "camvid", "--data-root", tiny_camvid, "--hold-out-drive", "d1",
                   "--partition", "iid", "--out", "look")
    told = json.loads((tmp_path / "look" / "inspection.json").read_text())
    assert told["hold_out_drive"] == "d1" and told["training_scenes"] == 14
    assert told["held-out"] == {"scenes": 4, "drives": ["d1"]} and len(told["cars"]) == 4
    assert "14 training scenes without drive d1" in said


def test_another_split_may_be_scored_and_a_preset_gives_way(settings, tiny_camvid, tmp_path):
    """--eval-split says what is scored, and --hold-out-drive who trains. Catches val of a preset that is scored."""
    plain = dealt(replace(settings, hold_out_drive=None))
    on_val, on_train = (dealt(replace(settings, eval_split=split)) for split in ("val", "train"))
    assert on_val.eval_set.names == plain.eval_set.names and "d1" not in on_val.train_set.drives
    assert on_train.eval_set.names == on_train.train_set.names == dealt(settings).train_set.names
    preset = tmp_path / "preset.toml"
    preset.write_text('eval_split = "val"\nhold_out_drive = "d2"\n')
    assert parse(["--config", str(preset)]).scored() == ("val", "d2")
    assert parse(["--config", str(preset), "--hold-out-drive", "d1"]).scored() == ("held-out", "d1")
    assert parse(["--config", str(preset), "--hold-out-drive", "d1", "--eval-split", "val"]).scored() == ("val", "d1")


def test_without_a_word_there_are_not_more_cars_than_other_drives(settings, tmp_path):
    """Whatever the partition, so that partitions are compared on the same cars. Catches a drive cut in two."""
    root = write_folder(tmp_path / "own", {f"{drive}/{scene}": draw(3) for drive in "abc" for scene in range(2)})
    write_folder(root, {"v/0": draw(3)}, "val")
    own = replace(settings, data="folder", data_root=str(root), hold_out_drive="b")
    for scheme in ("drive", "iid"):
        assert [cars_of(replace(own, partition=scheme), ranks) for ranks in (1, 2, 4)] == [2, 2, 4]
        assert cars_of(replace(own, partition=scheme, cars=3), ranks=1) == 3
        assert [cars_of(replace(settings, partition=scheme), ranks) for ranks in (1, 4, 8)] == [4, 4, 8]
    assert [shard.name for shard in dealt(own).shards] == ["a", "c"]
    assert [shard.name for shard in dealt(replace(own, cars=4)).shards] == ["a-a", "a-b", "c-a", "c-b"]


def test_streets_has_a_drive_for_each_car_beside_the_one_that_is_held_out(monkeypatch, tmp_path):
    monkeypatch.setitem(FRAMES, "train", 2)
    base = Settings(image_size="32x24", hold_out_drive="suburb-dusk-01")
    one = dealt(base)
    assert [shard.name for shard in one.shards] == ["town-day-00", "country-rain-02", "town-fog-03"]
    assert len(dealt(replace(base, cars=4)).train_set) == 8
    last = dealt(replace(base, cars=2, hold_out_drive="country-rain-02"))
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"format": 1, "cars": [
        {"name": shard.name, "scenes": [last.train_set.names[index] for index in shard.indices]}
        for shard in last.shards]}))
    again = dealt(replace(base, partition=str(path), hold_out_drive="country-rain-02"))
    assert (again.train_set.fingerprint, again.eval_set.fingerprint) == (last.train_set.fingerprint,
                                                                        last.eval_set.fingerprint)


@pytest.mark.parametrize(("options", "words"), [
    (["--hold-out-drive", "d9"], "--hold-out-drive is 'd9', but the training split of camvid has no such drive; it has "
                                 "d0, d1, d2, d3, d4"),
    (["--hold-out-drive", "v0"], "has no such drive; it has d0, d1, d2, d3, d4"),
    (["--hold-out-drive", ""], "--hold-out-drive is '', but"),
    (["--eval-split", "held-out"], "--eval-split held-out scores a drive that nobody trains on, and no drive was held "
                                   "out with --hold-out-drive: score train, val or test"),
    (["--hold-out-drive", "d1", "--eval-split", "test"], "there is no split test"),
    (["--hold-out-drive", "d0", "--cars", "14"], "there are 13 training scenes"),
    (["--hold-out-drive", "d0", "--partition", "split.json"],
     "split.json has 5 scene(s) of drive d0, first 'd0_00000' of car 'd0', but --hold-out-drive d0 means that no car "
     "trains on them; take them out of the file, or hold out another drive"),
])
def test_a_mistake_gets_a_sentence(refused, tiny_camvid, tmp_path, options, words):
    if "split.json" in options:
        cars = [{"name": drive, "scenes": [f"{drive}_{i:05d}" for i in range(count)]}
                for drive, count in (("d0", 5), ("d1", 4))]
        (tmp_path / "split.json").write_text(json.dumps({"format": 1, "cars": cars}))
    assert words in refused(*TINY, "--data-root", str(tiny_camvid), *options)


def test_the_only_drive_cannot_be_held_out(settings, tmp_path):
    root = write_folder(tmp_path / "own", {f"a/{scene}": draw(3) for scene in range(2)})
    write_folder(root, {"v/0": draw(3)}, "val")
    with pytest.raises(SettingsError, match="--hold-out-drive a leaves nothing to train on: it is the only drive in "
                                            "the training split of folder"):
        dealt(replace(settings, data="folder", data_root=str(root), hold_out_drive="a"))
