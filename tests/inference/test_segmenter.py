"""A trained model on pictures of any size, from a run's directory or a file alone."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import damaged
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from segmenters import card_of, write_model

import fedsim
import fedsim.main
from fedsim.data import cache
from fedsim.data.datasets.camvid import CamVid
from fedsim.data.datasets.streets import draw_scene
from fedsim.data.datasets.streets.drives import drives_of
from fedsim.data.pixels import resize_picture
from fedsim.data.scene_set import LabelMaps
from fedsim.errors import DataError, FedsimError, OutputError, SettingsError
from fedsim.evaluation.evaluate import batches_of, count_confusion, segment
from fedsim.evaluation.metrics import scores
from fedsim.evaluation.views import View
from fedsim.experiment.assembly import make_module
from fedsim.experiment.past_run import PastRun
from fedsim.inference import segmenter
from fedsim.inference.segmenter import CPU, Segmenter
from fedsim.models.flat import FlatModel
from fedsim.record.weights import fill, read_weights, save_weights
from fedsim.system.console import LOG

RANDOM = np.random.default_rng(0)


VIEW = View((1.0, 1.5), False, (24, 16))


def picture(height: int, width: int) -> np.ndarray:
    """Blots, so that labels have regions."""
    blots = Image.fromarray(RANDOM.integers(0, 256, (6, 8, 3), np.uint8))
    return np.asarray(blots.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def runs(tiny_camvid, tmp_path_factory) -> Path:
    """A run with a global model and one with its cars' own. Read only."""
    folder = tmp_path_factory.mktemp("runs")
    options = {"avg": ["--rounds", "2", "--average-weights", "ema:0.5", "--test-scales", "1,1.5", "--tile", "24x16"],
               "local": ["--rounds", "1"]}
    for algo, more in options.items():
        assert fedsim.main.main(["--data", "camvid", "--data-root", str(tiny_camvid), *more, "--width", "4",
                                 "--cars", "2", "--image-size", "32x24", "--threads", "1", "--algo", algo,
                                 "--out", str(folder / algo)]) == 0
    return folder


@pytest.fixture
def untrained(tmp_path) -> Segmenter:
    return Segmenter.load(write_model(tmp_path / "model.safetensors", card_of()))


def test_labels_are_those_that_a_run_is_scored_by(runs, tiny_camvid):
    """To the bit, on noise of 48x36 and on streets of 160x120. Catches another resize, standardisation or upsampling,
    another view, statistics of the batch, and labels at the network's size."""
    source, model = CamVid(tiny_camvid), Segmenter.load(runs / "avg")
    run = PastRun.open(runs / "avg")
    file, = run.directory.weights()
    flat = FlatModel(make_module(run.settings, len(source.classes), (32, 24)), CPU)
    fill(flat.module, read_weights(file)[0], file)
    noise = cache.load(source, "val", (32, 24))
    streets = [draw_scene(drive, 0) for drive in drives_of("val", 1)[:3]]
    seen = np.stack([resize_picture(scene.image, (32, 24)).transpose(2, 0, 1) for scene in streets])
    drawn = replace(noise, images=seen, labels=LabelMaps.of(scene.label for scene in streets), names=("a", "b", "c"))
    for scenes, pictures in ((noise, [scene.image for scene in source.scenes("val")]),
                             (drawn, [scene.image for scene in streets])):
        expected = np.concatenate([segment(flat, scenes, batch, VIEW) for batch in batches_of(scenes)])
        found = np.stack(model.labels(pictures))
        assert found.dtype == np.uint8 and np.array_equal(found, expected)


