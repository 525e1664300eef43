"""fedsim data inspect: show what each car would have, before training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from fedsim.cli.command import PATH, Command, ThemedOption
from fedsim.cli.options import read_options, setting_options
from fedsim.record.output_folder import make_output_folder
from fedsim.settings import compatible
from fedsim.system.console import LOG

NAMES = ("data", "data_root", "classes", "image_size", "cars", "partition", "alpha", "eval_split", "seed")


def _inspect(out: str | None, **values: Any) -> None:
    # Imported late, because the help of this command needs no torch.
    from fedsim.distributed.world import World
    from fedsim.experiment.dealing import cars_of, deal, source_of
    from fedsim.report.inspection import Inspection, write_inspection

    settings = read_options(values).settings
    compatible.check(settings)
    cars = cars_of(settings, ranks=1)
    source = source_of(settings, cars)
    if settings.image_size is None:  # people see pictures at the data set's own size
        height, width = next(iter(source.scenes("train"))).label.shape
        settings = replace(settings, image_size=f"{width}x{height}")
    inspection = Inspection(deal(settings, source, cars, World.join("cpu"), LOG))
    folder = make_output_folder(out, "inspections", f"{settings.data}-{Path(settings.partition).stem}")
    write_inspection(inspection, folder)


inspect: click.Command = Command(
    "inspect", callback=_inspect, params=[
        *setting_options(NAMES),
        ThemedOption("--out", theme="Machine", type=PATH, metavar="DIR",
               help="Directory for tables and figures, new or empty. Default: inspections/DATA-PARTITION-TIME.")],
    help="""Show what each car would have, before training.

    For each car: its scenes, its drives, its pixels of each class, and the distance of its classes (Jensen-Shannon, in
    bits) and of its colours (Fréchet, in grey levels) from those of all cars. The command also gives warnings, and
    writes a heat map, a contact sheet for each car, and the partition as a file for --partition. The options are those
    of a run.""")
