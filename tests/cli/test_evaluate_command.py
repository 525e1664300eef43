"""fedsim evaluate: runs scored again, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from layouts import draw, write_fastai, write_folder
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import fedsim.main
from fedsim.classes import CAMVID_11
from fedsim.cli import main
from fedsim.cli.evaluate import expand
from fedsim.data.perturbations import PERTURBATIONS, Perturbation
from fedsim.evaluation.metrics import Scores
from fedsim.evaluation.robustness import Robustness
from fedsim.experiment.past_run import PastRun
from fedsim.report import robustness as robustness_report
from fedsim.report.robustness import ScoredRun


@pytest.fixture(scope="module")
def runs(tiny_camvid, tmp_path_factory) -> Path:
    """Three runs of a round each. Read only: copy one to change it."""
    folder = tmp_path_factory.mktemp("runs")
    for algo in ("avg", "central", "local"):
        arguments = ["--data", "camvid", "--data-root", str(tiny_camvid), "--rounds", "1", "--width", "4",
                     "--cars", "2", "--image-size", "32x24", "--threads", "1", "--algo", algo,
                     "--out", str(folder / algo)]
        assert fedsim.main.main(arguments) == 0
    return folder


@pytest.fixture
def evaluate(monkeypatch, capsys, tmp_path):
    """The command in an empty directory, with what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["fedsim", "evaluate", "--threads", "1", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return run


def last_record(run: Path) -> dict:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])


def test_without_perturbations_it_gives_the_runs_own_score(evaluate, runs, tmp_path):
    """To the bit, of a global model and of cars' own. Catches weights, statistics or scenes of something else."""
    evaluate(*(runs / name for name in ("avg", "central", "local")), "--out", "out")
    told = json.loads((tmp_path / "out" / "robustness.json").read_text())["runs"]
    for name, scored in zip(("avg", "central", "local"), told, strict=True):
        ours, theirs = scored["clean"], last_record(runs / name)["global"]
        assert ours["pixel_accuracy"] == theirs["pixel_accuracy"] and ours["miou"] == theirs["miou"]
        assert ours["class_iou"] == theirs["class_iou"] and scored["perturbed"] == {}
    assert not (tmp_path / "out" / "robustness.png").exists()


def test_models_are_scored_with_one_view(evaluate, runs, tmp_path, capsys):
    """The one that is asked for, or else the runs' own if they have the same. Catches scores of two views side by side,
    and an option that reaches nothing."""
    other = Path(shutil.copytree(runs / "central", tmp_path / "other"))
    path = other / "checkpoints" / "model.safetensors"
    with safe_open(path, "pt") as file:
        card = file.metadata()
    save_file(load_file(path), path, card | {"settings": json.dumps(json.loads(card["settings"]) | {"tile": "16x16"})})
    with pytest.raises(SystemExit):
        evaluate(runs / "central", other)
    assert "the runs were scored with different views of the pictures" in capsys.readouterr().err
    said = evaluate(runs / "central", other, "--test-flip", "--tile", "20x16", "--out", "out")
    told = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert told["view"] == {"scales": [1.0], "flip": True, "tile": [20, 16]}
    scored = [run["clean"]["pixel_accuracy"] for run in told["runs"]]
    assert scored[0] == scored[1] != last_record(runs / "central")["global"]["pixel_accuracy"]
    assert "is shown to the network mirrored as well; in tiles of 20x16 pixels" in said


def test_a_split_that_one_model_lacks_is_found_first(evaluate, runs, tiny_camvid, tmp_path, monkeypatch):
    """Catches the scenes of the first model read before the second is looked at."""
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))
    root = Path(shutil.copytree(tiny_camvid, tmp_path / "less"))
    (root / "val.txt").unlink()
    other = Path(shutil.copytree(runs / "central", tmp_path / "other"))
    config = other / "config.toml"
    config.write_text(config.read_text().replace(str(tiny_camvid), str(root)))
    with pytest.raises(SystemExit):
        evaluate(runs / "avg", other)
    assert not (tmp_path / "cache").exists()


