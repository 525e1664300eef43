"""Fast-SCNN: a shallow beginning, then a deep branch of cheap convolutions at 1/32, and the sum of both at 1/8.

Poudel, Liwicki & Cipolla 2019, "Fast-SCNN: Fast Semantic Segmentation Network" (arXiv:1902.04502), §3 and table 1. A
convolution and two separable ones lead down to 1/8 (learning to downsample). Nine inverted residuals lead on to 1/32,
where pyramid pooling adds context. These deep features are upsampled by 4 and added to those at 1/8. Two separable
convolutions and the classifier follow. One thing differs: the convolutions of pyramid pooling have no BatchNorm,
because its statistics of one pixel a picture would mean nothing in a batch of two.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsim.models.layers import check_deep_enough, convolution, scale_channels, separable
from fedsim.models.outputs import Outputs, upsample

EXPANSION = 6  # table 1, t: of the channels inside an inverted residual
REPEATED = 3  # table 1, n: inverted residuals in each of the three groups
BINS = (1, 2, 3, 6)  # pixels a side of the averages of pyramid pooling (Zhao et al. 2017, arXiv:1612.01105, §3.2)
DILATION = 4  # of the convolution after upsampling by 4 (table 3)
DROPOUT = 0.1  # of what the classifier sees (§4.1, without a figure)


@dataclass(frozen=True)
class FastSCNNLayout:
    """The widths of a Fast-SCNN, in channels (table 1)."""

    first: tuple[int, int, int]  # at 1/2, 1/4 and 1/8
    deep: tuple[int, int, int]  # of the groups of inverted residuals, at 1/16, 1/32 and 1/32
    fused: int

    def scaled(self, width: int) -> "FastSCNNLayout":
        """Return the same network with `width` channels at 1/2, and all others in proportion."""
        scale = scale_channels(width, self.first[0])
        one, two, three = map(scale, self.deep)
        return FastSCNNLayout((width, scale(self.first[1]), scale(self.first[2])), (one, two, three),
                              scale(self.fused))

    def check_image_size(self, image_size: tuple[int, int]) -> None:
        """Raise SettingsError if (width, height) in pixels is less than one pixel of the deepest stage."""
        check_deep_enough(image_size)

    def build(self, classes: int) -> "FastSCNN":
        """Build the network with fresh weights."""
        return FastSCNN(self, classes)


class FastSCNN(nn.Module):
    """The network: images (B, 3, H, W) float -> logits (B, classes, H, W).

    In training also logits of both branches before the fusion, for deep supervision (§4.1).
    """

    def __init__(self, layout: FastSCNNLayout, classes: int) -> None:
        super().__init__()
        half, quarter, eighth = layout.first
        fused = layout.fused
        self.downsample = nn.Sequential(convolution(3, half, stride=2), separable(half, quarter, stride=2),
                                        separable(quarter, eighth, stride=2))
        residuals: list[nn.Module] = []
        channels = eighth
        for out, stride in zip(layout.deep, (2, 2, 1), strict=True):
            for step in range(REPEATED):
                residuals.append(InvertedResidual(channels, out, stride if step == 0 else 1))
                channels = out
        self.deep = nn.Sequential(*residuals)
        self.pooling = PyramidPooling(channels)
        self.shallow_to_fused = convolution(eighth, fused, kernel=1, relu=False)
        self.deep_to_fused = nn.Sequential(convolution(channels, channels, dilation=DILATION, groups=channels),
                                           convolution(channels, fused, kernel=1, relu=False))
        self.head = nn.Sequential(separable(fused, fused), separable(fused, fused))
        self.classifier = nn.Sequential(nn.Dropout(DROPOUT), nn.Conv2d(fused, classes, 1))
        self.auxiliary = nn.ModuleList(nn.Sequential(convolution(width, half), nn.Conv2d(half, classes, 1))
                                       for width in (eighth, channels))

    def forward(self, images: Tensor) -> Tensor | Outputs:
        shallow = self.downsample(images)
        deep = self.pooling(self.deep(shallow))
        raised = self.deep_to_fused(upsample(deep, shallow.shape[2:]))
        fused = self.head(F.relu(self.shallow_to_fused(shallow) + raised))
        logits = upsample(self.classifier(fused), images.shape[2:])
        if not self.training:
            return logits
        return Outputs(logits, tuple(head(x) for head, x in zip(self.auxiliary, (shallow, deep), strict=True)))


class InvertedResidual(nn.Module):
    """More channels by 1x1, a filter for each of them, and fewer by 1x1 (table 2; Sandler et al. 2018, §3.3)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        wide = EXPANSION * channels
        self.body = nn.Sequential(convolution(channels, wide, kernel=1),
                                  convolution(wide, wide, stride=stride, groups=wide),
                                  convolution(wide, out, kernel=1, relu=False))
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


class PyramidPooling(nn.Module):
    """Averages over 1, 4, 9 and 36 parts of the picture beside the features themselves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        part = max(1, channels // len(BINS))
        self.parts = nn.ModuleList(nn.Sequential(nn.Conv2d(channels, part, 1), nn.ReLU(inplace=True)) for _ in BINS)
        self.merge = convolution(channels + part * len(BINS), channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        pooled = [upsample(part(F.adaptive_avg_pool2d(x, bins)), size)
                  for part, bins in zip(self.parts, BINS, strict=True)]
        return self.merge(torch.cat([x, *pooled], 1))


FAST_SCNNS = {"fast-scnn": FastSCNNLayout(first=(32, 48, 64), deep=(64, 96, 128), fused=128)}
