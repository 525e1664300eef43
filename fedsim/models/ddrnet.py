"""DDRNet: one branch stays at 1/8 of the picture's size, another goes down to 1/32, and they exchange features twice.

Hong, Pan, Sun & Jia 2021, "Deep Dual-resolution Networks for Real-time and Accurate Semantic Segmentation of Road
Scenes" (arXiv:2101.06085), §3 and figure 3. The branch at 1/8 keeps places, the deep one sees far. Three things differ
here, because they suit pictures of a few hundred pixels and a CPU: the widths, an average over the whole picture for
context in the place of the pyramid DAPPM, and features at 1/4 that sharpen the last logits.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from fedsim.models.layers import check_deep_enough, convolution, scale_channels
from fedsim.models.outputs import Outputs, upsample


@dataclass(frozen=True)
class DDRLayout:
    """The widths of a DDRNet, in channels."""

    stem: int  # at 1/2 and 1/4
    fine: int  # of the branch at 1/8
    deep: tuple[int, int]  # of the other branch, at 1/16 and at 1/32

    def scaled(self, width: int) -> "DDRLayout":
        """Return the same network with `width` channels in the stem, and all others in proportion."""
        scale = scale_channels(width, self.stem)
        return DDRLayout(width, scale(self.fine), (scale(self.deep[0]), scale(self.deep[1])))

    def check_image_size(self, image_size: tuple[int, int]) -> None:
        """Raise SettingsError if (width, height) in pixels is less than one pixel of the deepest stage."""
        check_deep_enough(image_size)

    def build(self, classes: int) -> "DDRNet":
        """Build the network with fresh weights."""
        return DDRNet(self, classes)


class DDRNet(nn.Module):
    """The network: images (B, 3, H, W) float -> logits (B, classes, H, W).

    In training also logits of the branch at 1/8, before the second exchange, for deep supervision (§3.4).
    """

    def __init__(self, layout: DDRLayout, classes: int) -> None:
        super().__init__()
        stem, fine, (deep, deepest) = layout.stem, layout.fine, layout.deep
        self.stem = nn.Sequential(convolution(3, stem, stride=2), convolution(stem, stem, stride=2),
                                  Residual(stem, stem), Residual(stem, stem))
        self.shared = nn.Sequential(Residual(stem, fine, stride=2), Residual(fine, fine))
        self.fine = nn.ModuleList(nn.Sequential(Residual(fine, fine), Residual(fine, fine)) for _ in range(2))
        self.deep = nn.ModuleList([nn.Sequential(Residual(fine, deep, stride=2), Residual(deep, deep)),
                                   nn.Sequential(Residual(deep, deepest, stride=2), Residual(deepest, deepest))])
        self.down = nn.ModuleList([convolution(fine, deep, stride=2, relu=False),
                                   nn.Sequential(convolution(fine, deep, stride=2),
                                                 convolution(deep, deepest, stride=2, relu=False))])
        self.up = nn.ModuleList(convolution(channels, fine, kernel=1, relu=False) for channels in (deep, deepest))
        self.context = nn.Sequential(nn.Conv2d(deepest, deepest, 1), nn.ReLU(inplace=True))
        self.last = convolution(deepest, fine, kernel=1, relu=False)
        self.head = nn.Sequential(convolution(fine, fine), convolution(fine, stem, kernel=1, relu=False))
        self.skip = convolution(stem, stem, kernel=1, relu=False)
        self.sharpen = convolution(stem, stem)
        self.classifier = nn.Conv2d(stem, classes, 1)
        self.auxiliary = nn.Sequential(convolution(fine, fine), nn.Conv2d(fine, classes, 1))

    def forward(self, images: Tensor) -> Tensor | Outputs:
        quarter = self.stem(images)
        fine = deep = self.shared(quarter)
        exchanged = []
        for keep, sink, up, down in zip(self.fine, self.deep, self.up, self.down, strict=True):
            fine, deep = keep(fine), sink(deep)
            fine, deep = F.relu(fine + upsample(up(deep), fine.shape[2:])), F.relu(deep + down(fine))
            exchanged.append(fine)
        deep = deep + self.context(deep.mean((2, 3), keepdim=True))
        fine = self.head(F.relu(fine + upsample(self.last(deep), fine.shape[2:])))
        fine = self.sharpen(F.relu(upsample(fine, quarter.shape[2:]) + self.skip(quarter)))
        logits = upsample(self.classifier(fine), images.shape[2:])
        return Outputs(logits, (self.auxiliary(exchanged[0]),)) if self.training else logits


class Residual(nn.Module):
    """Two 3x3 convolutions whose result is added to the input (He et al. 2016, arXiv:1512.03385, figure 2)."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(*convolution(channels, out, stride=stride), *convolution(out, out, relu=False))
        same = stride == 1 and channels == out
        self.shortcut = nn.Identity() if same else convolution(channels, out, kernel=1, stride=stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


DDRNETS = {"ddrnet-small": DDRLayout(stem=32, fine=64, deep=(96, 128))}