def test_pictures_of_the_data_sets_own_size_are_never_cached(evaluate, runs, tmp_path, monkeypatch):
    """They take 25 GB for a large set."""
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))

    def sizes() -> list[list[int]]:
        return sorted(json.loads(path.read_text())["size"] for path in (tmp_path / "cache").glob("*/meta.json"))

    evaluate(runs / "avg", runs / "central", "--out", "out")
    assert sizes() == [[32, 24]]
    evaluate(runs / "avg", "--perturb", "fog:1", "--out", "foggy")
    assert sizes() == [[32, 24]]


def test_a_run_under_perturbations_leaves_tables_a_plot_and_a_contact_sheet(evaluate, runs, tmp_path):
    said = evaluate(runs / "avg", "--perturb", "fog", "--perturb", "jpeg:2", "--out", "out")
    out = tmp_path / "out"
    told = json.loads((out / "robustness.json").read_text())["runs"][0]
    assert list(told["perturbed"]) == ["fog:1", "fog:2", "fog:3", "fog:4", "fog:5", "jpeg:2"]
    for name in ("robustness.png", "perturbations.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 500
        assert f"out/{name}" in said
    text = (out / "robustness.md").read_text()
    fog = sum(told["perturbed"][f"fog:{i}"]["miou"] for i in range(1, 6)) / 5
    assert f"| fog | {fog:.3f} ({fog / told['clean']['miou']:.2f}) |" in text
    mean = (fog + told["perturbed"]["jpeg:2"]["miou"]) / 2
    assert f"{mean:.3f} | {mean / told['clean']['miou']:.3f}" in text
    assert "| avg | " in text


def test_several_runs_are_compared_with_the_centralised_one(evaluate, runs, tmp_path):
    """Wherever it is named. Catches the first run as reference."""
    evaluate(runs / "avg", runs / "central", "--perturb", "dusk:5", "--out", "out")
    told = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert told["reference"] == str(runs / "central")
    assert "lost, relative to central" in (tmp_path / "out" / "robustness.md").read_text()


@pytest.mark.parametrize(("algos", "reference"), [
    ("avg central-wide central", "central"), ("avg central-wide local", "central-wide"), ("local avg", "local")])
def test_the_reference_is_the_strongest_centralised_run(algos, reference):
    """Catches central-wide for no centralised run, and the first of several."""
    runs = [ScoredRun(algo, f"runs/{algo}", algo, Robustness(None, {})) for algo in algos.split()]
    assert robustness_report.find_reference(runs).algo == reference


def test_the_seed_decides_and_the_same_command_gives_the_same(evaluate, runs, tmp_path):
    for out, seed in (("one", 0), ("two", 0), ("three", 1)):
        evaluate(runs / "avg", "--perturb", "shot-noise:5", "--seed", seed, "--out", out)
    one, two, three = (json.loads((tmp_path / out / "robustness.json").read_text()) for out in ("one", "two", "three"))
    assert one == two and one["runs"][0]["perturbed"] != three["runs"][0]["perturbed"]


def test_another_split_and_another_place_of_the_data(evaluate, runs, tiny_camvid, tmp_path):
    """The data set has moved since the run."""
    shutil.copytree(tiny_camvid, tmp_path / "moved")
    evaluate(runs / "avg", "--data-root", "moved", "--eval-split", "train", "--out", "out")
    assert json.loads((tmp_path / "out" / "robustness.json").read_text())["split"] == "train"


def test_perturbations_come_once_each_in_their_order():
    assert len(expand(["all"])) == 5 * len(PERTURBATIONS) == len(expand(["all", "fog:3"]))
    assert expand(["jpeg:1", "fog:2", "fog:1"]) == [Perturbation("fog", 1), Perturbation("fog", 2),
                                                    Perturbation("jpeg", 1)]
    assert expand([]) == []


def test_a_file_of_weights_is_enough(evaluate, runs, tmp_path):
    """Of a global model and of a car's own, anywhere. Catches a card that does not tell where the scenes are."""
    shutil.copy(runs / "avg/checkpoints/model.safetensors", tmp_path / "here.safetensors")
    cars = PastRun.open(runs / "local").directory.weights()
    said = evaluate("here.safetensors", *cars, "--out", "out")
    told = json.loads((tmp_path / "out" / "robustness.json").read_text())["runs"]
    theirs = last_record(runs / "avg")["global"]
    assert told[0]["clean"]["miou"] == theirs["miou"] and told[0]["clean"]["class_iou"] == theirs["class_iou"]
    assert [one["algo"] for one in told] == ["avg", *["local"] * len(cars)]
    assert all(f"local-{car.stem}" in said for car in cars) and "here" in said
    mean = sum(one["clean"]["miou"] for one in told[1:]) / len(cars)
    assert mean == pytest.approx(last_record(runs / "local")["global"]["miou"])


def own_folder(root: Path, names: tuple[str, ...]) -> Path:
    """A data set of one's own with classes of these names."""
    write_folder(root, {f"d/{number}": draw(len(names), number) for number in range(3)}, "val")
    lines = [f"{index},{name},{index},{index},9" for index, name in enumerate(names)]
    (root / "classes.csv").write_text("\n".join(["label,name,red,green,blue", *lines]))
    return root


def test_another_data_set_of_the_same_classes(evaluate, runs, tmp_path):
    """Catches the folder, or the number of classes, of the data set that the run was trained on."""
    own_folder(tmp_path / "mine", CAMVID_11.names)
    evaluate(runs / "avg", "--data", "folder", "--data-root", "mine", "--out", "out")
    told = json.loads((tmp_path / "out" / "robustness.json").read_text())["runs"][0]["clean"]
    assert list(told["class_iou"]) == [*CAMVID_11.names] and told["miou"] != last_record(runs / "avg")["global"]["miou"]


def test_a_data_set_that_is_named_is_looked_for_in_its_default_folder(evaluate, runs, tmp_path):
    """Catches the folder that the run was trained on."""
    own_folder(tmp_path / "data" / "folder", CAMVID_11.names)
    evaluate(runs / "avg", "--data", "folder", "--out", "out")
    told = json.loads((tmp_path / "out" / "robustness.json").read_text())["runs"][0]["clean"]
    assert told["miou"] != last_record(runs / "avg")["global"]["miou"]


@pytest.mark.parametrize(("options", "says"), [
    (["--data", "folder", "--data-root", "other"], "has 11 classes, and folder has 3 others (class 0: Sky and a)"),
    (["--data-root", "fastai", "--classes", "32"], "has 11 classes, and camvid has 31 others"),
    (["--data", "camvid"], "--data camvid: there is no folder data/camvid in "),
    (["--data", "streets", "--data-root", "."], "leave it out")])
def test_a_data_set_of_other_classes_is_refused(evaluate, runs, capsys, tmp_path, options, says):
    own_folder(tmp_path / "other", ("a", "b", "c"))
    write_fastai(tmp_path / "fastai", {"0001TP_1": draw(32)}, {"0001TP_2": draw(32)})
    with pytest.raises(SystemExit) as stopped:
        evaluate(runs / "avg", *options)
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and says in told and len(told.splitlines()) == 1, told
    assert not (tmp_path / "evaluations").exists()


@pytest.fixture
def copy(runs, tmp_path) -> Path:
    return Path(shutil.copytree(runs / "avg", tmp_path / "copy"))


def change_weights(run: Path, change) -> None:
    path = run / "checkpoints" / "model.safetensors"
    with safe_open(path, "pt") as file:
        card = file.metadata()
    save_file({name: change(name, tensor) for name, tensor in load_file(path).items()}, path, card)


@pytest.mark.parametrize(("damage", "says"), [
    (lambda run: (run / "config.toml").unlink(), "is not a run directory: config.toml cannot be read"),
    (lambda run: (run / "config.toml").write_text("rounds: 3"), "config.toml is not a TOML file"),
    (lambda run: (run / "config.toml").write_text("roundz = 3"), "unknown setting 'roundz'"),
    (lambda run: shutil.rmtree(run / "checkpoints"), "holds no weights: the run has not ended"),
    (lambda run: os.truncate(run / "checkpoints" / "model.safetensors", 50), "cannot be read as weights"),
    (lambda run: os.truncate(run / "checkpoints" / "model.safetensors", 0), "cannot be read as weights"),
    (lambda run: (run / "checkpoints" / "model.safetensors").write_bytes(b"\xff" * 500), "cannot be read as weights"),
    (lambda run: change_weights(run, lambda name, tensor: tensor * float("nan")), "numbers that are not finite"),
    (lambda run: change_weights(run, lambda name, tensor: torch.zeros(3)), "the weights of another network"),
], ids=["no-config", "no-toml", "unknown", "no-weights", "cut", "empty", "noise", "nan", "shapes"])
def test_a_run_that_cannot_be_read_is_refused_by_name(evaluate, copy, capsys, damage, says):
    damage(copy)
    with pytest.raises(SystemExit) as stopped:
        evaluate(copy)
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and says in told and str(copy) in told and len(told.splitlines()) == 1, told


@pytest.mark.parametrize(("options", "says"), [
    (["--perturb", "fogg"], "there is no perturbation 'fogg' (did you mean fog?)"),
    (["--perturb", "fog:9"], "write fog:1 to fog:5"), (["--eval-split", "test"], "there is train and val"),
    (["--data-root", "nowhere"], "there is no directory nowhere"), (["--device", "cuda"], "no usable CUDA device"),
    (["--out", "full"], "already holds")])
def test_a_mistake_gets_one_sentence_and_leaves_nothing(evaluate, runs, capsys, tmp_path, options, says):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        evaluate(runs / "avg", *options)
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and says in told and len(told.splitlines()) == 1, told
    assert not (tmp_path / "evaluations").exists()


def test_runs_that_were_scored_on_different_splits_need_one_named(evaluate, runs, copy, capsys):
    config = copy / "config.toml"
    config.write_text(config.read_text().replace('eval_split = "val"', 'eval_split = "train"'))
    with pytest.raises(SystemExit):
        evaluate(copy, runs / "avg")
    assert "name one with --eval-split" in capsys.readouterr().err
    evaluate(copy, runs / "avg", "--eval-split", "val")


def test_runs_of_different_scenes_are_refused(evaluate, runs, copy, capsys, tmp_path):
    """Although their classes have the same names. Catches a table whose columns cannot be compared."""
    root = own_folder(tmp_path / "mine", CAMVID_11.names)
    config = copy / "config.toml"
    text = config.read_text().replace('data = "camvid"', 'data = "folder"')
    config.write_text("\n".join(f"data_root = {str(root)!r}" if line.startswith("data_root") else line
                                for line in text.splitlines()))
    with pytest.raises(SystemExit):
        evaluate(copy, runs / "avg")
    assert "avg and copy would be scored on different scenes; name one data set" in capsys.readouterr().err
    assert not (tmp_path / "evaluations").exists()


def test_runs_of_one_name_are_called_by_their_paths(evaluate, runs, tmp_path):
    """And one that is named twice is scored once. Catches results that are kept by name."""
    shutil.copytree(runs / "avg", tmp_path / "other" / "avg")
    evaluate(runs / "avg", "other/avg", f"{runs}/avg/", "--perturb", "fog:2", "--out", "out")
    text = (tmp_path / "out" / "robustness.md").read_text()
    assert text.splitlines()[2].split(" | ")[1:] == [str(runs / "avg"), "other/avg |"]


def test_a_model_that_is_always_wrong_has_no_ratio():
    """Catches a division by its mIoU of 0, after all the scoring."""
    nothing = Scores(0.0, 0.0, [0.0])
    run = ScoredRun("wrong", "runs/wrong", "avg", Robustness(nothing, {Perturbation("fog", 2): nothing}))
    assert robustness_report._kind_table([run]).rows == [["fog", "0.000 (–)"]]
    assert robustness_report._summary_table([run], run).rows == [["wrong", "0.000", "0.000", "–", "–"]]
