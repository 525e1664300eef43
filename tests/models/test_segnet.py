"""SegNet against the paper's parameter counts, and its decoder against the encoder's indices."""

import pytest
import torch
import torch.nn.functional as F

from fedsim.errors import SettingsError
from fedsim.models import MODELS, build_model, check_image_size
from fedsim.models.outputs import read_outputs, upsample
from fedsim.models.segnet import SEGNETS, Unpooling


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def small(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model("segnet-small", classes=5, width=4)


@pytest.mark.parametrize("name, classes, count", [
    ("segnet-basic", 11, 1_416_587),
    ("segnet-basic", 32, 1_417_952),
    ("segnet-small", 11, 110_579),
])
def test_parameters_are_as_many_as_published(name, classes, count):
    """Catches a missing bias, a missing BatchNorm, a wrong kernel or a wrong channel."""
    assert parameters(build_model(name, classes, None)) == count


def test_segnet_has_the_13_convolutions_of_vgg16_and_their_mirror():
    """Catches a classifier added behind the mirrored decoder instead of being its last convolution."""
    convolutions = [m for m in build_model("segnet", 11, None).modules() if isinstance(m, torch.nn.Conv2d)]
    vgg16 = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    assert [c.out_channels for c in convolutions[:13]] == vgg16
    assert [c.in_channels for c in convolutions[13:]] == vgg16[::-1]
    assert convolutions[-1].out_channels == 11
    assert {c.kernel_size for c in convolutions} == {(3, 3)}


def test_relu_is_in_the_decoder_of_all_but_basic():
    """SegNet-Basic's decoder has no non-linearity (section 3.1 of the paper)."""
    for name in SEGNETS:
        decoder = build_model(name, 11, 8).decoder
        relus = [m for m in decoder.modules() if isinstance(m, torch.nn.ReLU)]
        assert bool(relus) == (name != "segnet-basic"), name


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("height, width", [(32, 48), (45, 61), (33, 32)])
def test_logits_have_the_size_of_the_picture(name, height, width):
    """Catches an unpooling without output_size, which loses the odd row."""
    model, images = build_model(name, 7, 4), torch.randn(2, 3, height, width)
    assert read_outputs(model(images)).logits.shape == (2, 7, height, width)
    assert model.eval()(images).shape == (2, 7, height, width)


def test_unpooled_values_land_where_the_maxima_were():
    """Catches indices taken from another stage or replaced by a fixed corner.

    Seen at the input of the last decoder stage: zero everywhere but at the maxima of the first encoder stage.
    """
    model = small().eval()
    seen = {}
    model.encoder[0].register_forward_hook(lambda _, __, out: seen.update(encoded=out.clone()))
    model.decoder[-1].register_forward_pre_hook(lambda _, inputs: seen.update(unpooled=inputs[0].clone()))
    with torch.no_grad():
        model(torch.randn(2, 3, 17, 24))
    _, indices = F.max_pool2d(seen["encoded"], 2, return_indices=True)
    maxima = torch.zeros_like(seen["encoded"], dtype=torch.bool)
    maxima.flatten(2).scatter_(2, indices.flatten(2), True)
    assert (seen["unpooled"][~maxima] == 0).all()
    assert (seen["unpooled"][maxima] != 0).float().mean() > 0.2  # else the first claim is empty


def test_other_indices_give_another_segmentation(monkeypatch):
    """Catches a decoder that upsamples without looking at the indices."""
    model, images = small().eval(), torch.randn(1, 3, 24, 24)
    pool = F.max_pool2d

    def pool_with_corner_indices(x, size, return_indices):
        corners = torch.arange(x.shape[-1] * x.shape[-2]).view(x.shape[-2:])[:-1:2, :-1:2]
        values, indices = pool(x, size, return_indices=return_indices)
        return values, corners.expand_as(indices).contiguous()

    with torch.no_grad():
        expected = model(images)
        assert torch.equal(model(images), expected)
        monkeypatch.setattr(F, "max_pool2d", pool_with_corner_indices)
        assert not torch.allclose(model(images), expected, atol=1e-3)


@pytest.mark.parametrize("name, width, first, last", [
    ("segnet-small", 12, 12, 48), ("segnet-small", 16, 16, 64), ("segnet-basic", 32, 32, 32),
    ("segnet", 16, 16, 128), ("segnet-small", 1, 1, 4),
])
def test_width_scales_every_stage_in_proportion(name, width, first, last):
    encoder = build_model(name, 11, width).encoder
    assert encoder[0][0].out_channels == first
    assert encoder[-1][0].out_channels == last


def test_the_networks_own_width_changes_nothing():
    for name, width in [("segnet-small", 24), ("segnet-basic", 64)]:
        assert parameters(build_model(name, 11, width)) == parameters(build_model(name, 11, None))


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_every_parameter(name):
    torch.manual_seed(0)
    model = build_model(name, 5, 4)
    logits, auxiliary = read_outputs(model(torch.randn(2, 3, 64, 64)))
    labels = torch.randint(5, (2, 64, 64))
    sum(F.cross_entropy(upsample(one, labels.shape[1:]), labels) for one in (logits, *auxiliary)).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        # A bias before BatchNorm is subtracted again with the mean: rounding is all its gradient holds.
        assert parameter.grad.abs().max() > 0 or parameter_name.endswith("bias"), parameter_name


def test_the_gradient_of_unpooling_is_pytorchs_and_keeps_its_layout():
    """Catches a gradient from other pixels, and one that is laid out anew, which slows the layers before it."""
    for layout in (torch.contiguous_format, torch.channels_last):
        maps = torch.randn(2, 5, 7, 9).contiguous(memory_format=layout)
        pooled, indices = F.max_pool2d(maps, 2, return_indices=True)
        gradient = torch.randn(2, 5, 7, 9).contiguous(memory_format=layout)
        found = []
        for unpool in (Unpooling.apply, torch.ops.aten.max_unpool2d):
            x = pooled.clone().requires_grad_()
            result = unpool(x, indices, maps.shape[2:])
            found.append((result.detach(), *torch.autograd.grad(result, x, gradient)))
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))
    assert found[0][1].is_contiguous(memory_format=torch.channels_last)


