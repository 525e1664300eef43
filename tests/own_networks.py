"""Networks of a user's own: right ones with buffers of all sorts, and wrong ones with one fault each.

Each is a class whose instances map (B, 3, H, W) to (B, C, H, W).
"""

import random
from collections.abc import Callable
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

HIDDEN = 4  # channels


class Own(nn.Module):
    """Two convolutions with a layer between them. Subclasses change one thing."""

    def __init__(self, classes: int, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, HIDDEN, 3, padding=1), nn.Conv2d(HIDDEN, classes, 1)
        self.layer = nn.Identity() if layer is None else layer
        self.add()

    def add(self) -> None:
        """Register what the subclass needs."""

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.use(self.layer(self.first(images))))

    def use(self, x: Tensor) -> Tensor:
        """Do what the subclass does."""
        return x.relu()


class Ema(Own):
    def add(self) -> None:
        self.register_buffer("ema", torch.zeros(HIDDEN))

    def use(self, x: Tensor) -> Tensor:
        if self.training:
            self.ema.mul_(0.9).add_(x.detach().mean((0, 2, 3)), alpha=0.1)
        return x - self.ema[:, None, None]


class EmaAnew(Ema):
    def use(self, x: Tensor) -> Tensor:
        if self.training:
            self.ema = 0.9 * self.ema + 0.1 * x.detach().mean((0, 2, 3))
        return x - self.ema[:, None, None]


class EmaHidden(Ema):
    def add(self) -> None:
        self.register_buffer("ema", torch.zeros(HIDDEN), persistent=False)


class Counter(Own):
    def add(self) -> None:
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def use(self, x: Tensor) -> Tensor:
        self.steps += int(self.training)
        return x.relu()


class Flag(Own):
    def add(self) -> None:
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def use(self, x: Tensor) -> Tensor:
        self.started |= True
        return x.relu()


class Teacher(Own):
    def add(self) -> None:
        self.teacher = nn.Parameter(torch.zeros(HIDDEN), requires_grad=False)

    def use(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.teacher.mul_(0.9).add_(x.mean((0, 2, 3)), alpha=0.1)
        return x - self.teacher[:, None, None]


class Attribute(Own):
    def add(self) -> None:
        self.mean = torch.zeros(HIDDEN)

    def use(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 2, 3))
        return x - self.mean[:, None, None]


class Calls(Own):
    calls = 0

    def use(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x / self.calls


class NumpyNoise(Own):
    def use(self, x: Tensor) -> Tensor:
        return x * np.random.rand()


class OwnGenerator(Own):
    def add(self) -> None:
        self.draw = torch.Generator().manual_seed(0)

    def use(self, x: Tensor) -> Tensor:
        return x + torch.randn(x.shape, generator=self.draw)


class NoiseInEval(Own):
    def use(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, training=True)


class NoiseInWeights(Own):
    def add(self) -> None:
        self.register_buffer("mask", torch.from_numpy(np.random.rand(HIDDEN)).float())


class Double(Own):
    def add(self) -> None:
        self.last = self.last.double()

    def use(self, x: Tensor) -> Tensor:
        return x.double()


class Half(Own):
    def add(self) -> None:
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float16))

    def use(self, x: Tensor) -> Tensor:
        return x * self.scale


class Complex(Own):
    def add(self) -> None:
        self.phase = nn.Parameter(torch.ones(HIDDEN, dtype=torch.complex64))

    def use(self, x: Tensor) -> Tensor:
        return (x * self.phase[:, None, None]).real


class Frozen(Own):
    def add(self) -> None:
        self.requires_grad_(False)


class Lazy(Own):
    def add(self) -> None:
        self.first = nn.LazyConv2d(HIDDEN, 3, padding=1)


class Meta(Own):
    def add(self) -> None:
        self.first = nn.Conv2d(3, HIDDEN, 3, padding=1, device="meta")


class SharedMemory(Own):
    def add(self) -> None:
        self.other = nn.Conv2d(3, HIDDEN, 3, padding=1)
        self.other.weight.data = self.first.weight.data


class BufferOfWeight(Own):
    def add(self) -> None:
        self.register_buffer("copy", self.first.weight.data)


class Dictionary(Own):
    def forward(self, images: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"out": super().forward(images)}


class Small(Own):
    def use(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)


class Detached(Own):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).detach()


class NotFinite(Own):
    def use(self, x: Tensor) -> Tensor:
        return x / 0


