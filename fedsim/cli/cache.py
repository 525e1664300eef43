"""fedsim data cache: list the entries of the scene cache, and clear them."""

import time

import click

from fedsim.cli.command import Command
from fedsim.data.cache_entries import Entry, cache_folder, find_entries, remove_entry
from fedsim.errors import SettingsError
from fedsim.report.tables import Table, print_block, print_tables
from fedsim.report.words import ABSENT, format_age, format_bytes
from fedsim.system.console import LOG

SHOWN = 12  # letters of an entry's name: enough to tell entries apart
DAY = 86400  # seconds


@click.command(cls=Command)
@click.argument("entries", nargs=-1, metavar="[ENTRY]...")
@click.option("--clear", is_flag=True, help="Remove the entries instead of listing them.")
@click.option("--older-than", type=click.FloatRange(0), metavar="DAYS",
              help="Only entries that were last used before this many days.")
def cache(entries: tuple[str, ...], clear: bool, older_than: float | None) -> None:
    """List the entries of the scene cache, or clear them.

    ENTRY is the first letters of an entry's name. Without it, all entries are meant. Clearing is always safe: scenes
    that are needed again are read again, and a run that uses an entry keeps it until it ends.
    """
    folder, now = cache_folder(), time.time()
    found = find_entries(folder)
    for begin in entries:
        if not any(entry.path.name.startswith(begin) for entry in found):
            raise SettingsError(f"no entry of {folder} begins with {begin}; `fedsim data cache` lists all")
    chosen = [entry for entry in found
              if (not entries or entry.path.name.startswith(entries)) and now - entry.used >= DAY * (older_than or 0)]
    if clear:
        _clear(chosen)
        return
    rows = [[entry.path.name[:SHOWN], entry.holds, ABSENT if entry.scenes is None else f"{entry.scenes:,}",
             format_bytes(entry.bytes), format_age(now - entry.used)] for entry in chosen]
    total = format_bytes(sum(entry.bytes for entry in chosen))
    if rows:
        columns = ["entry", "scenes of", "count", "size", "last used"]
        print_tables([Table(f"{len(rows)} entries, {total}", columns, rows)])
        print_block("Folder", [folder])
    else:
        print(f"There are no such entries in {folder}." if found else f"There are no entries in {folder}.")


def _clear(chosen: list[Entry]) -> None:
    removed = [entry for entry in chosen if remove_entry(entry)]
    for entry in chosen:
        if entry not in removed:
            LOG.warning("%s was left: a process is writing it", entry.path)
    print(f"Removed {len(removed)} entries, {format_bytes(sum(entry.bytes for entry in removed))}.")
