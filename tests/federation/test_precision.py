"""16 bits in the network's convolutions and products, and float32 in all that is kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scenery import CLASSES, CPU, scene_set, segnet, training
from torch import nn
from undrawn import draw_nothing

from fedsim.data.car_scenes import CarScenes
from fedsim.errors import SettingsError
from fedsim.experiment import precision_trial
from fedsim.experiment.precision_trial import check_precision
from fedsim.federation import precision
from fedsim.federation.local_training import train_locally
from fedsim.federation.precision import KINDS, LossScale, Precision
from fedsim.main import main
from fedsim.models import build_model
from fedsim.models.outputs import Outputs


def train(name, model=None, car=0):
    model = model or segnet()
    local = replace(training(momentum=0.9), precision=Precision(name), classes=CLASSES)
    return train_locally(model, CarScenes(scene_set(8), np.arange(8), CPU), local, start=segnet().parameters,
                         correction=lambda w: torch.full_like(w, 1e-3), lr=0.1, round_number=1, car=car)


@pytest.mark.parametrize("name", KINDS)
def test_a_car_trains_as_plain_pytorch_does_with_autocast(name):
    """Four steps without augmentation, by torch.optim and torch.amp's own scaler, to the bit.

    Catches a loss or logits of 16 bits, parameters that stay rounded, a gradient that stays scaled, a scale for bf16.
    """
    local = replace(training(2, 4, momentum=0.9, augment="none"), precision=Precision(name))
    scenes = CarScenes(scene_set(8), np.arange(8), CPU)
    ours = train_locally(segnet(), scenes, local, start=segnet().parameters, correction=lambda w: None, lr=0.1,
                         round_number=1, car=0)
    model = segnet()
    optimizer = torch.optim.SGD(model.module.parameters(), 0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", precision.FIRST_SCALE, enabled=name == "fp16")
    losses = []
    for positions in local.work.positions(local.turn(8, 1, 0)):
        images, labels = scenes.batch(positions)
        optimizer.zero_grad(set_to_none=False)
        with torch.autocast("cpu", KINDS[name]):
            logits = model.module(images)
        loss = local.criterion(logits.float(), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.detach())
    assert torch.equal(ours.losses, torch.stack(losses)) and torch.equal(ours.w, model.theta)
    assert ours.w.dtype == ours.losses.dtype == torch.float32


@pytest.mark.parametrize("name", KINDS)
def test_a_car_with_16_bits_repeats_its_round_and_stays_near_float32(name):
    """On a model that another car has used. Catches a scale that goes on with the next car, and float32 in disguise."""
    model = segnet()
    first = train(name, model)
    train(name, model, car=3)
    model.load(model.parameters, segnet().copy_norms())
    again, exact = train(name, model), train("float32")
    assert torch.equal(again.w, first.w) and not torch.equal(first.w, exact.w)
    moved, lost = (exact.w - segnet().parameters).norm(), (first.w - exact.w).norm()
    assert 0 < lost < 0.5 * moved


def test_the_scale_follows_torchs_own(monkeypatch):
    """Through overflows and growth, and down to 1. Catches a scale that is never doubled, and a wrong count of steps.

    torch's scaler has no bounds, so the end is checked by itself.
    """
    monkeypatch.setattr(precision, "PATIENCE", 3)
    theirs = torch.amp.GradScaler("cpu", precision.FIRST_SCALE, growth_interval=3)
    ours, w = LossScale(CPU), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([w], 1.0)
    for good in (1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1):
        true = torch.tensor([0.5, 3.0]) if good else torch.tensor([float("inf"), 1.0])
        assert ours.raise_(torch.tensor(1.0)) == theirs.scale(torch.tensor(1.0)) == theirs.get_scale()
        gradient = true * theirs.get_scale()
        w.grad = gradient.clone()
        ours.lower_(gradient)
        assert torch.equal(gradient, true if good else torch.zeros(2))
        theirs.step(optimizer)
        theirs.update()
    for _ in range(20):
        ours.lower_(torch.tensor([float("nan")]))
    assert float(ours.raise_(torch.tensor(1.0))) == 1.0


def test_auxiliary_logits_are_float32_too():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 1)

        def forward(self, images):
            return Outputs(self.layer(images), (self.layer(images),))

    returned = Precision("bf16").compute(Two(), torch.randn(1, 3, 4, 4))
    assert returned.logits.dtype == returned.auxiliary[0].dtype == torch.float32


def test_a_precision_is_tried_before_training(monkeypatch):
    """Catches a network that fails in round 1, a warning of what is faster, and a GPU that only emulates bf16."""
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 1)

        def forward(self, images):
            return torch.mm(self.layer(images).flatten(1), torch.ones(2 * 4 * 4, 1)).double() @ torch.ones(1, 1)

    def build():
        return build_model("segnet-small", CLASSES, 4)

    with pytest.raises(SettingsError, match=r"^--precision bf16: --model mine:Net does not train with it: it raises "):
        check_precision("bf16", "mine:Net", Stubborn, (4, 4), CPU)
    for seconds, warns in (({"fp16": 0.02, "float32": 0.01}, True), ({"fp16": 0.01, "float32": 0.02}, False)):
        monkeypatch.setattr(precision_trial, "_time_step",
                            lambda module, precision, *_, seconds=seconds: seconds[precision.name])
        said = check_precision("fp16", "segnet-small", build, (32, 24), CPU)
        assert said == ("--precision fp16: a step with 2 pictures of 32x24 takes 20.0 ms on this CPU, and 10.0 ms with "
                        "float32: leave it out here" if warns else None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old 10")
    with pytest.raises(SettingsError, match=r"^--precision bf16: Old 10 does not compute with it; take fp16"):
        check_precision("bf16", "segnet-small", build, (32, 24), torch.device("cuda", 0))
    monkeypatch.undo()
    assert check_precision("float32", "segnet-small", build, (32, 24), CPU) is None


def test_a_run_keeps_its_precision(tiny_camvid, tmp_path, monkeypatch, capsys):
    """Played whole, and stopped and resumed. Catches a precision that no record has, and another one after a resume."""
    draw_nothing(monkeypatch.setattr)

    def play(out, *words):
        return main(["--data", "camvid", "--data-root", str(tiny_camvid), "--cars", "3", "--image-size", "32x24",
                     "--width", "4", "--threads", "1", "--lr-schedule", "constant", "--out", str(tmp_path / out),
                     *words])

    for out, rounds, name in (("whole", "2", "bf16"), ("half", "1", "bf16"), ("plain", "1", "float32")):
        assert play(out, "--rounds", rounds, "--precision", name) == 0
    again = ["--resume", str(tmp_path / "half"), "--rounds", "2"]
    assert main([*again, "--precision", "fp16"]) == 2
    assert "--precision is fp16, but" in capsys.readouterr().err
    assert main(again) == 0
    digests = {name: json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])["theta_sha256"]
               for name in ("whole", "half", "plain")}
    assert digests["whole"] == digests["half"]
    first = json.loads((tmp_path / "half" / "metrics.jsonl").read_text().splitlines()[1])
    assert first["theta_sha256"] != digests["plain"]
    assert 'precision = "bf16"' in (tmp_path / "half" / "config.toml").read_text()
    assert [json.loads((tmp_path / name / "environment.json").read_text())["precision"]
            for name in ("half", "plain")] == ["bf16", "float32"]
    assert main(["--resume", str(tmp_path / "plain"), "--precision", "float32"]) == 0
