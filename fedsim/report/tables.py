"""Tables of words, on the screen and as Markdown."""

from collections.abc import Iterable
from typing import NamedTuple

PRINTED = 32  # rows of a long table on the screen, at most
WIDEST = 1000  # columns for a table that is written to a file or a pipe


class Table(NamedTuple):
    """A table whose cells are words already."""

    title: str
    header: list[str]
    rows: list[list[str]]  # as many cells as the header; the first names the row
    long: bool = False  # a row for each car or drive, of which there may be a thousand


def print_tables(tables: Iterable[Table]) -> None:
    """Print tables on stdout. Only the first rows of a long one are printed, because files have them all."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(highlight=False, markup=False, emoji=False)  # names are shown as they are
    if not console.is_terminal:
        console.width = WIDEST
    for table in tables:
        # Before the table, because a title of the table would be folded to its width.
        console.print(table.title, style="bold")
        shown = RichTable(box=SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(table.header):
            shown.add_column(column, justify="right" if index else "left", overflow="fold")
        rows = table.rows[:PRINTED] if table.long else table.rows
        for row in rows:
            shown.add_row(*row)
        console.print(shown)
        if left := len(table.rows) - len(rows):
            console.print(f"… and {left:,} more, which the files have\n")


def print_block(title: str, lines: Iterable[object]) -> None:
    """Print an empty line, a title, and each line indented under it, on stdout."""
    print(f"\n{title}:")
    for line in lines:
        print(f"  {line}")


def markdown(table: Table) -> str:
    """Return a table as Markdown, with its title as a heading."""
    rule = ["---", *["---:"] * (len(table.header) - 1)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
             for row in [table.header, rule, *table.rows]]
    return "\n".join([f"## {table.title}", "", *lines])
