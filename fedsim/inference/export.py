"""Export a trained network as a graph that runs without fedsim.

    pictures  uint8 (N, 3, H, W), RGB, any N                                       input
    logits    float32 (N, C, H, W); a pixel's class is that of the largest         output
    labels    uint8 (N, H, W), class indices; instead of logits, with resizing     output

Standardisation is part of the graph. H and W are the network's own; a graph with resizing takes pictures of any size,
and gives labels of the same size. Every file holds the model card: ONNX as metadata, PyTorch's as card.json. A file
gets its name only after its labels were compared with those of the network itself.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsim.data.datasets.streets import draw_scene
from fedsim.data.datasets.streets.drives import drives_of
from fedsim.data.pixels import resize_picture, standardise
from fedsim.errors import FedsimError, MachineError, OutputError, RunError
from fedsim.evaluation.views import PLAIN
from fedsim.inference.resizing import resize
from fedsim.inference.segmenter import Segmenter
from fedsim.system.files import replacing

INPUT, LOGITS, LABELS = "pictures", "logits", "labels"
SAMPLES = 4  # scenes on which an exported network is checked
LEAST_EQUAL = 0.999  # share of their pixels that must get the same label as by the network itself
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Run = Callable[[np.ndarray], np.ndarray]  # pictures -> logits or labels


class Format(NamedTuple):
    """A file format. `write` takes the path, the graph, sample pictures and the card; `read` takes the path."""

    ending: str
    write: Callable[[Path, "Graph", Tensor, Mapping[str, str]], None]
    read: Callable[[Path], Run]
    packages: tuple[str, ...]  # packages that fedsim itself does not need


class Exported(NamedTuple):
    """The card in an exported file, and how well its labels agree."""

    card: dict[str, str]
    equal: float  # share of the samples' pixels that get the same label as by the network itself


class Graph(nn.Module):
    """A network that takes uint8 pictures of its own size, standardises them, and gives logits."""

    output = LOGITS
    free: ClassVar[dict[int, str]] = {0: "N"}  # the axes of pictures that may have any length

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.module, self.width, self.height = segmenter.module, *segmenter.card.input_size

    def describe(self) -> dict[str, str]:
        """Return what input and output are, for people."""
        return {INPUT: "uint8 (N, 3, height, width), RGB, shrunk by BOX; standardised in the graph",
                LOGITS: "float32 (N, classes, height, width); a pixel's class is that of the largest"}

    def forward(self, pictures: Tensor) -> Tensor:
        return self.module(standardise(pictures))

    def labels_of(self, found: np.ndarray) -> np.ndarray:
        """Return the labels (N, H, W) that are meant by what the graph has returned."""
        return found.argmax(1)


class ResizingGraph(Graph):
    """A network that takes uint8 pictures of any size, and gives labels of the same size."""

    output = LABELS
    free: ClassVar = {0: "N", 2: "H", 3: "W"}

    def describe(self) -> dict[str, str]:
        return {INPUT: "uint8 (N, 3, H, W), RGB, of any size; resized and standardised in the graph",
                LABELS: "uint8 (N, H, W): class indices, at the size of the pictures"}

    def forward(self, pictures: Tensor) -> Tensor:
        logits = super().forward(resize(pictures, self.height, self.width))
        logits = F.interpolate(logits, pictures.shape[2:], mode="bilinear", align_corners=False)
        return logits.argmax(1).to(torch.uint8)

    def labels_of(self, found: np.ndarray) -> np.ndarray:
        return found


def export(segmenter: Segmenter, kind: str, path: Path, with_resize: bool = False) -> Exported:
    """Write the network as a file of FORMATS[kind], read it again and compare its labels with the segmenter's.

    segmenter: on the CPU. with_resize: pictures may have any size, and the output is labels instead of logits.
    Nothing is overwritten. Raises UserError if something is missing or in the way, RunError if the network cannot be
    written or the file gives other labels.
    """
    form = FORMATS[kind]
    if missing := [package for package in form.packages if find_spec(package) is None]:
        raise MachineError(f"--format {kind} needs {', '.join(missing)}: pip install {' '.join(missing)}")
    if path.suffix != form.ending:
        raise OutputError(f"--out is {path}; a file of --format {kind} ends in {form.ending}")
    if not path.parent.is_dir():
        raise OutputError(f"there is no directory {path.parent} for {path.name}; make it, or choose another with --out")
    if path.exists() or path.is_symlink():
        raise OutputError(f"{path} is already there; choose another file with --out")
    segmenter = replace(segmenter, view=PLAIN)  # a graph sees a picture whole, and once
    graph = (ResizingGraph if with_resize else Graph)(segmenter).eval()
    samples = draw_samples() if with_resize else [sample_pictures(segmenter.card.input_size)]
    card = segmenter.card.metadata() | graph.describe()
    try:
        with replacing(path) as new:
            with _quietly():
                form.write(new, graph, torch.from_numpy(samples[0]), card)
                equal = compare(segmenter, graph, form.read(new), samples)
            if equal < LEAST_EQUAL:
                raise RunError(f"the exported network gives other labels than {segmenter.path} in {1 - equal:.2%} of "
                               f"the pixels of {SAMPLES} scenes, so {path} was not kept; try the other --format")
    except FedsimError:
        raise
    except Exception as error:  # an exporter that cannot express the network, or a full disk
        raise RunError(f"{segmenter.card.model} could not be written as {path}: "
                       f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error
    return Exported(card, equal)


def draw_samples() -> list[np.ndarray]:
    """Draw streets of different drives, as (SAMPLES, 3, H, W) uint8 in two sizes."""
    own = np.stack([draw_scene(drive, 0).image.transpose(2, 0, 1) for drive in drives_of("val", 1)[:SAMPLES]])
    return [own, np.ascontiguousarray(own[:, :, 3:, :-10])]


def sample_pictures(size: tuple[int, int]) -> np.ndarray:
    """Draw streets of different drives as (SAMPLES, 3, H, W) uint8. size: the network's (width, height)."""
    return np.stack([resize_picture(one.transpose(1, 2, 0), size).transpose(2, 0, 1) for one in draw_samples()[0]])


