"""fedsim export: write a trained model as a file that runs without fedsim."""

from pathlib import Path

import click

from fedsim.cli.command import Command
from fedsim.inference.export import FORMATS, SAMPLES
from fedsim.inference.export import export as write
from fedsim.inference.segmenter import Segmenter
from fedsim.report.tables import Table, print_block, print_tables


@click.command(cls=Command)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(list(FORMATS)), default="onnx",
              help="onnx needs the packages onnx, onnxscript and onnxruntime; torch is a program of torch.export.  "
                   "[default: onnx]")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE",
              help="The file to write, .onnx or .pt2; it must not exist yet.")
def export(model: Path, kind: str, out: Path) -> None:
    """Write a trained model as a file that runs without fedsim, and check it.

    MODEL is a run's directory or a .safetensors file of one. The file takes pictures as bytes and gives logits, at the
    size that the network sees; it has the model card in it. It is read again and must label sample scenes like the
    model itself.
    """
    segmenter = Segmenter.load(model)
    card, equal = write(segmenter, kind, out)
    width, height = segmenter.card.input_size
    rows = [["network", f"{segmenter.card.model}, trained by {segmenter.card.algo}"],
            ["pictures", f"uint8 (N, 3, {height}, {width}), RGB"],
            ["logits", f"float32 (N, {len(segmenter.classes)}, {height}, {width})"],
            ["classes", ", ".join(segmenter.classes.names)],
            ["model card", ", ".join(card)],
            ["checked", f"{equal:.2%} of the pixels of {SAMPLES} scenes have the model's own label"]]
    print_tables([Table(str(out), ["", kind], rows)])
    print_block("Written", [out])
