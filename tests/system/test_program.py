"""Ctrl-C at any moment of a program: no traceback, status 130."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INTERRUPTED = """
import atexit, os, runpy, signal, sys

class Interrupter:
    \"\"\"Sends this process a Ctrl-C when it begins to import a module.\"\"\"

    def find_spec(self, name, path=None, target=None):
        if name == moment:
            signal.raise_signal(signal.SIGINT)

program, moment, *words = sys.argv[1:]
sys.meta_path.insert(0, Interrupter())
if moment == "the end":
    atexit.register(signal.raise_signal, signal.SIGINT)
sys.argv = [program, *words]
runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


def play(*words: str, **more: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", INTERRUPTED, *words], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, **more)


@pytest.mark.parametrize(("program", "moment", "words"), [
    ("fedsim", "threading", ["--help"]), ("fedsim", "click", ["--help"]), ("fedsim", "fedsim.cli.list", ["list"]),
    ("fedsim", "the end", ["--help"]), ("fedsim", "torch._C", ["run", "--ranks", "2"]),
    ("fedsim.main", "numpy", []), ("fedsim.main", "fedsim.experiment.run", []), ("fedsim.main", "the end", ["--help"]),
    ("fedsim.distributed.torchrun", "torch", ["--help"])])
def test_an_interrupt_ends_a_program_without_a_traceback(program, moment, words):
    """Catches the traceback of a library that is being imported, and that of Python at its end."""
    done = play(program, moment, *words)
    assert (done.returncode, done.stderr) == (130, "")


def test_a_program_that_ignores_interrupts_still_ignores_them():
    """As one that a script starts in the background. Catches a handler where there was to be none."""
    done = play("fedsim", "click", "--help", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert done.returncode == 0 and "Commands" in done.stdout
