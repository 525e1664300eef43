"""Networks that a user names as MODULE:NAME: from training to predictions, and those that cannot be one."""

import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from own_modules import write_module
from test_bad_input import refused  # noqa: F401 a fixture
from test_torchrun import digests

import fedsim
from fedsim.errors import OutputError, SettingsError
from fedsim.federation.local_training import LocalTraining
from fedsim.main import main
from fedsim.models import build_model
from fedsim.models.outputs import Outputs

PAGE = Path(__file__).parents[2] / "docs" / "bring-your-own-network.md"
QUICK = ("--rounds", "1", "--threads", "1")
CODE = '''
import torch.nn.functional as F
from torch import nn


class Plain(nn.Module):
    """The first style: it returns logits."""

    def __init__(self, classes, width=4, names=("a",), note=None):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                                 nn.Conv2d(width, classes, 1))
        self.note = note

    def forward(self, images):
        return self.net(images)


class Named(Plain):
    """The second style: a dictionary, with more in it than logits."""

    def forward(self, images):
        return {"out": self.net(images), "features": images}


class Deep(nn.Module):
    """The third style: a tuple with auxiliary logits, which are smaller."""

    def __init__(self, num_classes):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.head, self.side = nn.Conv2d(4, num_classes, 1), nn.Conv2d(4, num_classes, 1)

    def forward(self, images):
        small = self.stem(images)
        logits = F.interpolate(self.head(F.relu(self.norm(small))), images.shape[2:], mode="bilinear")
        return (logits, self.side(small)) if self.training else (logits,)


class Spare(Plain):
    def __init__(self, classes):
        super().__init__(classes)
        self.spare = nn.Linear(3, 3)


class Small(Plain):
    def forward(self, images):
        return self.net(images)[:, :, ::4, ::4]


class Broken(Plain):
    def forward(self, images):
        return self.net(images) * float("nan")


class Beside(Plain):
    def forward(self, images):
        return self.net(images), images


class Keyless(Plain):
    def forward(self, images):
        return {"result": self.net(images)}


class Fussy(Plain):
    def forward(self, images):
        if images.shape[2] % 8:
            raise ValueError("heights are multiples of 8")
        return self.net(images)


class Failing(Plain):
    def __init__(self, classes):
        raise ValueError("no such luck")


class Countless(nn.Module):
    def __init__(self, size):
        super().__init__()


def number(classes):
    return classes


constant = 3
'''


@pytest.fixture
def nets(tmp_path, monkeypatch) -> str:
    """The name of a module of networks in the working directory."""
    yield from write_module(tmp_path, monkeypatch, "mynets", CODE)


def typed(camvid, out, *more) -> list[str]:
    return ["--algo", "avg", "--data", "camvid", "--data-root", str(camvid), "--cars", "2", "--rounds", "2",
            "--image-size", "32x24", "--batch-size", "2", "--threads", "1", "--out", str(out), *more]


def test_the_pages_network_trains(tiny_camvid, tmp_path, monkeypatch):
    """With its auxiliary logits, which need no gradient to be scored. Catches a page whose code does not run."""
    code, = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "pagenets.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    name = "pagenets:Tiny"
    assert main(typed(tiny_camvid, tmp_path / "run", "--model", name, "--model-option", "width=8")) == 0
    assert fedsim.load(tmp_path / "run", trust=name).module.model.head.in_channels == 8


@pytest.mark.parametrize("style", ["Plain", "Named", "Deep"])
def test_three_styles_train_resume_and_segment(nets, tiny_camvid, tmp_path, style):
    """Catches a checkpoint that a resumed run does not go on from, and weights that cannot be loaded again."""
    name = f"{nets}:{style}"
    assert main(typed(tiny_camvid, "whole", "--model", name)) == 0
    assert main([*typed(tiny_camvid, "halves", "--model", name), "--rounds", "1", "--lr-schedule", "constant"]) == 0
    assert main(["--resume", "halves", "--rounds", "2", "--model", name]) == 0
    assert main([*typed(tiny_camvid, "steady", "--model", name), "--lr-schedule", "constant"]) == 0
    assert digests(tmp_path / "halves")[-1] == digests(tmp_path / "steady")[-1] != digests(tmp_path / "whole")[-1]
    labels, = fedsim.load("whole", trust=name).labels([np.zeros((30, 50, 3), np.uint8)])
    assert labels.shape == (30, 50)


