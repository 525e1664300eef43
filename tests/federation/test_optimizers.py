"""The optimisers on a flat vector are torch.optim's, bit for bit."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fedsim.federation.optimizers import SGD, Adam, Velocity
from fedsim.models.flat import FlatModel

CASES = [
    (SGD(), lambda w, lr: torch.optim.SGD([w], lr)),
    (SGD(momentum=0.9), lambda w, lr: torch.optim.SGD([w], lr, momentum=0.9)),
    (SGD(momentum=0.9, weight_decay=1e-2), lambda w, lr: torch.optim.SGD([w], lr, momentum=0.9, weight_decay=1e-2)),
    (SGD(0.9, 1e-2, nesterov=True),
     lambda w, lr: torch.optim.SGD([w], lr, 0.9, weight_decay=1e-2, nesterov=True)),
    (Adam(), lambda w, lr: torch.optim.Adam([w], lr)),
    (Adam(weight_decay=1e-2), lambda w, lr: torch.optim.Adam([w], lr, weight_decay=1e-2)),
    (Adam(weight_decay=1e-2, decoupled=True), lambda w, lr: torch.optim.AdamW([w], lr, weight_decay=1e-2)),
]


@pytest.mark.parametrize(("ours", "theirs"), CASES,
                         ids=["sgd", "momentum", "decay", "nesterov", "adam", "adam-decay", "adamw"])
def test_ten_steps_equal_those_of_torch_to_the_bit(ours, theirs):
    """Catches a momentum that starts at zero and is damped, decay after momentum, an epsilon inside the root."""
    draw = torch.Generator().manual_seed(1)
    start = torch.randn(10_001, generator=draw)
    w, reference = start.clone(), torch.nn.Parameter(start.clone())
    steps, optimizer = ours.start(), theirs(reference, 0.03)
    for _ in range(10):
        gradient = torch.randn(10_001, generator=draw)
        reference.grad = gradient.clone()
        optimizer.step()
        steps.take(w, gradient, 0.03)
        assert torch.equal(w, reference.data)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_the_step_length_is_how_far_unit_gradients_move(nesterov, momentum, steps):
    """Fed to the solver itself, with a velocity from before, and with a proximal term. Catches the closed form being
    off by a step, and a step of Nesterov's that is as long as a plain one."""
    for damping, unit in ((0.0, 0.0), (0.0, 2.5), (0.8, 0.0), (0.8, 2.5)):
        optimizer, w = SGD(momentum, nesterov=nesterov and bool(momentum)), torch.zeros(1, dtype=torch.float64)
        run = optimizer.start(Velocity(torch.full_like(w, unit), unit))
        for _ in range(steps):
            run.take(w, 1 + damping * w, 0.1)
        length = optimizer.step_length(0.1, steps, damping, unit if momentum else 0.0)
        assert length == pytest.approx(-float(w), rel=1e-12)


def test_weight_decay_does_not_change_the_gradient_it_is_given():
    gradient = torch.ones(3)
    SGD(weight_decay=0.1).start().take(torch.ones(3), gradient, 0.1)
    assert torch.equal(gradient, torch.ones(3))


@pytest.mark.parametrize("rule", [SGD(0.9, 0.1), Adam(0.1), Adam(0.1, decoupled=True)], ids=["sgd", "adam", "adamw"])
def test_weight_decay_leaves_out_what_it_does_not_concern(rule):
    """What decays goes as with a decay of all, the rest as without one. Catches a mask that is read the wrong way."""
    draw = torch.Generator().manual_seed(2)
    start, gradients = torch.randn(8, generator=draw), torch.randn(3, 8, generator=draw)
    decays = torch.tensor([1.0, 0.0] * 4)

    def train(rule, decays):
        w, steps = start.clone(), rule.start(None, decays)
        for gradient in gradients:
            steps.take(w, gradient, 0.1)
        return w

    masked, whole, without = train(rule, decays), train(rule, None), train(replace(rule, weight_decay=0.0), None)
    assert torch.allclose(masked, torch.where(decays > 0, whole, without), rtol=1e-6)
    assert not torch.allclose(whole, without)


def test_norms_and_biases_do_not_decay():
    """Catches a bias that decays, and a vector of a network's own that does not."""
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), nn.Conv2d(2, 1, 1, bias=False))
    module.register_parameter("scale", nn.Parameter(torch.ones(2)))
    model = FlatModel(module, torch.device("cpu"))
    with torch.no_grad():
        model.parameters.zero_()
        for tensor in (module[0].weight, module[3].weight, module.scale):
            tensor.fill_(1)
    assert torch.equal(model.decays, model.parameters)
