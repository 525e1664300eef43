"""Losses that a user names as MODULE:NAME: from training to a resumed run, and those that cannot be one."""

import re
import tomllib

import pytest
from own_modules import write_module
from test_bad_input import refused  # noqa: F401 a fixture
from test_torchrun import digests

import fedsim
from fedsim.errors import RankError
from fedsim.main import main
from fedsim.record.metrics_file import read_metrics

CODE = '''
import torch
import torch.nn.functional as F
from torch import nn

calls = []


def plain(logits, labels, weight, label_smoothing, ignore_index):
    return F.cross_entropy(logits, labels, weight, ignore_index=ignore_index, label_smoothing=label_smoothing)


class Tversky(nn.Module):
    """Of the library style: made with options, then called."""

    def __init__(self, alpha=0.5, beta=0.5):
        super().__init__()
        self.alpha, self.beta = alpha, beta

    def forward(self, logits, labels):
        kept = labels != 255
        p = logits.softmax(1) * kept[:, None]
        g = (F.one_hot(labels.where(kept, 0), logits.shape[1]) * kept[..., None]).movedim(-1, 1)
        hit, over, missed = (x.sum((0, 2, 3)) for x in (p * g, p * (1 - g), g * (1 - p)))
        return 1 - (hit / (hit + self.alpha * over + self.beta * missed).clamp(min=1)).mean()


def fails_later(logits, labels):
    calls.append(1)
    if len(calls) > 8:
        raise ValueError("no such luck")
    return plain(logits, labels, None, 0.0, 255)


def by_picture(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=255, reduction="none").mean((1, 2))


def void_counts(logits, labels):
    return plain(logits, labels, None, 0.0, 255) + logits.square().mean()


def detached(logits, labels):
    return plain(logits.detach(), labels, None, 0.0, 255)


def infinite(logits, labels):
    return plain(logits, labels, None, 0.0, 255) / 0.0


def alone(logits, labels):
    counts = labels[labels != 255].bincount(minlength=logits.shape[1])
    return plain(logits, labels, None, 0.0, 255) / counts.min()


def writes(logits, labels):
    return plain(logits.mul_(2), labels, None, 0.0, 255)


def counts(logits, labels):
    calls.append(1)
    return plain(logits, labels, None, 0.0, 255) * len(calls)


def fails(logits, labels):
    return logits.mean() + labels.oops


class Trained(Tversky):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


constant = 3
'''


@pytest.fixture
def code(tmp_path, monkeypatch) -> str:
    """The name of a module of losses in the working directory."""
    yield from write_module(tmp_path, monkeypatch, "mylosses", CODE)


def typed(camvid, out) -> list[str]:
    return ["--algo", "avg", "--data", "camvid", "--data-root", str(camvid), "--cars", "2", "--rounds", "2",
            "--image-size", "32x24", "--width", "4", "--batch-size", "2", "--threads", "1", "--out", str(out)]


def test_a_loss_of_torch_is_fedsims_own_to_the_bit_and_an_own_one_goes_through_a_run(code, tiny_camvid, tmp_path):
    """Class weights and smoothing reach it, as torch calls them. Then a sum of a class with options and a built-in
    loss: it is recorded, refused from a file alone, resumed, and named in Python.

    Catches weights that stop at the door, an option that the resumed run lacks, and a validation loss that follows
    the training loss.
    """
    common = ("--label-smoothing", "0.1", "--rounds", "1")
    for out, loss in (("usual", "cross-entropy"), ("own", f"{code}:plain"), ("torch", "torch.nn:CrossEntropyLoss")):
        assert main([*typed(tiny_camvid, out), "--loss", loss, *common]) == 0
    assert digests(tmp_path / "usual") == digests(tmp_path / "own") == digests(tmp_path / "torch")

    loss = f"focal+0.5*{code}:Tversky"
    asked = ("--loss", loss, "--loss-option", "alpha=0.3", "--loss-option", "beta=0.7", "--lr-schedule", "constant")
    assert main([*typed(tiny_camvid, "whole"), *asked]) == 0
    config = tomllib.loads((tmp_path / "whole" / "config.toml").read_text())
    assert config["loss"] == loss and config["loss_option"] == {"alpha": "0.3", "beta": "0.7", "gamma": "2"}
    assert main([*typed(tiny_camvid, "halves"), *asked, "--rounds", "1"]) == 0
    assert main(["--resume", "halves", "--rounds", "2"]) == 2
    assert main(["--resume", "halves", "--rounds", "2", "--loss", loss, "--loss-option", "gamma=3"]) == 2
    assert main(["--resume", "halves", "--rounds", "2", "--loss", loss, "--loss-option", "gamma=2.0"]) == 0
    assert digests(tmp_path / "halves") == digests(tmp_path / "whole")
    from mylosses import Tversky

    del config["class_weights"]
    python = fedsim.run(**config | {"loss": Tversky, "loss_option": {"alpha": 0.3, "beta": 0.7}}, out="python")
    assert python.settings.loss == f"{code}:Tversky" and python.settings.class_weights == "none"
    first, other = (read_metrics(tmp_path / out / "metrics.jsonl")[0] for out in ("usual", "whole"))
    assert first["global"] == other["global"]


def test_an_exception_while_training_names_the_loss_and_the_line(code, tiny_camvid):
    """The trial calls it four times. Catches an exception that is blamed on the network, or not at all."""
    with pytest.raises(RankError, match=rf"car 1 .*--loss {code}:fails_later raises ValueError: no such luck .*py:\d+"):
        fedsim.run(algo="avg", data="camvid", data_root=str(tiny_camvid), cars=2, rounds=1, image_size="32x24",
                   batch_size=4, threads=1, width=4, loss=f"{code}:fails_later", out="failed")


@pytest.mark.parametrize(("loss", "more", "says"), [
    ("by_picture", (), r"it returns \(2,\) torch.float32; a loss is one number.*mylosses.py:\d+\)"),
    ("void_counts", (), "pixels without a label teach it something"),
    ("detached", (), "has no gradient"), ("infinite", (), "a number that is not finite"),
    ("writes", (), "it changes the logits"), ("counts", (), "something else when it measures"),
    ("alone", (), "for a batch whose labels are of one class alone"),
    ("fails", (), r"it raises AttributeError: .*oops.*mylosses.py:\d+"), ("Trained", (), "its scale would never be"),
    ("constant", (), "it is int and cannot be called"), ("nowhere", (), "mylosses has no 'nowhere'"),
    ("Tversky", ("--loss-option", "gamma=1"), "has no option 'gamma'; it has alpha, beta"),
    ("Tversky", ("--class-weights", "median-frequency"), "--class-weights median-frequency has no meaning"),
    ("Tversky", ("--label-smoothing", "0.1"), "--label-smoothing has no meaning for --loss mylosses:Tversky"),
    ("plain+dice", ("--loss-option", "alpha=1"), "has no option 'alpha'; it has no options")])
def test_what_cannot_be_a_loss_is_refused_before_training(refused, code, tiny_camvid, loss, more, says):  # noqa: F811
    words = (*typed(tiny_camvid, "out"), "--loss", f"{code}:{loss}", *more)
    assert re.search(says, refused(*words, own_code=loss == "fails"))
