"""Tables in words: on the screen, and as Markdown."""

from collections.abc import Iterable
from typing import NamedTuple

PRINTED_CARS = 32
WIDEST = 1000  # columns of a file or a pipe that a table is written to; it takes no more than it needs


class Table(NamedTuple):
    """A table in words, for whatever shows it."""

    title: str
    header: list[str]
    rows: list[list[str]]  # as many cells as the header; the first names the row
    of_cars: bool = False  # a row a car: there may be a thousand


def print_tables(tables: Iterable[Table]) -> None:
    """Print on stdout; of many cars the first, and how many more there are: files have them all."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(highlight=False, markup=False, emoji=False)  # names are shown as they are
    if not console.is_terminal:
        console.width = WIDEST
    for table in tables:
        shown = RichTable(title=table.title, title_style="bold", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(table.header):
            shown.add_column(column, justify="right" if index else "left", overflow="fold")
        rows = table.rows[:PRINTED_CARS] if table.of_cars else table.rows
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
    """A heading and the table."""
    rule = ["---", *["---:"] * (len(table.header) - 1)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
             for row in [table.header, rule, *table.rows]]
    return "\n".join([f"## {table.title}", "", *lines])
