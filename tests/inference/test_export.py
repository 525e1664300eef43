"""fedsim export: networks as files that run without fedsim, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from segmenters import card_of, write_model

from fedsim.cli import main
from fedsim.data.datasets.streets import draw_scene
from fedsim.data.datasets.streets.drives import drives_of
from fedsim.data.pixels import resize_picture
from fedsim.inference import export as exporting
from fedsim.inference.resizing import resize
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


# With resizing


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 60), st.integers(1, 60), st.integers(0, 9))
def test_resizing_gives_the_bytes_that_pillow_gives(width, height, new_width, new_height, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    found = resize(torch.from_numpy(picture.transpose(2, 0, 1)[None].copy()), new_height, new_width)
    assert np.array_equal(found[0].numpy().transpose(1, 2, 0), resize_picture(picture, (new_width, new_height)))


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_a_graph_with_resizing_labels_pictures_of_any_size(export, kind):
    """Larger and smaller than the network's own, wider and higher. Catches a size that the graph keeps."""
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    segmenter = Segmenter.load(write_model(Path("model.safetensors"), card_of("segnet-small", 4, (45, 33))))
    file = Path("a" + exporting.FORMATS[kind].ending)
    said = export("--format", kind, "--out", str(file), "--with-resize")
    assert "uint8 (N, H, W): class indices, at the size of the pictures" in said
    run = exporting.FORMATS[kind].read(file)
    for height, width in ((33, 45), (120, 160), (100, 41), (20, 300), (7, 9), (1, 1)):
        seen = np.random.default_rng(height).integers(0, 256, (2, height, width, 3), np.uint8)
        seen[0] = resize_picture(exporting.draw_samples()[0][0].transpose(1, 2, 0), (width, height))
        found = run(np.ascontiguousarray(seen.transpose(0, 3, 1, 2)))
        assert found.dtype == np.uint8 and found.shape == (2, height, width)
        assert np.mean(found == np.stack(segmenter.labels(seen))) > 0.999


def test_the_programs_of_the_page_give_the_labels_of_predict(export):
    """Every pixel. Catches a picture that is shrunk in another way, and labels upsampled after the decision."""
    pytest.importorskip("onnxruntime")
    segmenter = Segmenter.load(write_model(Path("model.safetensors"), card_of("segnet-small", 4, (45, 33))))
    export("--out", "street.onnx", "--with-resize")
    export("--out", "street.pt2", "--format", "torch", "--with-resize")
    export("--out", "logits.onnx")
    page = (Path(__file__).parents[2] / "docs" / "predict.md").read_text(encoding="utf-8")
    _, programs = page.split("## Without fedsim")
    programs = re.findall(r"```python\n(.*?)```", programs, re.DOTALL)
    assert len(programs) == 3
    picture = draw_scene(drives_of("val", 1)[0], 3).image
    expected, = segmenter.labels([picture])
    assert len(np.unique(expected)) > 2
    Image.fromarray(picture).save("street.png")
    known: dict[str, Any] = {}
    for program in programs:
        exec(program, known)
        assert np.array_equal(known["labels"], expected)
    resized = json.loads(segmenter.card.metadata()["input"])["resized"]
    assert known["card"]["input"]["resized"] == resized and "BOX" in resized
