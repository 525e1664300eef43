"""A start from weights on disk, and parts of a network that stay as they are."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_bad_input import refused  # noqa: F401 a fixture
from test_torchrun import command, digests, start
from torch import nn

from fedsim.errors import OutputError, SettingsError
from fedsim.experiment.starting import find_start
from fedsim.main import main
from fedsim.models import build_model
from fedsim.models.frozen import FixedNorm, freeze
from fedsim.record.weights import weights_of

NAMES = ("road", "sky", "tree")


def build(classes: int = 3) -> nn.Module:
    """The smallest SegNet, the same each time."""
    torch.manual_seed(classes)
    return build_model("segnet-small", classes, 4)


def trained() -> nn.Module:
    """A network with other numbers everywhere."""
    made = build()
    with torch.no_grad():
        for tensor in weights_of(made).values():
            tensor.add_(1)
    return made


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)


class Whole(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"backbone": Backbone()})
        self.head = nn.Conv2d(8, classes, 1)


@pytest.fixture
def write(tmp_path):
    """A function that writes a file with torch.save and returns its path."""
    def write(content, name: str = "weights.pth") -> str:
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize("wrap", [
    lambda state: state, lambda state: {"epoch": 3, "state_dict": state},
    lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
    lambda state: {f"module._orig_mod.{name}": tensor.half() for name, tensor in state.items()}])
def test_what_training_programs_save_is_taken_whole(write, wrap):
    """Parameters and statistics, whatever is around them. Catches a name that is looked up as it is."""
    there = trained()
    found = find_start(write(wrap(there.state_dict())), build, NAMES)
    ours = found.give(build())
    assert not found.facts["new"] and not found.facts["left_over"]
    for name, tensor in weights_of(there).items():
        assert torch.equal(weights_of(ours)[name], tensor.half().float()) or torch.equal(weights_of(ours)[name], tensor)


def test_other_numbers_of_classes_make_a_new_classifier(write):
    """And the rest is taken. Catches a classifier that is cut, and one that stops all."""
    found = find_start(write(trained().state_dict()), build, ("a", "b", "c", "d"))
    assert found.facts["new"] == ["classifier.bias", "classifier.weight"] == found.facts["left_over"]
    made = found.give(build(4))
    assert torch.equal(made.classifier.weight, build(4).classifier.weight)
    assert torch.equal(made.encoder[0][0].weight, trained().encoder[0][0].weight)


def test_a_backbone_finds_its_part_of_the_network(write):
    """Where most numbers fit. Catches a search for names at the top alone."""
    there = Backbone()
    found = find_start(write(there.state_dict()), Whole, NAMES)
    assert torch.equal(found.give(Whole(3)).body["backbone"].conv.weight, there.conv.weight)
    assert found.facts["new"] == ["head.bias", "head.weight"]


def test_other_classes_of_the_same_number_make_a_new_classifier_too(tiny_camvid, tmp_path):
    """By the names in the model card. Catches a classifier whose third channel was another class."""
    assert main(command(tiny_camvid, tmp_path / "run", "--rounds", "1")) == 0
    names = [f"class {number}" for number in range(11)]
    new = find_start(str(tmp_path / "run"), build, names).facts["new"]
    assert new == ["classifier.bias", "classifier.weight"]


@pytest.mark.parametrize(("content", "says"), [
    (nn.Linear(2, 2), "cannot be read as a state dictionary (UnpicklingError); save network.state_dict()"),
    ({"epoch": 3}, "holds no tensors by name"), ([torch.zeros(2)], "holds no tensors by name"),
    ({"encoder.0.0.weight": torch.zeros(3)}, "holds the weights of another network: 1 of its 1 tensors do not fit "
                                             "(encoder.0.0.weight); the network has encoder.0.0.weight, "),
    (build_model("segnet-small", 3, 8).state_dict(), ", encoder.0.1.running_mean and 31 more"),
    ({name: tensor * float("nan") for name, tensor in build().state_dict().items()}, "numbers that are not finite")])
def test_what_cannot_be_a_start_is_refused(write, content, says):
    with pytest.raises((OutputError, SettingsError)) as refusal:
        find_start(write(content), build, NAMES)
    assert says in str(refusal.value) and "\n" not in str(refusal.value)


def test_damaged_files_are_refused(tmp_path):
    for name, content in (("a.pth", b"hello"), ("b.pth", b""), ("c.safetensors", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OutputError, match="cannot be read"):
            find_start(str(tmp_path / name), build, NAMES)
    with pytest.raises(OutputError, match="--init: there is no "):
        find_start(str(tmp_path / "nowhere"), build, NAMES)
    with pytest.raises(OutputError, match="is not a run directory"):
        find_start(str(tmp_path), build, NAMES)


def test_a_run_starts_where_its_source_ended_and_needs_it_no_more(tiny_camvid, tmp_path):
    """With the same θ and the same scores. Stopped, moved and resumed on two ranks, without the source, and repeated.

    Catches a start without statistics, and a run that reads its source again.
    """
    assert main(command(tiny_camvid, tmp_path / "before")) == 0
    more = ("--init", str(tmp_path / "before"), "--lr-schedule", "constant")
    assert main(command(tiny_camvid, tmp_path / "after", *more)) == 0
    before, after = (lines(tmp_path / name) for name in ("before", "after"))
    assert after[0]["theta_sha256"] == before[-1]["theta_sha256"]
    assert after[0]["global"] == before[-1]["global"]
    facts = json.loads((tmp_path / "after" / "environment.json").read_text())["start"]
    assert facts["taken"] == 38 and not facts["new"]
    assert facts["source"] == str(tmp_path / "before" / "checkpoints" / "model.safetensors")
    assert main([*command(tiny_camvid, tmp_path / "halves", *more), "--rounds", "1"]) == 0
    assert main([*command(tiny_camvid, tmp_path / "halves", *more), "--rounds", "1", "--resume", "auto"]) == 0
    shutil.rmtree(tmp_path / "before")
    (tmp_path / "halves").rename(tmp_path / "moved")
    done = start(2, "-m", "fedsim.main", "--resume", str(tmp_path / "moved"), "--rounds", "3")
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "moved")[-1] == digests(tmp_path / "after")[-1]
    assert main(["--config", str(tmp_path / "moved" / "config.toml"), "--rounds", "3", "--out",
                 str(tmp_path / "again")]) == 0
    assert digests(tmp_path / "again")[-1] == digests(tmp_path / "after")[-1]


def test_a_run_with_another_start_is_another_run(tiny_camvid, tmp_path):
    """Catches an identity without the start: a checkpoint would go on with the weights of another one."""
    for seed in ("0", "1"):
        assert main(command(tiny_camvid, tmp_path / f"source-{seed}", "--rounds", "1", "--seed", seed)) == 0
        assert main(command(tiny_camvid, tmp_path / f"run-{seed}", "--rounds", "1", "--init",
                            str(tmp_path / f"source-{seed}"))) == 0
    shutil.copy(tmp_path / "run-1" / "start.safetensors", tmp_path / "run-0")
    assert main(["--resume", str(tmp_path / "run-0"), "--rounds", "2"]) == 2


def lines(run) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("algo", ["avg", "admm", "central", "local"])
def test_a_frozen_part_stays_as_it_is(tiny_camvid, tmp_path, algo):
    """Parameters and statistics, to the bit; and all others are trained. Catches statistics that are measured anew."""
    assert main(command(tiny_camvid, tmp_path / "before", "--rounds", "1", "--algo", "avg")) == 0
    assert main(command(tiny_camvid, tmp_path / "after", "--algo", algo, "--init", str(tmp_path / "before"),
                        "--freeze", "encoder.0", "--freeze", "classifier")) == 0
    before = load_file(tmp_path / "before" / "checkpoints" / "model.safetensors")
    for path in sorted((tmp_path / "after" / "checkpoints").glob("*.safetensors")):
        if path.name.startswith("global") or (path.stem.count("-") > 1 and not path.stem.startswith("car")):
            continue
        after = load_file(path)
        if not after.keys() >= before.keys():
            continue  # a part of a checkpoint
        for name, tensor in before.items():
            frozen = name.startswith(("encoder.0.", "classifier."))
            # A bias before a BatchNorm layer has no gradient.
            assert torch.equal(after[name], tensor) == frozen or (name.endswith(".0.bias") and not frozen), name


def test_frozen_numbers_are_not_sent(tiny_camvid, tmp_path):
    """Traffic counts what is trained. Catches a part that is frozen and sent."""
    sent = {}
    for name, more in (("all", ()), ("part", ("--freeze", "encoder"))):
        assert main(command(tiny_camvid, tmp_path / name, "--rounds", "1", "--algo", "avg", "--evaluate-every", "2",
                            *more)) == 0
        facts = json.loads((tmp_path / name / "environment.json").read_text())
        sent[name] = lines(tmp_path / name)[-1]["bytes_up"], facts["parameters"], facts["statistics"]
    encoder = build_model("segnet-small", 11, 4).encoder
    frozen = sum(parameter.numel() for parameter in encoder.parameters())
    norms = sum(layer.num_features for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d))
    (all_up, parameters, statistics), (up, left, measured) = sent["all"], sent["part"]
    assert (parameters - left, statistics - measured) == (frozen, 2 * norms)
    cars = len(lines(tmp_path / "part")[-1]["cars"])
    assert all_up - up == cars * 4 * (frozen + 2 * norms)


def test_a_frozen_layer_computes_what_batchnorm_does_in_an_evaluation():
    """To the bit, in training too. Catches a formula of its own."""
    layer = nn.BatchNorm2d(3)
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            tensor.uniform_(0.5, 2)
    images = torch.randn(2, 3, 4, 4)
    fixed = FixedNorm(layer).train()
    assert torch.equal(fixed(images), layer.eval()(images)) and fixed.state_dict().keys() < layer.state_dict().keys()


def test_a_prefix_is_a_whole_part_of_a_name():
    """encoder.1 does not freeze encoder.10. Catches a comparison of beginnings."""
    made = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(11)))
    freeze(made, ["1"])
    assert [name for name, p in made.named_parameters() if not p.requires_grad] == ["1.weight", "1.bias"]
    with pytest.raises(SettingsError, match="--freeze enc: no parameter of the network has a name that begins so; its "
                                            "parts are 0, 1, 2, 3, 4, 5, 6, 7 and 3 more"):
        freeze(made, ["enc"])


def test_a_network_with_nothing_left_to_train_is_refused(refused):  # noqa: F811
    said = refused("--freeze", "encoder", "--freeze", "decoder", "--freeze", "classifier", "--image-size", "32x24")
    assert "it has no parameter that can be trained" in said


def test_a_file_of_weights_without_a_card_is_taken(tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in weights_of(trained()).items()},
              tmp_path / "plain.safetensors")
    assert find_start(str(tmp_path / "plain.safetensors"), build, NAMES).facts["taken"] == 38
