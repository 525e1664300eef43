"""fedsim export: write a trained model as a file that runs without fedsim."""

from pathlib import Path

import click

from fedsim.cli.command import PATH, Command, trust_option
from fedsim.inference.export import FORMATS, INPUT, LABELS, LOGITS, SAMPLES
from fedsim.inference.export import export as write
from fedsim.inference.segmenter import Segmenter
from fedsim.report.tables import Table, print_block, print_tables


@click.command(cls=Command)
@click.argument("model", type=PATH)
@click.option("--format", "kind", type=click.Choice(list(FORMATS)), default="onnx",
              help="onnx needs the packages onnx, onnxscript and onnxruntime; torch is a program of torch.export.  "
                   "[default: onnx]")
@click.option("--out", type=PATH, required=True, metavar="FILE",
              help="The file to write, .onnx or .pt2; it must not exist yet.")
@click.option("--with-resize", is_flag=True,
              help="Take pictures of any size, and give labels of the same size instead of logits.")
@trust_option()
def export(model: str, kind: str, out: str, with_resize: bool, trust: tuple[str, ...]) -> None:
    """Write a trained model as a file that runs without fedsim, and check it.

    MODEL is a run's directory or a .safetensors file of one. The file takes pictures as bytes and gives logits, at the
    size that the network sees; with --with-resize it takes pictures of any size and gives their labels. It has the
    model card in it. It is read again and must label sample scenes like the model itself.
    """
    segmenter = Segmenter.load(Path(model), trust=trust)
    card, equal = write(segmenter, kind, Path(out), with_resize)
    width, height = segmenter.card.input_size
    rows = [["network", f"{segmenter.card.model}, trained by {segmenter.card.algo}"],
            ["input", f"{width}x{height} pixels"],
            *([name, card[name]] for name in (INPUT, LABELS if with_resize else LOGITS)),
            ["classes", ", ".join(segmenter.classes.names)],
            ["model card", ", ".join(card)],
            ["checked", f"{equal:.2%} of the pixels of {SAMPLES} scenes have the model's own label"]]
    print_tables([Table(str(out), ["", kind], rows)])
    print_block("Written", [out])