def test_the_averaged_model_is_the_one_that_was_scored(runs, tiny_camvid):
    """Catches the statistics of theta in its file, and theta itself."""
    last = json.loads((runs / "avg" / "metrics.jsonl").read_text().splitlines()[-1])
    file = runs / "avg" / "checkpoints" / "averaged.safetensors"
    model = Segmenter.load(file)
    assert safe_open(file, "pt").metadata()["average"] == '"ema:0.5"', "its card says what it is"
    scenes = cache.load(CamVid(tiny_camvid), "val", (32, 24))
    assert scores(count_confusion(model, scenes, batches_of(scenes), VIEW)).pixel_accuracy == (
        last["averaged"]["pixel_accuracy"]) != last["global"]["pixel_accuracy"]
    assert model.name == "avg-averaged"


def test_pictures_are_seen_as_the_run_was_scored_unless_something_else_is_asked_for(runs, tmp_path):
    """Catches a view that is replaced whole, one that the network cannot see, and a damaged one of the card."""
    assert Segmenter.load(runs / "avg").view == VIEW and Segmenter.load(runs / "avg", view={
        "test_flip": True, "tile": "32x24"}).view == View((1.0, 1.5), True, (32, 24))
    with pytest.raises(SettingsError, match=r"show segnet-small pictures of 4x24 pixels, which are too small"):
        Segmenter.load(runs / "avg", view={"tile": "4x99"})
    with pytest.raises(SettingsError, match=r"a view has no setting 'flip'; known are test_scales"):
        fedsim.load(runs / "avg", view={"flip": True})
    for wrong in ({"test_scales": 3}, {"test_flip": "yes"}, {"tile": 7}):
        with pytest.raises(OutputError, match=r"card of .* is damaged: --t"):
            Segmenter.load(write_model(tmp_path / "model.safetensors", card_of(**wrong)))


def test_the_model_of_an_earlier_end_is_told(runs, tmp_path, monkeypatch):
    """Once for a run that goes on. Catches a model that is taken for that of the latest round."""
    said: list[str] = []
    monkeypatch.setattr(LOG, "warning", lambda text, *values: said.append(text % values))
    shutil.copytree(runs / "avg", tmp_path / "avg")
    Segmenter.load(tmp_path / "avg")
    assert said == []
    (tmp_path / "avg" / "report" / "summary.md").unlink()
    Segmenter.load(tmp_path / "avg")
    assert said == [f"{tmp_path / 'avg'} has gone on and has not ended again: its models are those of its earlier end"]


def test_the_card_tells_what_a_reader_must_know(runs, tiny_camvid):
    card = Segmenter.load(runs / "avg").card
    assert (card.model, card.width, card.input_size, card.algo) == ("segnet-small", 4, (32, 24), "avg")
    assert card.classes == CamVid(tiny_camvid).classes and card.version == fedsim.__version__
    assert card.settings["rounds"] == 2 and card.settings["lr"] == 0.2


def test_pictures_of_several_sizes_go_together(untrained):
    """Catches labels that get another picture's size, or are another picture's."""
    pictures = [picture(*size) for size in ((36, 48), (61, 33), (24, 32), (36, 48), (12, 50))]
    together = untrained.labels(pictures)
    for alone, labels in zip(pictures, together, strict=True):
        assert labels.shape == alone.shape[:2]
        assert np.mean(untrained.labels([alone])[0] == labels) > 0.999  # another batch may round otherwise
    assert len(np.unique(np.concatenate([labels.ravel() for labels in together]))) > 2  # else all this says little
    assert untrained.labels([]) == []


def test_large_pictures_are_upsampled_class_by_class_to_the_same_labels(untrained, monkeypatch):
    pictures = [picture(70, 90), picture(33, 41)]
    expected = untrained.labels(pictures)
    monkeypatch.setattr(segmenter, "MOST_NUMBERS", 11 * 50 * 50)
    for labels, whole in zip(untrained.labels(pictures), expected, strict=True):
        assert np.mean(labels == whole) > 0.999 and labels.dtype == np.uint8


def test_class_by_class_every_class_counts_and_the_first_of_equals_wins():
    """Catches a class that wins a tie against one before it, and a last one that is left out."""
    logits = torch.randint(0, 5, (1, 7, 30, 40), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(segmenter._labels_by_class(logits, (30, 40)), logits.argmax(1)[0].to(torch.uint8))


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)),
                                   np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused_by_number(untrained, wrong):
    with pytest.raises(DataError, match=r"picture 1 is .*; it must be uint8 of shape \(height, width, 3\)"):
        untrained.labels([picture(4, 4), wrong])


