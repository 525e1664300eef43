"""fedsim run: train, with as many ranks as fit."""

import dataclasses
from typing import Any

import click

from fedsim.cli.command import Command, ThemedOption, loudness, refuse_torchrun
from fedsim.cli.options import read_options, setting_options
from fedsim.options import as_arguments
from fedsim.settings import registry
from fedsim.settings.fields import Settings

HELP = """Train one segmentation network from many cars that never share their pictures.

Starts the ranks itself: one for each car, but not more than GPUs, or than cores if there is no GPU. Centralised
training has one rank. A setting that is not given is taken from --config, if there is one, and is at its default
otherwise."""


def _run(ranks: int | None, **values: Any) -> int:
    """Train, and return the exit status."""
    if refuse_torchrun("run"):
        return 2
    # Imported late: the help of this command, and a shell that completes its options, need no torch.
    from fedsim.distributed.devices import ranks_that_fit
    from fedsim.distributed.torchrun import start
    from fedsim.experiment.dealing import cars_of
    from fedsim.experiment.resuming import run_to_continue, settings_to_continue
    from fedsim.experiment.run import run as play

    asked = read_options(dict(values))
    earlier = run_to_continue(asked.settings)
    settings = settings_to_continue(earlier, asked.given) if earlier else asked.settings
    if ranks is None:
        cars = cars_of(settings, ranks=1)
        # Central training is one rank's work, which all cores may share.
        pooled = registry.algorithm_class(settings.algo).pooled
        ranks = 1 if pooled else min(cars, ranks_that_fit(settings.device, settings.threads))
    if ranks == 1:
        play(asked.settings, asked.given)
        return 0
    return start(ranks, [*as_arguments(values), *loudness()])


run: click.Command = Command(
    "run", callback=_run, help=HELP, params=[
        *setting_options([setting.name for setting in dataclasses.fields(Settings)]),
        ThemedOption("--ranks", theme="Machine", type=click.IntRange(1), metavar="N",
               help="Ranks to start on this machine. Default: one for each car, but not more than GPUs or, without a "
                    "GPU, than cores divided by --threads; one for centralised training.")])
