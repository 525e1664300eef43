"""Runs of the benchmarks that train: the options of these programs, the runs, each played once, and their records."""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def make_parser(doc: str | None, rows: Iterable[str]) -> argparse.ArgumentParser:
    """Return the parser of a program that plays each row of a table with several seeds. doc: what it does."""
    names = [*rows]
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each row (default 3)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time, with one thread each (default 2)")
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="NAME",
                        help=f"rows to measure (default all): {'; '.join(names)}")
    return parser


def play(settings: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Play a run of fedsim in `folder` if it has not been played to its end, and return its records.

    Raises subprocess.CalledProcessError if the run fails; what it says is on the screen.
    """
    if not (folder / "report" / "summary.md").exists():
        command = [sys.executable, "-m", "fedsim", "run", "--ranks", "1", "--threads", "1", *settings, "--out",
                   str(folder), "--resume", "auto"]
        print(" ".join(command[2:]), flush=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def show(values: Sequence[float], sign: str = "") -> str:
    """Return the mean of some values, and their standard deviation if there are several."""
    mean = f"{statistics.mean(values):{sign}.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean
