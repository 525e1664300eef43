"""fedsim data inspect: show what each car would have, before training."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedsim.cli.command import PATH, Command, ThemedOption
from fedsim.cli.options import read_options, setting_options
from fedsim.errors import DataError
from fedsim.record.output_folder import make_output_folder
from fedsim.settings import compatible
from fedsim.system.console import LOG

if TYPE_CHECKING:
    from fedsim.data.scene_set import Source

LISTED = 20  # faults of a kind that are listed
NAMES = ("data", "data_root", "classes", "image_size", "cars", "partition", "alpha", "hold_out_drive",
         "own_test", "eval_split", "seed")


def _inspect(out: str | None, **values: Any) -> None:
    # Imported late, because the help of this command needs no torch.
    from fedsim.distributed.world import World
    from fedsim.experiment.dealing import cars_of, deal, source_of
    from fedsim.report.inspection import Inspection, write_inspection

    settings = read_options(values).settings
    compatible.check(settings)
    cars = cars_of(settings, ranks=1)
    source = source_of(settings, cars)
    try:
        dealt = deal(settings, source, cars, World.join("cpu"), LOG)
    except DataError:
        _list_faults(source, dict.fromkeys(("train", settings.scored().on_disk)))
        raise
    inspection = Inspection(dealt)
    folder = make_output_folder(out, "inspections", f"{settings.data}-{Path(settings.partition).stem}")
    write_inspection(inspection, folder)


def _list_faults(source: "Source", splits: Iterable[str]) -> None:
    """Read all files again and print all their faults by kind. Raises DataError if there are several."""
    from fedsim.data.datasets.on_disk import OnDisk

    if not isinstance(source, OnDisk):
        return
    faults = {str(fault): fault.kind for split in splits for fault in source.faults(split)}
    if len(faults) < 2:
        return
    for kind in sorted(set(faults.values())):
        sentences = [sentence for sentence, its_kind in faults.items() if its_kind == kind]
        more = [f"… and {len(sentences) - LISTED} more"] if len(sentences) > LISTED else []
        print("\n  ".join([f"{kind} ({len(sentences)}):", *sentences[:LISTED], *more]))
    raise DataError(f"{source.root} has {len(faults)} faults, listed above by kind; mend them, and look again")


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
