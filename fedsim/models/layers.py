"""The parts that networks share: convolutions with their normalisation, and what a layout does with its widths."""

from collections.abc import Callable

from torch import nn

from fedsim.errors import SettingsError

DEEPEST = 32  # pixels of the picture, a side, for one pixel of the last stage of both networks with two branches


def convolution(channels: int, out: int, kernel: int = 3, stride: int = 1, dilation: int = 1, groups: int = 1,
                relu: bool = True) -> nn.Sequential:
    """Build a convolution without bias, BatchNorm and, if `relu`, a ReLU. Without a stride the size stays."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, dilation * (kernel // 2), dilation, groups, bias=False),
        nn.BatchNorm2d(out)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def separable(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    """Build a depthwise separable convolution: a 3x3 filter for each channel, then a mixture of channels by 1x1."""
    return nn.Sequential(convolution(channels, channels, stride=stride, groups=channels),
                         convolution(channels, out, kernel=1))


def scale_channels(width: int, first: int) -> Callable[[int], int]:
    """Return what scales numbers of channels in proportion, so that `first` channels become `width`, and 1 at least."""
    return lambda channels: max(1, round(channels * width / first))


def check_deep_enough(image_size: tuple[int, int]) -> None:
    """Raise SettingsError if (width, height) in pixels is less than one pixel at 1/DEEPEST."""
    if min(image_size) < DEEPEST:
        raise SettingsError(f"--image-size is {image_size[0]}x{image_size[1]}, but a network that goes down to "
                            f"1/{DEEPEST} needs at least {DEEPEST}x{DEEPEST} pixels: take a larger size or a model of "
                            "fewer stages")