class Raises(Own):
    def use(self, x: Tensor) -> Tensor:
        raise ValueError("no such\npicture")


class Exits(Own):
    def use(self, x: Tensor) -> Tensor:
        raise SystemExit(0)


class NewParameter(Own):
    def use(self, x: Tensor) -> Tensor:
        self.last.bias = nn.Parameter(self.last.bias.detach() * 0.9)
        return x


class GradientAnew(Own):
    def use(self, x: Tensor) -> Tensor:
        self.zero_grad(set_to_none=True)
        return x


class LateParameter(Own):
    def use(self, x: Tensor) -> Tensor:
        if not hasattr(self, "scale"):
            self.scale = nn.Parameter(torch.ones(()))
        return x * self.scale


class InfiniteMask(Own):
    def add(self) -> None:
        self.register_buffer("mask", torch.full((HIDDEN,), -torch.inf))


class DoubleStatistics(Own):
    def use(self, x: Tensor) -> Tensor:
        return self.norm(x.double()).float()

    def add(self) -> None:
        self.norm = nn.BatchNorm2d(HIDDEN, affine=False, dtype=torch.float64)


class OwnMomentum(nn.BatchNorm2d):
    """A BatchNorm whose running statistics follow a momentum of their own."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.running_mean.mul_(0.9).add_(x.detach().mean((0, 2, 3)), alpha=0.1)
            return F.batch_norm(x, None, None, self.weight, self.bias, True)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


class Tracked(nn.BatchNorm2d):
    """A BatchNorm with a buffer more."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.largest = torch.maximum(self.largest, x.detach().abs().max())
        return super().forward(x)


