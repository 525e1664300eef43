"""SegNet: a decoder that unpools with the encoder's max-pooling indices.

Badrinarayanan, Kendall & Cipolla 2017, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image
Segmentation" (arXiv:1511.00561), §3 and figure 3. One class builds every variant from a `Layout`.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsim.errors import SettingsError
from fedsim.models.layers import scale_channels

POOL = 2  # pixels a side, and the stride: windows do not overlap, so unpooling writes each pixel at most once


@dataclass(frozen=True)
class Layout:
    """The structure of a SegNet. A stage is given by the output channels of its convolutions.

    The decoder's stages are listed from the deepest up. A decoder stage starts with the channels of the encoder stage
    whose indices it unpools with, so the stage below must end with the same number of channels.
    """

    encoder: tuple[tuple[int, ...], ...]
    decoder: tuple[tuple[int, ...], ...]
    kernel: int  # pixels a side, odd, of every convolution but the classifier
    classifier_kernel: int  # pixels a side, odd
    decoder_relu: bool

    def scaled(self, width: int) -> "Layout":
        """Return the same network with `width` channels after the first stage, and all others in proportion."""
        first = self.encoder[0][0]

        def scale(stages: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
            return tuple(tuple(map(scale_channels(width, first), stage)) for stage in stages)

        return Layout(scale(self.encoder), scale(self.decoder), self.kernel, self.classifier_kernel,
                      self.decoder_relu)

    def check_image_size(self, image_size: tuple[int, int]) -> None:
        """Raise SettingsError if (width, height) in pixels leaves a stage nothing to pool."""
        smallest = POOL ** len(self.encoder)
        if min(image_size) < smallest:
            raise SettingsError(
                f"--image-size is {image_size[0]}x{image_size[1]}, but {len(self.encoder)} stages of pooling "
                f"need at least {smallest}x{smallest} pixels: take a larger size or a model of fewer stages")

    def build(self, classes: int) -> "SegNet":
        """Build the network with fresh weights."""
        return SegNet(self, classes)


SEGNETS = {
    # Four cars train it in a minute on two CPU cores.
    "segnet-small": Layout(
        encoder=((24,), (48,), (96,)),
        decoder=((48,), (24,), (24,)),
        kernel=3, classifier_kernel=1, decoder_relu=True),
    # SegNet-Basic, §3.1: 7x7 for a wide view with few stages, no non-linearity in the decoder. The paper does not
    # mention biases; its released model has them.
    "segnet-basic": Layout(
        encoder=((64,),) * 4,
        decoder=((64,),) * 4,
        kernel=7, classifier_kernel=1, decoder_relu=False),
    # SegNet, §3: the 13 convolutions of VGG16, and their mirror image, which ends in the classifier.
    "segnet": Layout(
        encoder=((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
        decoder=((512,) * 3, (512, 512, 256), (256, 256, 128), (128, 64), (64,)),
        kernel=3, classifier_kernel=3, decoder_relu=True),
}


class SegNet(nn.Module):
    """The network: images (B, 3, H, W) float -> logits (B, classes, H, W), for H and W of at least POOL^stages."""

    def __init__(self, layout: Layout, classes: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList()
        self.decoder = nn.ModuleList()
        channels = 3
        for stage in layout.encoder:
            self.encoder.append(_stage(channels, stage, layout.kernel, relu=True))
            channels = stage[-1]
        for stage in layout.decoder:
            self.decoder.append(_stage(channels, stage, layout.kernel, relu=layout.decoder_relu))
            channels = stage[-1]
        size = layout.classifier_kernel
        self.classifier = (Pointwise if size == 1 else nn.Conv2d)(channels, classes, size, padding=size // 2)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        pooled: list[tuple[Tensor, torch.Size]] = []  # the positions of the maxima, and the size before pooling
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[-2:]
            x, indices = F.max_pool2d(x, POOL, return_indices=True)
            pooled.append((indices, size))
        for stage in self.decoder:
            indices, size = pooled.pop()
            # The size is given because pooling rounds down: 45 and 44 rows both become 22.
            x = stage(Unpooling.apply(x, indices, size))
        return self.classifier(x)


class Unpooling(torch.autograd.Function):
    """The reverse of pooling, whose gradient keeps the layout of the gradient that it is given.

    PyTorch's own gradient is always laid out channel after channel. Every layer before it would then meet two layouts
    and take longer. `x` and `indices` are (B, C, h, w), the result is (B, C, *size).
    """

    @staticmethod
    def forward(context: Any, x: Tensor, indices: Tensor, size: torch.Size) -> Tensor:
        """Put every number at the place that pooling took it from, and 0 elsewhere."""
        context.save_for_backward(indices)
        # Called directly, because F.max_unpool2d imports sympy to check the size: half a second in every rank.
        return torch.ops.aten.max_unpool2d(x, indices, size)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient at the places that pooling took numbers from."""
        indices, = context.saved_tensors
        batch, channels, height, width = indices.shape
        kept = _channels_behind(gradient).gather(1, _channels_behind(indices))
        return kept.view(batch, height, width, channels).permute(0, 3, 1, 2), None, None


def _channels_behind(maps: Tensor) -> Tensor:
    """Return maps (B, C, H, W) as (B, H * W, C), without a copy if they are channels_last."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution that is quick on large maps, also on one thread of a CPU.

    There PyTorch gives a plain 1x1 convolution of few pictures to a kernel that copies channels_last maps. One with a
    dilation goes to oneDNN. A single pixel has nothing to dilate, so the result is the same but for rounding.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, dilation=2 if x.device.type == "cpu" else 1)


def _stage(channels: int, stage: tuple[int, ...], kernel: int, relu: bool) -> nn.Sequential:
    """Build a stage: a convolution, BatchNorm and, if `relu`, a ReLU for each number of output channels."""
    layers: list[nn.Module] = []
    for out in stage:
        layers += [nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.BatchNorm2d(out)]
        if relu:
            layers.append(nn.ReLU(inplace=True))
        channels = out
    return nn.Sequential(*layers)