def test_options_reach_the_network_and_come_back_from_files(nets, tiny_camvid, tmp_path):
    """A number, a list and none, typed, from a preset, and from Python. Catches text in the place of numbers."""
    asked = ("--model", f"{nets}:Plain", "--model-option", "width=6", "--model-option", "names=[1, 2]",
             "--model-option", "note=none")
    assert main(typed(tiny_camvid, "typed", *asked)) == 0
    config = tomllib.loads((tmp_path / "typed" / "config.toml").read_text())
    assert config["model_option"] == {"width": "6", "names": "[1, 2]", "note": "none"}
    module = fedsim.load("typed", trust=f"{nets}:Plain").module
    assert module.model.net[0].out_channels == 6 and module.model.note is None
    card = fedsim.load("typed", trust=f"{nets}:Plain").card
    assert json.loads(card.metadata()["network"])["options"] == config["model_option"]
    assert main(["--config", "typed/config.toml", "--model", f"{nets}:Plain", "--out", "again",
                 "--model-option", "width=6"]) == 0
    from mynets import Plain

    result = fedsim.run(**{name: value for name, value in config.items() if name not in ("model", "model_option")},
                        model=Plain, model_option={"width": 6, "names": [1, 2], "note": None}, out="python")
    assert len({digests(tmp_path / name)[-1] for name in ("typed", "again", "python")}) == 1
    assert result.model.model.net[0].out_channels == 6


def test_auxiliary_logits_add_their_weighted_loss():
    """The loss is that of the logits, and weight times that of each auxiliary output at the size of the labels."""
    draw = torch.Generator().manual_seed(3)
    logits, side = (torch.randn(2, 5, *size, generator=draw) for size in ((8, 6), (4, 3)))
    labels = torch.randint(0, 5, (2, 8, 6), generator=draw)
    loss = torch.nn.functional.cross_entropy
    training = LocalTraining(None, 1, None, loss, None, 0, aux_weight=0.25)  # the parts that a loss needs
    total, main_logits = training.loss(Outputs(logits, (side, logits)), labels)
    up = torch.nn.functional.interpolate(side, (8, 6), mode="bilinear", align_corners=False)
    assert torch.allclose(total, 1.25 * loss(logits, labels) + 0.25 * loss(up, labels))
    assert main_logits is logits


def test_the_weight_of_auxiliary_logits_is_in_the_result(nets, tiny_camvid, tmp_path):
    """Catches a weight that nothing reads. 0.4 is the default, so a run that says so is the same."""
    for out, more in (("usual", ()), ("said", ("--aux-weight", "0.4")), ("other", ("--aux-weight", "0"))):
        assert main(typed(tiny_camvid, out, "--model", f"{nets}:Deep", *more)) == 0
    usual, said, other = (digests(tmp_path / out)[-1] for out in ("usual", "said", "other"))
    assert usual == said != other


@pytest.mark.parametrize(("model", "size", "options"), [
    ("segmentation_models_pytorch:Unet", "64x32", {"encoder_name": "resnet18", "encoder_weights": "none"}),
    ("torchvision.models.segmentation:lraspp_mobilenet_v3_large", "48x32", {"weights_backbone": "none"}),
    ("torchvision:deeplabv3_mobilenet_v3_large", "48x32", {"aux_loss": "true"})])
def test_networks_of_libraries_train(tiny_camvid, tmp_path, model, size, options):
    """By their names in Python. The last one has auxiliary logits."""
    if model.startswith("segmentation"):
        pytest.importorskip("segmentation_models_pytorch")
    given = [word for key, value in options.items() for word in ("--model-option", f"{key}={value}")]
    assert main([*typed(tiny_camvid, tmp_path / "run", "--model", model, *given), "--rounds", "1", "--image-size",
                 size]) == 0
    trusted = fedsim.load(tmp_path / "run", trust=model)
    assert trusted.labels([np.zeros((40, 40, 3), np.uint8)])[0].shape == (40, 40)


