"""Views of a picture: what a network is shown of it when it is scored, and how one answer is made of several.

A picture may be shown at several scales and mirrored, and each of these copies whole or in tiles that overlap.

Copies. The answer is the mean of the copies' probabilities. Their logits are first brought to the picture's size, as
they are when a copy is scored by itself. The mean is returned as its logarithm, which is logits again: what follows
(the resizing to the size of the labels, the loss, the largest) is the same for one copy and for several. It is taken at
the size of the network's input, and not of the labels, which may be many times larger.

Tiles. The answer for a pixel is the mean of the logits of the tiles that show it. A tile's weight falls to its edge, as
a network knows least there: it does not see what is beyond. So an answer changes gradually from tile to tile, without
a seam. At least a quarter of a tile, in width and in height, is shown by the next one too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OVERLAP = 0.25  # least share of a tile that the next one shows too

Size = tuple[int, int]  # (width, height) in pixels


@dataclass(frozen=True)
class View:
    """The view of a picture that a network is shown."""

    scales: tuple[float, ...] = (1.0,)  # of the copies, at least one
    flip: bool = False  # whether each copy is mirrored as well
    tile: Size | None = None  # the largest part that is shown at a time; None for whole pictures

    @property
    def is_single(self) -> bool:
        """True if the picture is shown as it is, and not in copies."""
        return self.scales == (1.0,) and not self.flip

    def cut(self, pictures: int) -> Iterator[slice]:
        """Yield the pictures of a batch that are shown together: all of it, or one at a time if they are cut in tiles.

        Pictures that need tiles are large, and so is what is known of each of them.
        """
        step = 1 if self.tile else max(pictures, 1)
        for first in range(0, pictures, step):
            yield slice(first, first + step)

    def note(self) -> str | None:
        """Return a sentence on what a network is shown, for readers of scores; None if it is the picture as it is."""
        parts = [f"at {len(self.scales)} scales, {', '.join(f'{scale:g}' for scale in self.scales)}"
                 ] if self.scales != (1.0,) else []
        parts += ["mirrored as well"] if self.flip else []
        parts += [f"in tiles of {self.tile[0]}x{self.tile[1]} pixels"] if self.tile else []
        return f"For scores each picture is shown to the network {'; '.join(parts)}." if parts else None

    def logits(self, module: nn.Module, pictures: Tensor) -> Tensor:
        """Return the logits (B, C, H, W) of pictures (B, 3, H, W) float32, standardised, channels_last.

        module: pictures -> logits (B, C, h, w). A single view of whole pictures returns what the module does.
        """
        if self.is_single:
            return self._show(module, pictures)
        size = pictures.shape[2:]
        total: Tensor | None = None
        for scale in self.scales:
            copy = _resize(pictures, scaled(size, scale))
            found = self._log_probabilities(module, copy, size)
            if self.flip:  # in pairs, so that the mirrored picture has the mirrored answer
                found = torch.logaddexp(found, self._log_probabilities(module, copy.flip(3), size).flip(3))
            total = found if total is None else torch.logaddexp(total, found)
        assert total is not None, "no copy at all"
        return total - math.log(len(self.scales) * (1 + self.flip))

    def sizes(self, size: Size) -> list[Size]:
        """Return the sizes of all that a network is shown of a picture of a size, each once."""
        copies = [scaled(size, scale) for scale in self.scales]
        return list(dict.fromkeys(copies if self.tile is None else [
            (min(width, self.tile[0]), min(height, self.tile[1])) for width, height in copies]))

    def _log_probabilities(self, module: nn.Module, copy: Tensor, size: torch.Size) -> Tensor:
        return F.log_softmax(_resize(self._show(module, copy), size), dim=1)

    def _show(self, module: nn.Module, pictures: Tensor) -> Tensor:
        """Return the logits of pictures, which are shown whole or in tiles."""
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        height, width = pictures.shape[2:]
        if self.tile is None or (width <= self.tile[0] and height <= self.tile[1]):
            return module(pictures)
        total, weights = pictures.new_zeros(0), pictures.new_zeros(height, width)
        for rows, columns in _tiles((width, height), self.tile):
            part = pictures[:, :, rows, columns]
            found = _resize(module(part.contiguous(memory_format=torch.channels_last)), part.shape[2:])
            if not total.numel():
                total = found.new_zeros(*found.shape[:2], height, width)
            weight = _fall(part.shape[2], found)[:, None] * _fall(part.shape[3], found)
            total[:, :, rows, columns].addcmul_(found, weight)
            weights[rows, columns] += weight
        return total.div_(weights)


PLAIN = View()


def scaled(size: Size | torch.Size, scale: float) -> Size:
    """Return a size, of which both numbers are multiplied by a scale, in whole pixels."""
    first, second = (max(1, round(scale * number)) for number in size)
    return first, second


def _resize(maps: Tensor, size: Size | torch.Size) -> Tensor:
    """Return maps (B, C, h, w) at the size (H, W), the same ones if it is theirs already."""
    if maps.shape[2:] == torch.Size(size):
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def _tiles(size: Size, tile: Size) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of tiles that cover a picture. size, tile: (width, height)."""
    columns, rows = (list(_spans(*one)) for one in zip(size, tile, strict=True))
    for down in rows:
        for across in columns:
            yield down, across


def _spans(length: int, span: int) -> Iterator[slice]:
    """Yield spans that cover a length evenly, each of which shares at least OVERLAP of itself with the next."""
    span = min(span, length)
    step = max(1, math.floor(span * (1 - OVERLAP)))
    count = 1 + math.ceil((length - span) / step)
    for number in range(count):
        start = (length - span) * number // max(count - 1, 1)
        yield slice(start, start + span)


def _fall(length: int, like: Tensor) -> Tensor:
    """Return weights (length,) that fall linearly from the middle to both ends, where they are above 0."""
    places = torch.arange(1, length + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(places, length + 1 - places) / length