def test_the_classifier_is_a_1x1_convolution_and_quick_on_one_thread():
    """Catches another result, and the kernel that PyTorch chooses for a plain convolution, which copies large maps."""
    classifier = small().classifier
    maps = torch.randn(2, 4, 9, 8).contiguous(memory_format=torch.channels_last)
    plain = F.conv2d(maps, classifier.weight, classifier.bias)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.autograd.profiler.profile() as profile:
            logits = classifier(maps)
            logits.sum().backward()
    finally:
        torch.set_num_threads(threads)
    assert torch.allclose(logits, plain, atol=1e-6)
    assert not [event.name for event in profile.function_events if "slow_conv2d" in event.name]


def test_channels_last_gives_the_same_logits():
    images = torch.randn(2, 3, 45, 60)
    rows, channels = small(), small().to(memory_format=torch.channels_last)
    assert torch.allclose(channels(images.to(memory_format=torch.channels_last)), rows(images), atol=1e-4)


@pytest.mark.parametrize("name, smallest", [("segnet-small", 8), ("segnet-basic", 16), ("segnet", 32)])
def test_the_smallest_size_works_and_one_pixel_less_is_refused(name, smallest):
    check_image_size(name, (smallest, smallest))
    assert build_model(name, 2, 2)(torch.randn(2, 3, smallest, smallest)).shape[-1] == smallest
    with pytest.raises(SettingsError, match=f"{smallest - 1}x99,.*at least {smallest}x{smallest}"):
        check_image_size(name, (smallest - 1, 99))
