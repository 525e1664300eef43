"""Measure what `fedsim predict` costs beyond the network itself, as ratios within one process.

    python benchmarks/predict.py [--pairs 7] [--pictures DIR] [--threads 1]

The command's own code reads pictures of 480x360, segments them, and writes them as overlay, colours and indices. It
is compared with the bare network (forward, upsampling to 480x360, argmax) on the same pictures, which are in memory
already, in batches of the same size, as a run is scored. Both use --threads threads for the network. They alternate,
and each pair gives a ratio of wall time. Reading and writing need another core: the machine should have one core more
than --threads, and run nothing else.

1. segnet-small at 120x90 on 100 pictures    2. segnet-basic at 480x360, its paper's size, on 12
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fedsim.classes import CAMVID_11
from fedsim.cli.predict import find, segment
from fedsim.data.datasets.picture_files import pictures, read_picture
from fedsim.data.datasets.streets import draw_scene
from fedsim.data.datasets.streets.drives import drives_of
from fedsim.data.pixels import resize_picture
from fedsim.data.scene_set import LabelMaps, SceneSet
from fedsim.evaluation.evaluate import BATCH
from fedsim.evaluation.evaluate import segment as label_scenes
from fedsim.inference.predictions import Predictions
from fedsim.inference.segmenter import CPU, Segmenter
from fedsim.models.card import ModelCard
from fedsim.models.flat import FlatModel

SIZE = (480, 360)  # (width, height) of the pictures
CASES = (("segnet-small", (120, 90), 100), ("segnet-basic", SIZE, 12))  # model, size of its input, number of pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of runs, at least 1 (default 7)")
    parser.add_argument("--pictures", type=Path, help="folder of 480x360 pictures (default: drawn streets)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network (default 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as place:
        folder = options.pictures or draw(Path(place) / "pictures")
        for number, (model, size, count) in enumerate(CASES, 1):
            segmenter = network(model, size)
            flat = FlatModel(segmenter.module, CPU)
            scenes = in_memory(pictures(folder)[:count], size)
            ratios = []
            for pair in range(-1, options.pairs):  # pair -1 warms up
                ours = command(segmenter, pictures(folder)[:count], Path(place) / f"{number}-{pair}")
                ratios.append(ours / bare(flat, scenes))
            print(f"{number}. command / bare network, {model} at {size[0]}x{size[1]}, {len(scenes)} pictures, "
                  f"{options.threads} thread(s): median {statistics.median(ratios[1:]):.3f}   min {min(ratios[1:]):.3f}"
                  f"   max {max(ratios[1:]):.3f}")


def network(model: str, size: tuple[int, int]) -> Segmenter:
    """Make an untrained network, which takes as long as a trained one."""
    card = ModelCard(model, None, "batch", size, CAMVID_11, {})
    module = card.network().eval().to(memory_format=torch.channels_last)
    return Segmenter(module, card, Path(model), CPU)


def draw(folder: Path) -> Path:
    """Draw a hundred streets as PNG files."""
    folder.mkdir()
    drives = drives_of("val", 1)
    for number in range(100):
        image = draw_scene(drives[number % len(drives)], number // len(drives)).image
        Image.fromarray(resize_picture(image, SIZE)).save(folder / f"{number}.png")
    return folder


def in_memory(paths: list[Path], size: tuple[int, int]) -> SceneSet:
    """Read pictures into memory, with labels of zeros."""
    images = np.stack([resize_picture(read_picture(path), size).transpose(2, 0, 1) for path in paths])
    labels = LabelMaps.of([np.zeros((SIZE[1], SIZE[0]), np.uint8)] * len(paths))
    names = tuple(path.stem for path in paths)
    return SceneSet(images, labels, np.zeros((len(paths), 11), np.int64), names, names, (None,) * len(paths), CAMVID_11,
                    "")


def command(segmenter: Segmenter, paths: list[Path], out: Path) -> float:
    """Return the seconds from pictures as files to labels as files."""
    started = time.perf_counter()
    segment(segmenter, find(paths), Predictions(out, CAMVID_11, 0.5), BATCH, lambda: None)
    return time.perf_counter() - started


def bare(model: FlatModel, scenes: SceneSet) -> float:
    """Return the seconds from pictures in memory to labels in memory."""
    started = time.perf_counter()
    for start in range(0, len(scenes), BATCH):
        label_scenes(model, scenes, np.arange(start, min(start + BATCH, len(scenes))))
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
