"""A model on a flat vector is the same model."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedsim.federation.optimizers import SGD
from fedsim.models import build_model
from fedsim.models.flat import FlatModel, Norms
from fedsim.record.weights import weights_of

CPU = torch.device("cpu")


def batches(count: int, classes: int = 11):
    draw = torch.Generator().manual_seed(2)
    for _ in range(count):
        images = torch.randn(2, 3, 30, 40, generator=draw)
        labels = torch.randint(0, classes, (2, 30, 40), generator=draw)
        yield images.contiguous(memory_format=torch.channels_last), labels


@pytest.mark.parametrize("name", ["segnet-small", "torchvision:lraspp_mobilenet_v3_large"])
def test_training_through_the_vector_equals_plain_pytorch_to_the_bit(name):
    """Parameters, statistics and losses. Catches a gradient that is not zeroed and a view that came loose."""
    torch.manual_seed(0)
    plain = build_model(name, 11, None)
    model = FlatModel(copy.deepcopy(plain), CPU)
    plain = plain.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9)
    steps = SGD(momentum=0.9).start()
    for images, labels in batches(6):
        torch.manual_seed(1)  # for dropout
        optimizer.zero_grad()
        plain_loss = F.cross_entropy(plain(images), labels)
        plain_loss.backward()
        optimizer.step()
        torch.manual_seed(1)
        model.gradient.zero_()
        loss = F.cross_entropy(model.module(images), labels)
        loss.backward()
        steps.take(model.parameters, model.gradient, 0.1)
        assert torch.equal(loss, plain_loss)
    for (key, ours), theirs in zip(weights_of(model.module).items(), weights_of(plain).values(), strict=True):
        assert torch.equal(ours, theirs), key


def test_loading_is_one_copy_that_every_layer_sees():
    model = FlatModel(build_model("segnet-small", 11, None), CPU)
    model.load(torch.full_like(model.theta, 0.5), Norms(model.affine, torch.full_like(model.statistics, 0.25)))
    assert all(bool((p == 0.5).all()) for p in model.module.parameters())
    assert all(bool((norm.running_mean == 0.25).all() and (norm.running_var == 0.25).all()) for norm in model.norms)
    assert model.parameters.numel() == sum(p.numel() for p in model.module.parameters())


def test_running_statistics_are_written_into_the_statistics_vector():
    model = FlatModel(build_model("segnet-small", 11, None), CPU)
    before = model.statistics.clone()
    model.module.train()(next(batches(1))[0])
    assert not torch.equal(model.statistics, before)
    assert torch.equal(model.statistics[0], torch.cat([norm.running_mean for norm in model.norms]))
    assert torch.equal(model.statistics[1], torch.cat([norm.running_var for norm in model.norms]))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(3, 1)
        self.frozen.requires_grad_(False)

    def forward(self, inputs):
        return self.frozen(self.second(self.first(inputs)))


def test_tied_parameters_appear_once_and_frozen_ones_stay_outside():
    module = Tied()
    frozen = module.frozen.weight.clone()
    model = FlatModel(module, CPU)
    assert model.parameters.numel() == 9
    model.module(torch.ones(1, 3)).sum().backward()
    model.parameters.add_(model.gradient, alpha=-0.1)
    assert module.first.weight is module.second.weight
    assert torch.equal(module.first.weight.flatten(), model.parameters)
    assert torch.equal(module.frozen.weight, frozen)


def test_a_model_without_batchnorm_has_no_statistics():
    assert FlatModel(nn.Linear(2, 2), CPU).statistics.shape == (2, 0)
