"""The tree of ARCHITECTURE.md: a line for each file, with the first sentence of its docstring.

    python tests/tree.py

writes it into ARCHITECTURE.md; tests/test_layers.py compares the two.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE, PAGE = ROOT / "fedsim", ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- written by tests/tree.py -->\n```\n", "```\n<!-- end -->"
BANDS = {
    "doors": ("__init__", "__main__", "main", "api", "cli"),
    "runs": ("comparison", "experiment", "inference"),
    "what a run leaves: for people, for programs": ("report", "record"),
    "the federation": ("settings", "federation", "evaluation"),
    "its parts": ("algorithms", "aggregation", "losses", "models", "data"),
    "the ground": ("distributed", "system", "options", "own_code", "classes", "seeds", "errors", "version"),
}
WIDTH = 28  # columns before the sentences


def describe(path: Path) -> str:
    """Return the first sentence of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def lines_of(path: Path, depth: int) -> Iterator[str]:
    """Yield the line of a file, or of a package and then of all that is in it: files first."""
    name = "  " * depth + path.name
    if path.is_file():
        yield f"{name:{WIDTH}}{describe(path)}"
        return
    yield f"{name + '/':{WIDTH}}{describe(path / '__init__.py')}"
    inside = [entry for entry in path.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").exists()]
    for entry in sorted(inside, key=lambda entry: (entry.is_dir(), entry.name)):
        if entry.name != "__init__.py":
            yield from lines_of(entry, depth + 1)


def draw_tree() -> str:
    """Return the tree as text, band by band from the top of the program to its ground."""
    lines = ["fedsim/"]
    for band, names in BANDS.items():
        lines += ["", f"  {band.upper()}"]
        for name in names:
            path = PACKAGE / name
            lines += lines_of(path if path.is_dir() else path.with_suffix(".py"), 1)
    return "\n".join(lines) + "\n"


def shown_tree() -> str:
    """Return the tree that ARCHITECTURE.md shows."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + draw_tree() + END + rest.partition(END)[2], encoding="utf-8")
