"""Runs of the benchmarks that train: each is played once, and its records are read."""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


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
