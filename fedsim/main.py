"""python -m fedsim.main: one rank of a run, as torchrun starts it."""

import os

if __name__ == "__main__":  # before the long imports
    from fedsim.system.allocator import keep_freed_memory
    from fedsim.system.collector import put_off_collection
    from fedsim.system.program import prepare_program

    prepare_program()
    put_off_collection()
    keep_freed_memory()

# Idle OpenMP threads must sleep: ranks share cores, and a thread that spins slows the others. torch reads this when it
# is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A rank that loses another one says so in a sentence, without torch's warnings and their C++ stack traces beside it.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import contextlib
import sys
from collections.abc import Sequence

import click

from fedsim.cli.options import parse
from fedsim.errors import FedsimError, MachineError, PlaceError, RankError
from fedsim.experiment.run import run
from fedsim.experiment.signals import put_handlers_back
from fedsim.system.console import enduring_output, open_standard_streams
from fedsim.system.launchers import follow_launchers
from fedsim.system.program import INTERRUPTED, raise_interrupts


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a run and return the exit status: 0, 2 for a user's mistake, 1 for a fault in the run.

    A stdout that cannot be written is no fault in the run: its directory has all that it prints.

    One rank speaks for all ranks. Another rank speaks only of what it alone has noticed.
    """
    os.environ["MPLBACKEND"] = "agg"  # no figure needs a display, and an unknown name ends the import of matplotlib
    open_standard_streams()
    with put_handlers_back(), enduring_output() as (stdout, stderr), follow_launchers():
        status = _status(sys.argv[1:] if arguments is None else arguments)
        stdout.finish()
        stderr.finish()
    return status


def _status(arguments: Sequence[str]) -> int:
    speaks = os.environ.get("RANK", "0") == "0"
    try:
        with (raise_interrupts(),
              contextlib.nullcontext() if speaks else contextlib.redirect_stdout(open(os.devnull, "w"))):
            asked = parse(arguments)
            if asked is not None:
                run(asked.settings, asked.given)
    except FedsimError as error:
        # The first rank of a machine says what this machine lacks: other machines may have it.
        first_here = isinstance(error, MachineError) and os.environ.get("LOCAL_RANK", "0") == "0"
        if speaks or first_here or isinstance(error, PlaceError | RankError):
            print(f"fedsim: {error}", file=sys.stderr, flush=True)
        return error.exit_status
    except (KeyboardInterrupt, click.Abort):  # click raises the latter while it reads the command line
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
