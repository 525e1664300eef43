"""Tables in words: on the screen, and as Markdown."""

from collections.abc import Iterable
from typing import NamedTuple

WIDEST = 1000  # columns of a file or a pipe that a table is written to; it takes no more than it needs


class Table(NamedTuple):
    """A table in words, for whatever shows it."""

    title: str
    header: list[str]
    rows: list[list[str]]  # as many cells as the header; the first names the row


def print_tables(tables: Iterable[Table], most_rows: int | None = None) -> None:
    """Print on stdout; of a longer table the first `most_rows` rows, and how many more there are."""
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
        for row in table.rows[:most_rows]:
            shown.add_row(*row)
        console.print(shown)
        if most_rows is not None and len(table.rows) > most_rows:
            console.print(f"… and {len(table.rows) - most_rows} more in summary.md\n")


def markdown(table: Table) -> str:
    """A heading and the table."""
    rule = ["---", *["---:"] * (len(table.header) - 1)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
             for row in [table.header, rule, *table.rows]]
    return "\n".join([f"## {table.title}", "", *lines])
