"""Networks that are compiled for training: tried, the same bits after a resume, and refused in a sentence."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import torch._inductor.config
from own_networks import Own
from safetensors.torch import load_file
from scenery import CLASSES, CPU, training
from torch import nn
from undrawn import draw_nothing

from fedsim.errors import SettingsError
from fedsim.experiment.compilation_trial import compile_network, largest_batch
from fedsim.main import main
from fedsim.models import compiled
from fedsim.models.compiled import CompiledNetwork
from fedsim.models.flat import FlatModel

LOCAL = replace(training(), classes=CLASSES)
SIZE = (8, 8)


def fail(graph, inputs):
    raise TypeError("no numbers,\nand much more that nobody reads")


class Other(Own):
    def use(self, x):
        return x.sigmoid() if torch.compiler.is_compiling() else x.relu()


class Random(Own):
    def use(self, x):
        if torch.compiler.is_compiling():
            x = x + 0 * torch.rand(7).sum()  # so that dropout draws other numbers
        return nn.functional.dropout(x.relu(), 0.9, self.training)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_network_is_told_about_and_takes_the_same_steps(monkeypatch):
    """Compiled indeed, by the machine's compiler. Catches a trial that leaves statistics or gradients behind."""
    monkeypatch.setattr(torch._inductor.config, "cpp_cache_precompile_headers", False)  # quicker for one network
    model = FlatModel(Own(CLASSES, nn.BatchNorm2d(4)), CPU)
    before = [one.clone() for one in (model.parameters, *model.copy_norms(), model.counts)]
    gain = compile_network("mine:Own", model, LOCAL, 2, SIZE)
    assert gain.said.startswith("--compile: compiling took ") and "A step with 2 pictures of 8x8 takes" in gain.said
    assert gain.said.endswith(" steps" if gain.pays else "so it does not pay here: leave it out")
    assert isinstance(model.network, CompiledNetwork) and not model.gradient.any()
    assert all(torch.equal(*both) for both in zip(
        before, (model.parameters, *model.copy_norms(), model.counts), strict=True))
    assert not [name for name in model.module.state_dict() if "_orig_mod" in name]

    seen = []
    model.network._compiled, real = (lambda pictures: seen.append(len(pictures)) or real(pictures),
                                     model.network._compiled)
    for batch in (2, 1, 3, 2):
        pictures = torch.randn(batch, 3, *SIZE)
        assert torch.allclose(model.network(pictures), model.module(pictures), atol=1e-5)
    assert seen == [2, 2]

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "no-such-compiler"))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    with pytest.raises(SettingsError, match=r"^--compile: --model mine:Own cannot be compiled here: there is no C\+\+ "
                                            r"compiler on this machine \(install g\+\+\); leave --compile out$"):
        compile_network("mine:Own", FlatModel(Own(CLASSES), CPU), LOCAL, 2, SIZE)


def test_what_cannot_be_compiled_or_computes_something_else_is_refused(monkeypatch):
    """Catches a page of a compiler's words, and random draws that are taken for another gradient."""
    for backend, kind, said in (
            (fail, Own, r"cannot be compiled here: TypeError: no numbers,; leave --compile out$"),
            ("aot_eager", Other, r"has another gradient after compiling, by \d+%: leave --compile out$")):
        monkeypatch.setattr(compiled, "BACKEND", backend)
        with pytest.raises(SettingsError, match=rf"^--compile: --model mine:Net {said}"):
            compile_network("mine:Net", FlatModel(kind(CLASSES), CPU), LOCAL, 2, SIZE)
    assert compile_network("mine:Net", FlatModel(Random(CLASSES), CPU), LOCAL, 2, SIZE).said


def test_the_largest_batch_of_all_cars_is_compiled():
    """Catches the size that was asked for, which cars with few scenes never have."""
    local = replace(LOCAL, batch_size=4, accumulate=2)
    assert [largest_batch(local, images) for images in ([16, 9], [3, 2], [5], [1])] == [4, 3, 3, 1]


def test_a_compiled_run_goes_on_to_the_same_bits(tiny_camvid, tmp_path, monkeypatch, capsys):
    """With cars whose last batch is smaller, 16 bits and a frozen part; evaluated as without it."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    draw_nothing(monkeypatch.setattr)
    out = {name: tmp_path / name for name in ("whole", "half")}

    def play(name, rounds):
        return main(["--data", "camvid", "--data-root", str(tiny_camvid), "--cars", "3", "--image-size", "32x24",
                     "--width", "4", "--threads", "1", "--lr-schedule", "constant", "--freeze", "encoder.0",
                     "--precision", "bf16", "--compile", "--rounds", rounds, "--out", str(out[name])])

    assert play("whole", "2") == 0 and play("half", "1") == 0
    assert "--compile: compiling took" in capsys.readouterr().out
    again = ["--resume", str(out["half"]), "--rounds", "2"]
    assert main([*again, "--no-compile"]) == 2
    assert "--no-compile" in capsys.readouterr().err
    assert main(again) == 0
    digests = [json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])["theta_sha256"]
               for path in out.values()]
    assert digests[0] == digests[1]
    assert "compile = true" in (out["half"] / "config.toml").read_text()
    weights = next(out["whole"].rglob("*.safetensors"))
    assert not [name for name in load_file(weights) if "_orig_mod" in name]
