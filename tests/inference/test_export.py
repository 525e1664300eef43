"""fedsim export: networks as files that run without fedsim, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from segmenters import card_of, write_model

from fedsim.cli import main
from fedsim.inference import export as exporting
from fedsim.inference.segmenter import Segmenter
from fedsim.models.card import ModelCard


@pytest.fixture
def export(monkeypatch, capsys, tmp_path):
    """The command in a directory of its own; what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["fedsim", "export", "model.safetensors", *arguments])
        main()
        return capsys.readouterr().out

    return run


def pictures(count: int, size: tuple[int, int]) -> np.ndarray:
    """Other ones than the command has checked on."""
    samples = exporting.sample_pictures(size)
    return np.ascontiguousarray(np.concatenate([samples] * 2)[:count, :, ::-1, ::-1])


def labels_of(card: ModelCard, seen: np.ndarray) -> np.ndarray:
    segmenter = Segmenter.load(write_model(Path("model.safetensors"), card))
    return np.stack(segmenter.segment(seen, [seen.shape[2:]] * len(seen)))


@pytest.mark.parametrize("card", [
    card_of("segnet-small", 4, (45, 33)), card_of("segnet-basic", 8, (48, 32)), card_of("segnet", 4, (61, 45))],
    ids=lambda card: card.model)
def test_an_onnx_file_gives_the_models_labels_and_has_its_card(export, card):
    """In batches of any size. Catches unpooling into another picture, and a size that is rounded down."""
    onnxruntime = pytest.importorskip("onnxruntime")
    seen = pictures(5, card.input_size)
    expected = labels_of(card, seen)
    assert "100.00% of the pixels" in export("--out", "a.onnx")
    session = onnxruntime.InferenceSession("a.onnx", providers=["CPUExecutionProvider"])
    found = session.run(["logits"], {"pictures": seen})[0].argmax(1)
    assert np.mean(found == expected) > 0.999 and len(np.unique(found)) > 1
    metadata = session.get_modelmeta().custom_metadata_map
    assert ModelCard.read(metadata, Path("a.onnx")) == card and metadata["pictures"].startswith("uint8 (N, 3")
    assert {path.name for path in Path().iterdir()} == {"model.safetensors", "a.onnx"}


@pytest.mark.parametrize("card", [
    card_of("segnet-small", 4, (45, 33)), card_of("torchvision:lraspp_mobilenet_v3_large", None, (64, 48))],
    ids=lambda card: card.model)
def test_a_program_of_torch_gives_the_models_labels_and_has_its_card(export, card):
    seen = pictures(5, card.input_size)
    expected = labels_of(card, seen)
    export("--format", "torch", "--out", "a.pt2")
    files = {"card.json": ""}
    program = torch.export.load("a.pt2", extra_files=files)
    found = program.module()(torch.from_numpy(seen)).argmax(1).numpy()
    assert np.mean(found == expected) > 0.999 and len(np.unique(found)) > 1
    assert ModelCard.read(json.loads(files["card.json"]), Path("a.pt2")) == card


def test_a_file_that_gives_other_labels_is_not_kept(export, monkeypatch, capsys):
    """Catches a check that only tells."""
    write_model(Path("model.safetensors"), card_of())
    broken = exporting.FORMATS["torch"]._replace(read=lambda path: lambda seen: np.eye(11)[seen[:, 0] % 11].transpose(
        0, 3, 1, 2))
    monkeypatch.setitem(exporting.FORMATS, "torch", broken)
    with pytest.raises(SystemExit) as stopped:
        export("--format", "torch", "--out", "a.pt2")
    assert stopped.value.code == 1 and "gives other labels than model.safetensors in" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["model.safetensors"]


def test_a_network_that_cannot_be_expressed_is_told_in_a_sentence(export, monkeypatch, capsys):
    write_model(Path("model.safetensors"), card_of())

    def fail(path, graph, samples, card):
        path.write_bytes(b"half")
        raise RuntimeError("no such operator\nwith a long story")

    monkeypatch.setitem(exporting.FORMATS, "onnx", exporting.FORMATS["onnx"]._replace(write=fail, packages=()))
    with pytest.raises(SystemExit) as stopped:
        export("--out", "a.onnx")
    assert stopped.value.code == 1
    assert capsys.readouterr().err == ("fedsim: segnet-small could not be written as a.onnx: RuntimeError: no such "
                                       "operator\n")
    assert [path.name for path in Path().iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(("arguments", "says"), [
    (["--out", "mine.onnx"], "mine.onnx is already there"), (["--out", "a.pt2"], "ends in .onnx"),
    (["--out", "no/a.onnx"], "there is no directory no"), ([], "--out"), (["--format", "tf", "--out", "a.tf"], "tf")])
def test_a_mistake_gets_one_sentence_and_leaves_nothing(export, monkeypatch, capsys, arguments, says):
    monkeypatch.setattr(exporting, "find_spec", lambda name: name)
    write_model(Path("model.safetensors"), card_of())
    Path("mine.onnx").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        export(*arguments)
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and says in told and len(told.splitlines()) == 1, told
    assert Path("mine.onnx").read_text() == "mine" and len([*Path().iterdir()]) == 2


def test_without_onnx_it_is_told_what_to_install(export, monkeypatch, capsys):
    write_model(Path("model.safetensors"), card_of())
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        export("--out", "a.onnx")
    assert "pip install onnx onnxscript onnxruntime" in capsys.readouterr().err
