"""The scenes that are shown, and pictures of them: panels and contact sheets.

They are made without matplotlib. Panels are made during training, while other ranks wait, and there may be a contact
sheet for each of a thousand cars. PIL is imported when a picture is made, because no rank needs it before.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedsim.classes import ClassTable
from fedsim.data.scene_set import SceneSet, Source
from fedsim.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN_SCENES = 4  # scenes of a split, evenly spread: the columns of a panel

TILE_WIDTH = 320  # pixels, at most: wide enough to judge a street, small enough for an event file
GAP = 4  # white pixels between tiles
SHEET_COLUMNS, SHEET_ROWS = 6, 3  # scenes on a contact sheet, each a picture over its label
LABEL_GAP, SCENE_GAP = 1, 6  # white pixels on a contact sheet: between picture and label, between scenes


Pictures = Sequence[np.ndarray]


class Shown(NamedTuple):
    """The scenes that panels and figures show: always the same ones of a split."""

    names: list[str]
    images: list[np.ndarray]  # (h, w, 3) uint8 RGB each
    labels: list[np.ndarray]  # (h, w) uint8 class index or VOID each


def shown_indices(scenes: SceneSet) -> np.ndarray:
    """Return the indices of the shown scenes, (K,) int64."""
    return np.unique(np.linspace(0, len(scenes) - 1, SHOWN_SCENES).astype(np.int64))


def load_shown(scenes: SceneSet, source: Source, split: str) -> Shown:
    """Load the shown scenes of a split, with pictures of the data set's own size, not of the network's.

    scenes: that split, from that source.
    """
    names, images, labels = [], [], []
    for index in shown_indices(scenes):
        names.append(scenes.names[index])
        images.append(read_own_picture(scenes, source, split, index))
        labels.append(np.array(scenes.labels[index]))
    return Shown(names, images, labels)


def read_own_picture(scenes: SceneSet, source: Source, split: str, index: int) -> np.ndarray:
    """Return the picture of a scene at the data set's own size, else the cached one: (h, w, 3) uint8."""
    try:
        image = source.picture(split, scenes.names[index])
        if image.shape[:2] == scenes.labels[index].shape:
            return image
    except DataError:  # its file has gone since it was read into the cache: no reason to end a run
        pass
    return scenes.images[index].transpose(1, 2, 0)


def panel(images: Pictures, labels: Pictures, predictions: Pictures, classes: ClassTable) -> np.ndarray:
    """Compose three rows of scenes, truth and predictions, with a column for each scene.

    images: K of (h, w, 3) uint8 RGB; labels, predictions: K of (h, w) uint8 class index or VOID. All may have different
    heights and widths: a tile has the first label's size, scaled down to 320 pixels width at most.
    Returns (H, W, 3) uint8 RGB, H = 3 tiles + 2 gaps, W = K tiles + K-1 gaps.
    """
    rows = tiles(images, labels, predictions, classes)
    count, height, width = rows.shape[1:4]
    canvas = np.full((3 * (height + GAP) - GAP, count * (width + GAP) - GAP, 3), 255, np.uint8)
    for row in range(3):
        for column in range(count):
            top, left = row * (height + GAP), column * (width + GAP)
            canvas[top : top + height, left : left + width] = rows[row, column]
    return canvas


def tiles(images: Pictures, labels: Pictures, predictions: Pictures, classes: ClassTable) -> np.ndarray:
    """Return scenes, truth and predictions scaled to one size: (3, K, height, width, 3) uint8 RGB."""
    from PIL import Image

    height, width = labels[0].shape
    if width > TILE_WIDTH:
        height, width = max(1, round(height * TILE_WIDTH / width)), TILE_WIDTH
    rows = (
        (images, Image.Resampling.BILINEAR),
        # Nearest, because a colour between those of two classes stands for no class.
        (map(classes.paint, labels), Image.Resampling.NEAREST),
        (map(classes.paint, predictions), Image.Resampling.NEAREST),
    )
    return np.stack([
        np.stack([np.asarray(Image.fromarray(picture).resize((width, height), how)) for picture in row])
        for row, how in rows
    ])


def contact_sheet(scenes: SceneSet, source: Source, indices: np.ndarray) -> "Image":
    """Compose rows of pictures, each over a row of labels, from up to 18 of the training scenes `indices`.

    Only the pictures that are shown are read, at the data set's own size.
    The scenes are evenly spread over `indices` and keep their order.
    """
    from PIL.Image import fromarray

    shown = indices[np.unique(np.linspace(0, len(indices) - 1, SHEET_COLUMNS * SHEET_ROWS).astype(np.int64))]
    images, labels = zip(*((read_own_picture(scenes, source, "train", index), scenes.labels[index]) for index in shown),
                         strict=True)
    pictures, truth, _ = tiles(images, labels, labels, scenes.classes)
    height, width = pictures.shape[1:3]
    columns, rows = min(SHEET_COLUMNS, len(shown)), -(-len(shown) // SHEET_COLUMNS)
    step = 2 * height + LABEL_GAP + SCENE_GAP
    canvas = np.full((rows * step - SCENE_GAP, columns * (width + SCENE_GAP) - SCENE_GAP, 3), 255, np.uint8)
    for index, (picture, label) in enumerate(zip(pictures, truth, strict=True)):
        row, column = divmod(index, SHEET_COLUMNS)
        top, left = row * step, column * (width + SCENE_GAP)
        canvas[top:top + height, left:left + width] = picture
        canvas[top + height + LABEL_GAP:top + 2 * height + LABEL_GAP, left:left + width] = label
    return fromarray(canvas)
