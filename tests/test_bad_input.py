"""A user's mistake gets one sentence, status 2 and no run directory; a fault of a run names its place."""

import contextlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_torchrun import start

from fedsim.errors import SettingsError
from fedsim.main import main
from fedsim.options import flag
from fedsim.settings.fields import CHOICES, Settings

FAST = ["--cars", "2", "--rounds", "1", "--image-size", "32x24", "--width", "4", "--threads", "1"]


@pytest.fixture
def camvid(tiny_camvid, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_camvid, tmp_path / "camvid"))


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """A function that plays a command line and returns the sentence that refuses it."""
    monkeypatch.chdir(tmp_path)

    def play(*arguments: str, own_code: bool = False) -> str:
        """own_code: the mistake is in a user's Python, where Python's words help."""
        before = set(tmp_path.rglob("*"))
        assert main(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("fedsim: "), lines
        sentence = lines[0].removeprefix("fedsim: ")
        assert ". " not in sentence.replace("e.g. ", ""), "more than a sentence"
        assert own_code or ("<class" not in sentence and "Error" not in sentence), "Python's words"
        assert set(tmp_path.rglob("*")) == before, "left something"
        return sentence

    return play


def on_disk(root: Path, *options: str) -> list[str]:
    return ["--data", "camvid", "--data-root", str(root), *FAST, *options]


OUT_OF_RANGE = [
    *((name, value) for name in ("--cars", "--rounds", "--local-epochs", "--batch-size", "--width",
                                 "--evaluate-every", "--threads") for value in ("0", "-1")),
    ("--threads", "3000000000"), ("--width", "10000000"),
    *((name, value) for name in ("--lr", "--timeout") for value in ("0", "-1", "nan", "inf")),
    *(("--participation", value) for value in ("0", "-0.5", "1.5", "nan")),
    *(("--local-epochs", value) for value in ("5:1", "0:2", "1:", "1:2:3", "many", "0.5:2", "0", "0.0", "-1", "1e-1")),
    *((name, value) for name in ("--clip-norm", "--server-step", "--server-tau")
      for value in ("0", "-1", "nan", "inf")),
    *(("--mu", value) for value in ("-1", "nan", "inf")),
    *((name, value) for name in ("--car-failures", "--server-momentum", "--server-beta2")
      for value in ("-0.1", "1", "nan")),
    *(("--trim-fraction", value) for value in ("-0.1", "0.5", "nan")),
    *((name, "-1") for name in ("--krum-hostile", "--attackers")),
    *(("--momentum", value) for value in ("-0.1", "1", "nan")),
    *(("--weight-decay", value) for value in ("-1", "nan", "inf")),
    *(("--rho", value) for value in ("0", "-1", "nan", "inf", "much")),
    *(("--image-size", value) for value in ("80", "80x", "0x60", "80x60x3", "-80x60", "80*60", "8e1x60")),
    *((flag(name), "nope") for name in [*CHOICES, "algo"]),
    ("--timeout", "1e20"), ("--lr", "1e300"), ("--weight-decay", "1e300"),
    ("--model", "segnet-smal"), ("--model", "torchvision:nope"),
]


@pytest.mark.parametrize(("option", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_with_its_option_and_value(refused, option, value):
    """And what is allowed is said too."""
    said = refused(option, value)
    spellings = {value.removeprefix("torchvision:")}
    with contextlib.suppress(ValueError):
        spellings.add(str(float(value)))
    assert any(spelling in said for spelling in spellings)
    allowed = f"{option} is .*(must be|choose from|write|valid are) |torchvision has no .*; it has "
    assert re.search(allowed, said)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_concentration_out_of_range_is_refused(refused, value):
    assert "--alpha is" in refused("--partition", "dirichlet", "--alpha", value)


@pytest.mark.parametrize(("arguments", "says"), [
    (["--rho", "0.1", "--algo", "avg"], "--rho belongs to admm"),
    (["--mu", "0.1", "--algo", "admm"], "--mu belongs to prox, nova"),
    (["--dyn-alpha", "0.1"], "--dyn-alpha belongs to dyn"),
    (["--local-start", "own", "--algo", "dyn"], "--local-start belongs to admm"),
    (["--server-optimizer", "adam"], "its own server step is part of the method"),
    (["--server-optimizer", "adam", "--algo", "dyn"], "its own server step is part of the method"),
    (["--server-optimizer", "adam", "--algo", "local"], "there is no server step in it"),
    (["--server-optimizer", "adam", "--algo", "avgm"], "take --algo avg --server-optimizer adam"),
    (["--server-step", "0.5", "--algo", "dyn"], "--server-step belongs to admm and to algorithms that "
                                               "leave the server step free"),
    (["--server-momentum", "0.5", "--algo", "avg"], "--server-momentum belongs to --server-optimizer momentum, adam"),
    (["--server-beta2", "0.5", "--algo", "adagrad"], "--server-beta2 belongs to --server-optimizer adam, yogi"),
    (["--server-tau", "0.5", "--algo", "avgm"], "--server-tau belongs to --server-optimizer adagrad, adam, yogi"),
    (["--trim-fraction", "0.1"], "--trim-fraction belongs to --aggregator trimmed-mean"),
    (["--krum-hostile", "1", "--aggregator", "median"], "--krum-hostile belongs to --aggregator krum, multi-krum"),
    (["--momentum-across-rounds", "own", "--momentum", "0"], "there is no momentum to go on with"),
    (["--momentum-across-rounds", "step", "--optimizer", "adam", "--algo", "avg"], "take average or own"),
    (["--attack", "scale"], "say how many with --attackers"),
    (["--attackers", "4"], "take at most 3"),
    (["--aggregator", "krum", "--cars", "3"], "needs at least 4 cars in a round, and 3 take part"),
    (["--aggregator", "krum", "--krum-hostile", "2", "--cars", "10", "--participation", "0.4"], "and 4 take part"),
    (["--participation", "0.1"], "which selects none of 4 cars"),
    (["--algo", "central", "--aggregator", "median"], "--aggregator belongs to federated algorithms"),
    (["--algo", "local", "--clip-norm", "1"], "--clip-norm belongs to federated algorithms"),
    (["--algo", "central", "--attackers", "1"], "--attackers belongs to federated algorithms"),
    (["--algo", "local", "--car-failures", "0.1"], "--car-failures belongs to federated algorithms"),
    (["--algo", "central", "--weighting", "images"], "--weighting belongs to federated algorithms"),
    (["--algo", "local", "--batchnorm", "local"], "take recalibrate or pooled"),
    (["--batchnorm", "pooled", "--norm", "group"], "--batchnorm belongs to --norm batch"),
    (["--optimizer", "adam", "--algo", "scaffold"], "adam's do not scale with the gradient"),
    (["--optimizer", "adam", "--algo", "nova"], "adam's do not scale with the gradient"),
    (["--optimizer", "adam", "--algo", "dyn"], "give a number, e.g. --dyn-alpha 0.01"),
    (["--optimizer", "adam", "--rho", "balanced"], "give a number, e.g. --rho 0.01"),
    (["--alpha", "1"], "--alpha belongs to --partition dirichlet, classes, quantity"),
    (["--alpha", "1", "--partition", "iid"], "--alpha belongs to --partition dirichlet, classes, quantity"),
    (["--data", "camvid"], "`fedsim data fetch camvid` gets it, or name its folder with --data-root"),
    (["--data", "camvid", "--data-root", ""], "--data-root is empty"),
    (["--data-root", "here"], "--data-root belongs to data sets on disk"),
    (["--algo", "central", "--participation", "0.5"], "--participation belongs to federated algorithms"),
    (["--algo", "local", "--participation", "0.5"], "--participation belongs to federated algorithms"),
    (["--optimizer", "adam", "--rho", "auto"], "give a number, e.g. --rho 0.01"),
    (["--optimizer", "adam", "--rho", "1", "--momentum", "0.5"], "--momentum belongs to --optimizer sgd"),
    (["--optimizer", "adam", "--rho", "1", "--nesterov"], "--nesterov belongs to sgd with momentum; this is adam"),
    (["--loss", "huber"], "--loss is 'huber'; choose from cross-entropy, ohem, focal, dice, lovasz, or name your own"),
    (["--loss", "dice+"], "put + between several"), (["--loss", "0*dice"], "0 is not a number above 0"),
    (["--loss", "dice", "--loss-option", "gamma=1"], "no option 'gamma'; it has no options"),
    (["--loss", "ohem", "--loss-option", "keep=2"], "--loss-option keep is '2'; it must be a number above 0 and at"),
    (["--loss", "focal", "--loss-option", "gamma"], "--loss-option is 'gamma'; write NAME=VALUE"),
    (["--loss", "lovasz", "--label-smoothing", "0.1"], "--label-smoothing has no meaning for --loss lovasz"),
    (["--momentum", "0", "--nesterov"], "--nesterov belongs to sgd with momentum; this is sgd with --momentum 0"),
    (["--nesterov", "--momentum-across-rounds", "step"], "take average or own"),
])
def test_options_that_contradict_each_other_are_refused_with_a_remedy(refused, arguments, says):
    assert says in refused(*arguments)


@pytest.mark.parametrize(("arguments", "says"), [
    (["--algoo", "avg"], "no option --algoo (did you mean --algo "), (["--rounds"], "'--rounds' requires"),
    (["--rounds", "many"], "'many' is not a valid integer"),
    (["--lr", "fast"], "'fast' is not a valid float"),
    (["admm"], "unexpected extra argument (admm)")])
def test_a_command_line_that_cannot_be_read_is_refused(refused, arguments, says):
    assert says in refused(*arguments)


@pytest.mark.parametrize(("text", "says"), [
    ("roundz = 3", "unknown setting 'roundz'; known are algo, "), ("rounds = 'three'", "expected int"),
    ("[algo]\nname = 'avg'", "expected str"), ("rounds = 0", "at least 1"),
    ("algo = 'average'", "choose from avg, prox, admm"), ("rounds: 3", "not a TOML file")])
def test_a_preset_that_cannot_be_used_is_refused(refused, tmp_path, text, says):
    (tmp_path / "my.toml").write_text(text)
    assert says in refused("--config", str(tmp_path / "my.toml"))


@pytest.mark.parametrize(("values", "says"), [
    ({"cars": "4"}, "--cars is '4'; expected int"), ({"rounds": 2.5}, "--rounds is 2.5; expected int"),
    ({"image_size": (120, 90)}, "--image-size is (120, 90); expected str"), ({"cars": 10**400}, "expected int"),
    ({"lr": True}, "--lr is True; expected float"), ({"algo": None}, "--algo is None; expected str")])
def test_values_of_a_program_are_of_their_type(values, says):
    """Catches a TypeError in the middle of a check, and a half round."""
    with pytest.raises(SettingsError, match=re.escape(says)):
        Settings(**values)


def test_a_preset_that_cannot_be_read_is_named(refused, tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "nowhere.toml", tmp_path, tmp_path / "binary.toml"):
        assert refused("--config", str(path)).startswith(f"--config {path}: ")


def test_a_device_or_backend_that_is_not_there_is_refused(refused, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "use --device cpu" in refused("--device", "cuda")
    assert "use --backend gloo" in refused("--backend", "nccl")


def test_ranks_started_by_halves_are_refused(refused, monkeypatch):
    """Catches a traceback where the place is read."""
    monkeypatch.setenv("RANK", "0")
    assert "WORLD_SIZE" in refused(*FAST)


def test_a_folder_without_the_data_set_is_refused(refused, tmp_path, camvid):
    (tmp_path / "camvid" / "empty").mkdir()
    assert "there is no directory" in refused(*on_disk(camvid / "nowhere"))
    assert "holds none of train.txt" in refused(*on_disk(camvid / "empty"))
    (camvid / "elsewhere").mkdir()
    for split in ("train", "val"):
        (camvid / f"{split}.txt").rename(camvid / "elsewhere" / f"{split}.txt")
    assert f"{camvid}/elsewhere/train.txt names it; restore the file" in refused(*on_disk(camvid))


def colour(label: np.ndarray) -> Image.Image:
    return Image.fromarray(np.stack([label, label, 255 - label], 2))


@pytest.mark.parametrize(("damage", "says"), [
    (lambda label: Image.fromarray(label[:30]), "is 48x30 pixels, but its picture is 48x36"),
    (lambda label: colour(label), "is in colour"),
    (lambda label: Image.fromarray(label + 12), "a label must hold class numbers, 0 to 10, and 11 for void"),
], ids=["size", "colour", "values"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_label_that_cannot_be_one_is_named(refused, camvid, damage, says, split):
    path = sorted((camvid / f"{split}annot").iterdir())[1]
    label = np.asarray(Image.open(path))
    damage(label).save(path)
    said = refused(*on_disk(camvid))
    assert said.startswith(str(path)) and says in said


def test_a_picture_that_cannot_be_read_is_named(refused, camvid):
    path = sorted((camvid / "train").iterdir())[2]
    path.write_bytes(path.read_bytes()[:100])
    assert refused(*on_disk(camvid)).startswith(f"{path} cannot be read as a picture")


def test_a_split_that_is_not_there_is_refused(refused, tiny_camvid):
    assert "there is train and val" in refused(*on_disk(tiny_camvid, "--eval-split", "test"))


@pytest.mark.parametrize("partition", ["drive", "iid", "dirichlet"])
def test_cars_without_a_scene_are_refused(refused, tiny_camvid, partition):
    said = refused(*on_disk(tiny_camvid, "--cars", "19", "--partition", partition))
    assert "--cars is 19, but there are 18 training scenes" in said


@pytest.mark.parametrize(("model", "smallest"), [("segnet-small", 8), ("segnet-basic", 16), ("segnet", 32)])
def test_pictures_too_small_for_the_model_are_refused(refused, tiny_camvid, model, smallest):
    """Catches a check that exists and is never asked."""
    size = f"48x{smallest - 1}"
    said = refused(*on_disk(tiny_camvid, "--model", model, "--image-size", size))
    assert size in said and f"at least {smallest}x{smallest}" in said


def test_a_last_batch_too_small_for_the_model_is_refused(refused, tiny_camvid):
    """deeplab pools to a single pixel, of which BatchNorm cannot train on one."""
    arguments = [word for word in on_disk(tiny_camvid) if word not in ("--width", "4")]
    deeplab = ["--model", "torchvision:deeplabv3_mobilenet_v3_large", "--batch-size", "1"]
    assert "choose another --batch-size, or take --norm group" in refused(*arguments, *deeplab)
    cars = len([*(tiny_camvid / "train").glob("*.png")])
    said = refused(*arguments, *deeplab[:2], "--partition", "iid", "--cars", str(cars))
    assert "car iid-00 has just one; choose fewer cars or another --partition, or take --norm group" in said


def test_a_place_for_results_that_cannot_be_one_is_refused(refused, tiny_camvid, tmp_path):
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        (tmp_path / "file").write_text("mine")
        assert str(path) in refused(*on_disk(tiny_camvid, "--out", str(path)))
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    assert "already holds" in refused(*on_disk(tiny_camvid, "--out", str(tmp_path / "full")))


@pytest.mark.parametrize("algo", ["admm", "avg", "local"])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_place(tiny_camvid, tmp_path, capsys, algo):
    """Catches NaN that is averaged, and NaN written into metrics.jsonl."""
    out = tmp_path / "run"
    assert main(on_disk(tiny_camvid, "--lr", "1e30", "--algo", algo, "--out", str(out))) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("fedsim: round 1: "), lines
    assert "car 0 (d0+d2+d4)" in lines[0] and "rank 0" in lines[0]
    written = (out / "metrics.jsonl").read_text()
    assert [json.loads(line)["round"] for line in written.splitlines()] == [0]
    assert "NaN" not in written and "Infinity" not in written


def told(output: str) -> list[str]:
    return [line for line in output.splitlines() if "fedsim: " in line]


def test_fewer_cars_than_ranks_are_refused_by_one_rank_alone(tiny_camvid, tmp_path):
    """Two ranks. torchrun adds a report of its own; fedsim adds no traceback."""
    done = start(2, "-m", "fedsim.main", *on_disk(tiny_camvid, "--cars", "1", "--out", str(tmp_path / "run")))
    assert done.returncode != 0 and not (tmp_path / "run").exists()
    assert told(done.stdout + done.stderr) == [
        "fedsim: 1 cars on 2 ranks: every rank plays at least one car; start 1 ranks, or raise --cars to 2"]
    assert "fedsim/" not in done.stderr, "a traceback of ours"


def test_a_fault_on_two_ranks_is_told_once(tiny_camvid, tmp_path):
    """Both ranks stop, and one of them speaks."""
    arguments = on_disk(tiny_camvid, "--lr", "1e30", "--out", str(tmp_path / "run"))
    done = start(2, "-m", "fedsim.main", *arguments)
    assert done.returncode != 0
    assert len(told(done.stdout + done.stderr)) == 1, done.stderr
    assert "round 1" in done.stderr and "fedsim/" not in done.stderr


def test_a_network_that_memory_cannot_hold_is_refused(refused, tiny_camvid, monkeypatch):
    """In torch's words, but for the address. Catches its traceback."""
    def build(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:128] . DefaultCPUAllocator: can't allocate memory: you "
                           "tried to allocate 309237645312 bytes. Error code 12 (Cannot allocate memory)")

    monkeypatch.setattr("fedsim.experiment.assembly.build_model", build)
    said = refused(*on_disk(tiny_camvid))
    assert said.startswith("--model segnet-small does not fit into the memory of this machine; take a smaller one")