def compare(segmenter: Segmenter, graph: Graph, run: Run, samples: Sequence[np.ndarray]) -> float:
    """Return the share of the samples' pixels that get the same label from both.

    The first picture of each sample runs alone and the others as one batch, because N must be free in the file.
    """
    equal = []
    for pictures in samples:
        found = np.concatenate([graph.labels_of(run(pictures[:1])), graph.labels_of(run(pictures[1:]))])
        seen = np.stack([segmenter.prepare(picture.transpose(1, 2, 0)) for picture in pictures])
        own = np.stack(segmenter.segment(seen, [pictures.shape[2:]] * len(pictures)))
        equal.append((found == own).mean())
    return float(np.mean(equal))


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporters' warnings, which a user can do nothing about."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _write_torch(path: Path, graph: Graph, samples: Tensor, card: Mapping[str, str]) -> None:
    program = torch.export.export(graph, (samples,), dynamic_shapes=_free_axes(graph))
    with open(path, "wb") as file:  # opened here: torch takes only paths that are UTF-8
        torch.export.save(program, file, extra_files={"card.json": json.dumps(card, ensure_ascii=False)})


def _free_axes(graph: Graph) -> dict[str, dict[int, Any]]:
    return {INPUT: {axis: torch.export.Dim(name) for axis, name in graph.free.items()}}


def _read_torch(path: Path) -> Run:
    with open(path, "rb") as file:
        module = torch.export.load(file).module()

    def run(pictures: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found: Tensor = module(torch.from_numpy(pictures))
        return found.numpy()

    return run


def _write_onnx(path: Path, graph: Graph, samples: Tensor, card: Mapping[str, str]) -> None:
    program = torch.onnx.export(graph, (samples,), dynamo=True, dynamic_shapes=_free_axes(graph), input_names=[INPUT],
                                output_names=[graph.output], verbose=False)
    assert program is not None
    program.model.metadata_props.update(card)
    program.save(path, external_data=False)


def _read_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(pictures: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(None, {INPUT: pictures})[0]
        return found

    return run


FORMATS = {"onnx": Format(".onnx", _write_onnx, _read_onnx, ONNX_PACKAGES),
           "torch": Format(".pt2", _write_torch, _read_torch, ())}
