"""fedsim models: list the networks to choose from, with what they cost here and now."""

from collections.abc import Mapping

import click
import torch

from fedsim.cli.command import Command
from fedsim.cli.options import read_table
from fedsim.errors import SettingsError
from fedsim.experiment.assembly import make_module
from fedsim.experiment.network_trial import check_network
from fedsim.models import MODELS, TORCHVISION
from fedsim.models.costs import measure_costs
from fedsim.report.tables import Table, print_block, print_tables
from fedsim.report.words import format_bytes
from fedsim.settings.conversion import read_size
from fedsim.settings.fields import MOST_THREADS, Settings

SIZE = "480x360"  # of CamVid's pictures as they are published for segmentation
CLASSES = 11
BYTES = 4  # of a number that is sent


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--image-size", default=SIZE, metavar="WIDTHxHEIGHT",
              help=f"Size of the pictures that the network sees, in pixels.  [default: {SIZE}]")
@click.option("--model-option", multiple=True, metavar="NAME=VALUE",
              help="Argument of the one network that is named, one of torchvision or of your own; may be given several "
                   "times.")
@click.option("--threads", type=click.IntRange(1, MOST_THREADS), default=1, metavar="N",
              help="CPU threads.  [default: 1]")
def models(names: tuple[str, ...], image_size: str, model_option: tuple[str, ...], threads: int) -> None:
    """List the networks: parameters, arithmetic, traffic, and time for a picture.

    NAME is a network as --model takes it, also one of torchvision (torchvision:NAME) or of your own (MODULE:NAME).
    Without names, all networks of fedsim are listed. The time is measured when you ask, on the CPU.
    """
    size = read_size("image_size", image_size)
    assert size is not None
    options = read_table("model_option", model_option)
    if options and len(names) != 1:
        raise SettingsError(f"--model-option belongs to one network, and {len(names) or 'not one'} is named: name one")
    torch.set_num_threads(threads)
    rows = [_row(name, options, size) for name in names or MODELS]
    print_tables([Table(f"Networks for pictures of {image_size} pixels and {CLASSES} classes",
                        ["--model", "parameters", "GFLOP a picture", "sent in a round", "ms to see a picture",
                         "ms to train on it"], rows)])
    print_block("Notes", [
        "GFLOP: operations for the logits of a picture; a multiplication and an addition count as two.",
        "Sent in a round: by a car to the coordinator with FedAvg; it receives as much.",
        f"Times: medians on the CPU with {threads} thread{'s' if threads > 1 else ''}, measured now; training is "
        "forward and backward in batches of two.",
        f"--model also takes {TORCHVISION}NAME, and networks of libraries and of your own as MODULE:NAME."])


def _row(name: str, options: Mapping[str, str], size: tuple[int, int]) -> list[str]:
    settings = Settings(model=name, model_option=options)
    network = check_network(name, lambda: make_module(settings, CLASSES, size), CLASSES, size, torch.device("cpu"))
    costs = measure_costs(network, CLASSES, size)
    return [name, f"{costs.parameters:,}", f"{costs.flops / 1e9:.2f}", format_bytes(BYTES * costs.parameters),
            f"{1e3 * costs.seeing:.0f}", f"{1e3 * costs.training:.0f}"]