def _with_first(classes: int, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    made = Own(classes)
    made.first = change(made.first)
    return made


def _layer(make: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    return lambda classes: Own(classes, make())


# name -> (what makes it from the number of classes, part of the sentence)
FAULTS: dict[str, tuple[Callable[[int], nn.Module], str]] = {
    "a running mean of its own": (Ema, "its ema changes"),
    "a running mean made anew": (EmaAnew, "its ema changes"),
    "a buffer outside the state": (EmaHidden, "its ema changes"),
    "a counter": (Counter, "its steps changes"),
    "a flag": (Flag, "its started changes"),
    "a frozen teacher": (Teacher, "its teacher changes"),
    "a plain tensor": (Attribute, "something else when the same step is taken again"),
    "a plain counter": (Calls, "something else when the same step is taken again"),
    "numpy's random numbers": (NumpyNoise, "something else when the same step is taken again"),
    "a generator of its own": (OwnGenerator, "something else when the same step is taken again"),
    "dropout in eval mode": (NoiseInEval, "in eval mode"),
    "random numbers when it is made": (NoiseInWeights, "its mask is another one each time"),
    "weights in double": (Double, "its last.weight is float64"),
    "a weight in half": (Half, "its scale is float16"),
    "a complex weight": (Complex, "its phase is complex64"),
    "nothing to train": (Frozen, "no parameter that can be trained"),
    "a lazy layer": (Lazy, "its first.weight has no shape"),
    "a layer on the meta device": (Meta, "its first.weight is on the meta device"),
    "two parameters in one memory": (SharedMemory, "its other.weight shares the memory of first.weight"),
    "a buffer in a weight's memory": (BufferOfWeight, "its copy shares the memory of first.weight"),
    "a dictionary": (Dictionary, "it returns dict"),
    "another size": (Small, "it returns (2, "),
    "no gradient": (Detached, "does not depend on its parameters"),
    "infinity": (NotFinite, "not finite"),
    "an exception": (Raises, "it raises ValueError: no such picture"),
    "an exit": (Exits, "it raises SystemExit: 0"),
    "another parameter in a step": (NewParameter, "in the place of its last.bias"),
    "another gradient in a step": (GradientAnew, "in the place of its first.weight"),
    "a parameter that appears late": (LateParameter, "its scale appears only when"),
    "an infinite buffer": (InfiniteMask, "its mask holds numbers that are not finite"),
    "statistics in double": (DoubleStatistics, "its norm.running_mean is float64"),
    "SyncBatchNorm": (_layer(lambda: nn.SyncBatchNorm(HIDDEN)), "its layer layer is a SyncBatchNorm"),
    "a momentum of its own": (_layer(lambda: OwnMomentum(HIDDEN)), "running statistics of its layer layer"),
    "a BatchNorm with more": (_layer(lambda: Tracked(HIDDEN)), "its layer.largest changes"),
    "spectral norm": (lambda classes: _with_first(classes, parametrizations.spectral_norm),
                      "its first.parametrizations.weight.0._u changes"),
    "the old spectral norm": (lambda classes: _with_first(classes, nn.utils.spectral_norm),
                              "its first.weight_u changes"),
    "no network": (lambda classes: "net", "it makes no network but str"),  # type: ignore[return-value, dict-item]
}


class Position(Own):
    """A constant as large as the pictures, in the state or not."""

    persistent = False

    def use(self, x: Tensor) -> Tensor:
        return x + self.place

    def add(self) -> None:
        self.register_buffer("place", torch.linspace(-1, 1, 24)[:, None].expand(24, 32).clone(),
                             persistent=self.persistent)
        self.register_buffer("ones", torch.ones(3, dtype=torch.float16))
        self.register_buffer("names", torch.arange(5))


class PositionSaved(Position):
    persistent = True


class Tied(Own):
    def add(self) -> None:
        self.other = nn.Conv2d(HIDDEN, HIDDEN, 1)
        self.again = nn.Conv2d(HIDDEN, HIDDEN, 1)
        self.again.weight = self.other.weight

    def use(self, x: Tensor) -> Tensor:
        return self.again(self.other(self.other(x).relu()))


class PartlyFrozen(Own):
    def add(self) -> None:
        self.first.weight.requires_grad_(False)
        self.norm = nn.BatchNorm2d(HIDDEN)
        self.norm.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.norm.eval()
        return self

    def use(self, x: Tensor) -> Tensor:
        return self.norm(x)


class DrawnLike(Own):
    def add(self) -> None:
        self.register_buffer("place", torch.randn_like(torch.zeros(HIDDEN)))


class Scalar(Own):
    def add(self) -> None:
        self.scale = nn.Parameter(torch.ones(()))
        self.volume = nn.Conv3d(1, 1, (1, 3, 3), padding=(0, 1, 1))

    def use(self, x: Tensor) -> Tensor:
        return self.volume(x[:, None])[:, 0] * self.scale


RIGHT: dict[str, Callable[[int], nn.Module]] = {
    "plain": Own, "position": Position, "position saved": PositionSaved, "tied": Tied, "partly frozen": PartlyFrozen,
    "scalar": Scalar, "drawn like": DrawnLike, "a frozen norm beside a trained one": lambda classes: PartlyFrozen(
        classes, nn.BatchNorm2d(HIDDEN)), "batch norm": _layer(lambda: nn.BatchNorm2d(HIDDEN)),
    "batch norm over all batches": _layer(lambda: nn.BatchNorm2d(HIDDEN, momentum=None)),
    "batch norm without statistics": _layer(lambda: nn.BatchNorm2d(HIDDEN, track_running_stats=False)),
    "instance norm": _layer(lambda: nn.InstanceNorm2d(HIDDEN, affine=True)),
    "instance norm with statistics": _layer(lambda: nn.InstanceNorm2d(HIDDEN, track_running_stats=True)),
    "group norm": _layer(lambda: nn.GroupNorm(2, HIDDEN)), "dropout": _layer(lambda: nn.Dropout(0.3)),
    "weight norm": lambda classes: _with_first(classes, parametrizations.weight_norm),
    "the old weight norm": lambda classes: _with_first(classes, nn.utils.weight_norm),
}


def draw(chance: random.Random) -> Callable[[int], nn.Module]:
    """Draw a right network: one of those above, or several of their layers together."""
    if chance.random() < 0.5:
        return RIGHT[chance.choice([*RIGHT])]
    layers = [lambda: nn.BatchNorm2d(HIDDEN), lambda: nn.BatchNorm2d(HIDDEN, momentum=None),
              lambda: nn.InstanceNorm2d(HIDDEN, track_running_stats=True), lambda: nn.GroupNorm(2, HIDDEN),
              lambda: nn.BatchNorm2d(HIDDEN, affine=False), lambda: nn.Dropout2d(0.2), lambda: nn.Dropout(0.5),
              lambda: nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1), nn.PReLU, lambda: nn.LocalResponseNorm(2)]
    parts = [chance.choice(layers) for _ in range(chance.randrange(1, 4))]
    kind = chance.choice([Own, Position, PositionSaved, Tied, PartlyFrozen, Scalar])
    return lambda classes: kind(classes, nn.Sequential(*(part() for part in parts)))