def test_a_run_without_a_global_model_names_its_cars_files(runs):
    with pytest.raises(OutputError, match=r"a model for each car .* such as .*car-00-.*safetensors"):
        Segmenter.load(runs / "local")
    file = PastRun.open(runs / "local").directory.weights()[0]
    assert Segmenter.load(file).name == f"local-{file.stem}" and Segmenter.load(runs / "avg").name == "avg"


def test_a_users_own_algorithm_is_not_run(tmp_path):
    """Its name is in the card. Catches an import of it."""
    path = write_model(tmp_path / "a.safetensors", card_of(algo="nowhere.to.be:Found"))
    assert Segmenter.load(path).card.algo == "nowhere.to.be:Found"


def network(**values: object) -> dict[str, str]:
    return {"network": json.dumps({"model": "segnet-small", "width": 4, "norm": "batch"} | values)}


def classes(*names: object, colour: object = (1, 2, 3)) -> dict[str, str]:
    return {"classes": json.dumps([{"name": name, "colour": colour} for name in names])}


@pytest.mark.parametrize(("metadata", "says"), [
    (network(width=5), "the weights of another network"), (network(model="segnet"), "of its input's size"),
    (network(model="segnt"), "no network that can be built"), (network(model=3), "its network cannot be read"),
    (network(model="torchvision:resnet18"), "no network that can be built"),
    (network(width=10**9), "its network cannot be read"), (network(width=2**16), "the weights of another network"),
    (network(norm="none"), "its network cannot be read"), ({"network": '{"width": 4}'}, "its network cannot be read"),
    ({"network": "["}, "its network cannot be read"),
    ({"network": "[" * 9999}, "its network cannot be read"), ({"network": "9" * 5000}, "its network cannot be read"),
    ({"input": '{"width": 4, "height": 24}'}, "of its input's size"), ({"input": "[]"}, "its input cannot be read"),
    ({"input": '{"width": true, "height": 24}'}, "its input cannot be read"),
    (classes("a", "a"), "its classes cannot be read"), (classes(*"abc"), "the weights of another network"),
    (classes(*"abcdefghijk", colour=(1, 2)), "its classes cannot be read"),
    (classes("\ud800", *"bcdefghijk"), "its classes cannot be read"), ({"classes": "[]"}, "its classes cannot be read"),
    ({"void_colour": "[0, 0, 256]"}, "its void_colour cannot be read"), ({"settings": "[]"}, "its settings"),
])
def test_a_damaged_card_is_told_in_a_sentence(tmp_path, metadata, says):
    path = write_model(tmp_path / "a.safetensors", card_of(), **metadata)
    with pytest.raises(OutputError) as error:
        Segmenter.load(path)
    assert says in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_weights_without_a_card_are_refused(tmp_path, untrained):
    save_weights(load_file(untrained.path), tmp_path / "bare.safetensors", {})
    with pytest.raises(OutputError, match=r"bare.safetensors has no model card"):
        Segmenter.load(tmp_path / "bare.safetensors")


def test_a_file_that_is_damaged_anywhere_is_refused_or_read(tmp_path, untrained):
    """Never with anything but a sentence. Catches a header that is believed."""
    whole, outcomes = untrained.path.read_bytes(), []
    for seed in range(150):
        path = tmp_path / "damaged.safetensors"
        header = int.from_bytes(whole[:8], "little") + 8
        path.write_bytes(damaged(whole[:header], random.Random(seed)) + whole[header:])
        try:
            Segmenter.load(path).labels([picture(9, 9)])
            outcomes.append("read")
        except FedsimError as error:
            assert "\n" not in str(error)
            outcomes.append("refused")
    assert outcomes.count("refused") > 50
