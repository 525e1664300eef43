"""The networks with a fine and a deep branch, against their papers' figures, and `fedsim models`."""

import pytest
import torch
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from fedsim.cli import commands
from fedsim.errors import SettingsError
from fedsim.models import build_model, check_image_size
from fedsim.models.outputs import Outputs, read_outputs


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_fast_scnn_is_as_large_as_published():
    """1.11 million parameters with 19 classes (table 1 and §4), without what only training uses."""
    model = build_model("fast-scnn", 19, None)
    assert (parameters(model) - parameters(model.auxiliary)) / 1.11e6 == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("name, auxiliary", [("ddrnet-small", [(8, 12)]), ("fast-scnn", [(8, 12), (2, 3)])])
def test_auxiliary_logits_come_from_both_resolutions(name, auxiliary):
    outputs = build_model(name, 5, 4)(torch.randn(2, 3, 64, 96))
    assert isinstance(outputs, Outputs)
    assert [tuple(one.shape) for one in outputs.auxiliary] == [(2, 5, *size) for size in auxiliary]


def test_ddrnets_branches_exchange_what_they_had_before():
    """Catches an exchange in which the second branch gets the sum that the first has just made, and a wrong size."""
    model, seen = build_model("ddrnet-small", 5, 4), {}
    for name in ("fine", "deep", "up", "down"):
        for stage, part in enumerate(getattr(model, name)):
            part.register_forward_hook(lambda _, given, out, key=(name, stage): seen.update(
                {key: (given[0].clone(), out.clone())}))
    model(torch.randn(2, 3, 64, 96))
    sizes = {"fine": [(8, 12)] * 2, "deep": [(4, 6), (2, 3)]}
    for stage in range(2):
        (_, fine), (_, deep) = seen["fine", stage], seen["deep", stage]
        assert [tuple(one.shape[2:]) for one in (fine, deep)] == [sizes["fine"][stage], sizes["deep"][stage]]
        assert torch.equal(seen["down", stage][0], fine) and torch.equal(seen["up", stage][0], deep)
    assert torch.equal(seen["deep", 1][0], (seen["deep", 0][1] + seen["down", 0][1]).relu())


@pytest.mark.parametrize("name", ["ddrnet-small", "fast-scnn"])
def test_every_pixel_sees_the_whole_picture(name):
    """Catches a context that is computed and not used: the convolutions alone see less than 900 pixels far."""
    torch.manual_seed(0)
    model = build_model(name, 5, 4).eval().double()
    picture = torch.randn(1, 3, 32, 1024, dtype=torch.float64, requires_grad=True)
    model(picture)[..., :8].sum().backward()
    assert picture.grad[..., -32:].abs().max() > 0


@pytest.mark.parametrize("name", ["ddrnet-small", "fast-scnn"])
def test_sizes_and_widths(name):
    check_image_size(name, (32, 32))
    with pytest.raises(SettingsError, match=r"31x99,.*at least 32x32"):
        check_image_size(name, (31, 99))
    assert read_outputs(build_model(name, 2, 1)(torch.randn(2, 3, 32, 32))).logits.shape == (2, 2, 32, 32)
    whole = build_model(name, 11, None)
    assert parameters(build_model(name, 11, 32)) == parameters(whole)
    assert 3 < parameters(whole) / parameters(build_model(name, 11, 16)) < 4.1


def test_models_are_listed_with_their_costs(capsys):
    """GFLOP of a SegNet counted by hand, torchvision's by name, and mistakes in one sentence."""
    def ask(*words: str) -> list[str]:
        commands.main(["models", *words], standalone_mode=False)
        return [line.split() for line in capsys.readouterr().out.splitlines()]

    row = next(words for words in ask("segnet-small", "--image-size", "160x120") if words[:1] == ["segnet-small"])
    # Multiplications and additions of 3x3 convolutions at 1, 1/2, 1/4 of the size and back, and of the classifier.
    by_hand = 2 * 160 * 120 * (
        9 * (3 * 24 + 24 * 48 / 4 + 48 * 96 / 16 + 96 * 48 / 16 + 48 * 24 / 4 + 24 * 24) + 24 * 11)
    assert row[1:5] == ["110,579", f"{by_hand / 1e9:.2f}", "0.4", "MB"]
    assert all(int(milliseconds) > 0 for milliseconds in row[5:])
    name = "torchvision:lraspp_mobilenet_v3_large"
    count = parameters(lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=11))
    assert [name, f"{count:,}"] in [words[:2] for words in ask(name, "--image-size", "32x32")]
    for words, said in (
            (["segnt"], "did you mean segnet"), (["--image-size", "20x99"], "need at least 32x32"),
            (["--image-size", "big"], "write WIDTHxHEIGHT"), (["--model-option", "a=1"], "not one is named"),
            (["ddrnet-small", "--model-option", "a=1"], "has no such option")):
        with pytest.raises(SettingsError, match=said):
            ask(*words)