def test_torchvisions_auxiliary_classifier_is_trained():
    """Catches a dictionary of which only the logits are read."""
    model = build_model("torchvision:deeplabv3_mobilenet_v3_large", 5, None, options={"aux_loss": "true"})
    returned = model(torch.zeros(2, 3, 32, 32))
    assert isinstance(returned, Outputs) and [one.shape[1] for one in (returned.logits, *returned.auxiliary)] == [5, 5]
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 5, 32, 32)


@pytest.mark.parametrize(("model", "more", "says"), [
    ("Spare", (), "no loss depends on its spare.weight, so that it would never be trained"),
    ("Small", (), "it returns (2, 11, 6, 8) float32 for pictures (2, 3, 24, 32); logits"),
    ("Broken", (), "it returns numbers that are not finite"),
    ("Beside", (), "beside its logits it returns (2, 3, 24, 32) float32 in training, as output 1"),
    ("Keyless", (), "it returns dict; it must return logits"),
    ("Fussy", ("--crop", "16x12"), "it raises ValueError: heights are multiples of 8 (/"),
    ("Failing", (), "it raises ValueError: no such luck (/"),
    ("Countless", (), "it takes neither classes= nor num_classes="),
    ("number", (), "it makes no network but int"), ("constant", (), "it is int and cannot be called"),
    ("Nowhere", (), "mynets has no 'Nowhere'"),
    ("Plain", ("--model-option", "depth=3"), "got an unexpected keyword argument 'depth'; give its arguments with "
                                             "--model-option NAME=VALUE; it has width, names, note"),
    ("Plain", ("--model-option", "width"), "--model-option is 'width'; write NAME=VALUE"),
    ("Plain", ("--aux-weight", "0.3"), "--aux-weight is 0.3, but it returns no auxiliary logits"),
    ("Plain", ("--aux-weight", "-1"), "--aux-weight is -1.0; it must be at least 0"),
    ("Plain", ("--width", "4"), "--width has no meaning for mynets:Plain")])
def test_what_cannot_be_one_is_refused_in_a_sentence(nets, refused, model, more, says):  # noqa: F811
    said = refused("--model", f"{nets}:{model}", "--image-size", "32x24", *QUICK, *more, own_code=True)
    assert says in said


@pytest.mark.parametrize(("given", "says"), [
    (("--model-option", "depth=3"), "--model-option depth: segnet-small has no such option; it has --width alone"),
    (("--aux-weight", "1"), "--model segnet-small: --aux-weight is 1.0, but it returns no "
                               "auxiliary logits in training: leave it out"),
    (("--model", "torchvision:fcn_resnet50", "--model-option", "depth=3"), "unexpected keyword argument 'depth'"),
    (("--model", "torchvision.models.segmentation:fcn_resnet50", "--model-option", "depth=3"), "argument 'depth'")])
def test_other_networks_refuse_what_they_do_not_read(refused, given, says):  # noqa: F811
    assert says in refused(*given, *QUICK, own_code=True)


def test_no_file_alone_runs_code(nets, refused, tiny_camvid, tmp_path, command):  # noqa: F811
    """A preset, a run to resume and a file of weights. Catches a model that is imported because a file names it."""
    assert main(typed(tiny_camvid, "run", "--model", f"{nets}:Plain")) == 0
    (tmp_path / "mynets.py").write_text("raise SystemExit('imported')")
    del sys.modules["mynets"]
    for given in (("--config", "run/config.toml"), ("--resume", "run", "--rounds", "3")):
        assert "runs with all your rights: say --model mynets:Plain as well" in refused(*given)
    with pytest.raises(SettingsError, match="say --trust mynets:Plain as well if you trust it"):
        fedsim.load("run")
    with pytest.raises(OutputError, match="importing mynets failed"):
        fedsim.load("run", trust="mynets:Plain")


def test_a_class_without_a_place_is_refused(nets):
    class Local(torch.nn.Module):
        pass

    with pytest.raises(SettingsError, match="cannot be found under its name; define it at the top of a module"):
        fedsim.Settings(model=Local)
