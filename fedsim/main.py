"""python -m fedsim.main: options become settings, settings a run; decides when to evaluate, log and save."""

import os

# Idle OpenMP threads must sleep: ranks share cores, and a spinning one slows others. Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import contextlib
import sys
from collections.abc import Sequence

from fedsim.cli.options import parse
from fedsim.errors import FedsimError, MachineError, RankError
from fedsim.experiment.run import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and return the exit status: 0, 2 for a user's mistake, 1 for a fault in the run.

    One rank speaks for all, except about what it alone has noticed.
    """
    speaks = os.environ.get("RANK", "0") == "0"
    try:
        with contextlib.nullcontext() if speaks else contextlib.redirect_stdout(open(os.devnull, "w")):
            asked = parse(sys.argv[1:] if arguments is None else arguments)
            if asked is not None:
                run(asked.settings, asked.given)
    except FedsimError as error:
        # What a machine lacks, its own first rank says: the others may have all they need.
        first_here = isinstance(error, MachineError) and os.environ.get("LOCAL_RANK", "0") == "0"
        if speaks or first_here or isinstance(error, RankError):
            print(f"fedsim: {error}", file=sys.stderr, flush=True)
        return error.exit_status
    except KeyboardInterrupt:
        return 130  # as a shell reports what Ctrl-C has ended
    return 0


if __name__ == "__main__":
    sys.exit(main())
