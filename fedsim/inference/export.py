"""Export a trained network as a graph that runs without fedsim.

    pictures  uint8 (N, 3, H, W), RGB, H and W the network's own; any N      input
    logits    float32 (N, C, H, W); a pixel's class is that of the largest   output

Standardisation is part of the graph. Every file holds the model card: ONNX as metadata, PyTorch's as card.json. A file
gets its name only after its labels were compared with those of the network itself.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fedsim.data.datasets.streets import draw_scene
from fedsim.data.datasets.streets.drives import drives_of
from fedsim.data.pixels import resize_picture, standardise
from fedsim.errors import FedsimError, MachineError, OutputError, RunError
from fedsim.inference.segmenter import Segmenter
from fedsim.system.files import replacing

INPUT, OUTPUT = "pictures", "logits"
SAMPLES = 4  # scenes on which an exported network is checked
LEAST_EQUAL = 0.999  # share of their pixels that must get the same label as by the network itself
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Run = Callable[[np.ndarray], np.ndarray]  # pictures -> logits


class Format(NamedTuple):
    """A file format. `write` takes the path, the graph, sample pictures and the card; `read` takes the path."""

    ending: str
    write: Callable[[Path, nn.Module, Tensor, Mapping[str, str]], None]
    read: Callable[[Path], Run]
    packages: tuple[str, ...]  # packages that fedsim itself does not need


class Exported(NamedTuple):
    """The card in an exported file, and how well its labels agree."""

    card: dict[str, str]
    equal: float  # share of the samples' pixels that get the same label as by the network itself


class _FromPictures(nn.Module):
    """A network that takes uint8 pictures and standardises them first."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, pictures: Tensor) -> Tensor:
        return self.module(standardise(pictures))


def export(segmenter: Segmenter, kind: str, path: Path) -> Exported:
    """Write the network as a file of FORMATS[kind], read it again and compare its labels with the segmenter's.

    segmenter: on the CPU. Nothing is overwritten. Raises UserError if something is missing or in the way, RunError if
    the network cannot be written or the file gives other labels.
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
    samples = sample_pictures(segmenter.card.input_size)
    card = segmenter.card.metadata() | {
        INPUT: "uint8 (N, 3, height, width), RGB; standardised in the graph",
        OUTPUT: "float32 (N, classes, height, width); a pixel's class is that of the largest"}
    try:
        with replacing(path) as new:
            with _quietly():
                form.write(new, _FromPictures(segmenter.module).eval(), torch.from_numpy(samples), card)
                equal = equal_share(segmenter, form.read(new), samples)
            if equal < LEAST_EQUAL:
                raise RunError(f"the exported network gives other labels than {segmenter.path} in {1 - equal:.2%} of "
                               f"the pixels of {SAMPLES} scenes, so {path} was not kept; try the other --format")
    except FedsimError:
        raise
    except Exception as error:  # an exporter that cannot express the network, or a full disk
        raise RunError(f"{segmenter.card.model} could not be written as {path}: "
                       f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error
    return Exported(card, equal)


def sample_pictures(size: tuple[int, int]) -> np.ndarray:
    """Draw streets of different drives as (SAMPLES, 3, H, W) uint8. size: the network's (width, height)."""
    drives = drives_of("val", 1)[:SAMPLES]
    return np.stack([resize_picture(draw_scene(drive, 0).image, size).transpose(2, 0, 1) for drive in drives])


def equal_share(segmenter: Segmenter, run: Run, samples: np.ndarray) -> float:
    """Return the share of the samples' pixels that get the same label from both.

    The first picture runs alone and the others as one batch, because N must be free in the file.
    """
    found = np.concatenate([run(samples[:1]), run(samples[1:])]).argmax(1)
    size = (samples.shape[2], samples.shape[3])
    return float((found == np.stack(segmenter.segment(samples, [size] * len(samples)))).mean())


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


def _write_torch(path: Path, graph: nn.Module, samples: Tensor, card: Mapping[str, str]) -> None:
    program = torch.export.export(graph, (samples,), dynamic_shapes={INPUT: {0: torch.export.Dim("pictures")}})
    torch.export.save(program, path, extra_files={"card.json": json.dumps(card, ensure_ascii=False)})


def _read_torch(path: Path) -> Run:
    module = torch.export.load(path).module()

    def run(pictures: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits: Tensor = module(torch.from_numpy(pictures))
        return logits.numpy()

    return run


def _write_onnx(path: Path, graph: nn.Module, samples: Tensor, card: Mapping[str, str]) -> None:
    program = torch.onnx.export(graph, (samples,), dynamo=True, dynamic_shapes={INPUT: {0: torch.export.Dim("N")}},
                                input_names=[INPUT], output_names=[OUTPUT], verbose=False)
    assert program is not None
    program.model.metadata_props.update(card)
    program.save(path, external_data=False)


def _read_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(pictures: np.ndarray) -> np.ndarray:
        logits: np.ndarray = session.run([OUTPUT], {INPUT: pictures})[0]
        return logits

    return run


FORMATS = {"onnx": Format(".onnx", _write_onnx, _read_onnx, ONNX_PACKAGES),
           "torch": Format(".pt2", _write_torch, _read_torch, ())}
