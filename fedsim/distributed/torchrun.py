"""Start ranks with torchrun, pass signals on to them, and exit with the status of the rank that failed.

    python -m fedsim.distributed.torchrun --standalone --nproc_per_node=4 -m fedsim.main --algo admm

torchrun itself exits with status 1 and a traceback of its own after a user's mistake or a signal, ends on SIGUSR1, and
may wait for ever if a second signal comes while it passes on the first. So it runs in a child process.
"""

if __name__ == "__main__":  # before the long imports
    from fedsim.system.collector import put_off_collection
    from fedsim.system.program import prepare_program

    prepare_program()
    put_off_collection()

import inspect
import logging
import os
import signal
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.run import main

from fedsim.system.children import ASKING, run_in_child

PATIENCE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"  # the variable that says how long ranks may take to stop
DAY = 24 * 60 * 60  # seconds


def start(ranks: int, arguments: Sequence[str]) -> int:
    """Run `python -m fedsim.main ARGUMENTS` on `ranks` ranks of this machine and return the exit status.

    Ranks that are asked to stop may end their round, however long it takes. They meet at the loopback address: the name
    of a machine need not resolve.
    """
    os.environ.setdefault(PATIENCE, str(DAY))
    for name in [name for name in os.environ if name.startswith("PET_")]:  # options of another torchrun
        del os.environ[name]
    return torchrun(["--standalone", "--local-addr=127.0.0.1", f"--nproc_per_node={ranks}", "-m", "fedsim.main",
                     *arguments])


def torchrun(arguments: Sequence[str]) -> int:
    """Run torchrun with its own arguments and return the exit status."""
    patience = os.environ.get(PATIENCE, "30")
    if not (patience.isascii() and patience.isdigit()):
        print(f"fedsim: {PATIENCE} is {patience[:40]!r}, which is not a number of seconds: unset it, or set one",
              file=sys.stderr)
        return 2
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # or torchrun warns; fedsim itself shares out the cores
    status = run_in_child(lambda: _run_agent(arguments))
    if status >= 0:
        return status
    if -status not in ASKING:
        print(f"fedsim: torchrun was ended by signal {-status}, and its ranks stop too", file=sys.stderr)
    return 128 - status


def _run_agent(arguments: Sequence[str]) -> int:
    """Run torchrun in this process. Its log is left out: all that it tells is in a sentence here or from a rank."""
    logging.disable(logging.CRITICAL)
    # A signal for which torchrun has a handler would not stay ignored in its ranks.
    heard = [number.name for number in ASKING if signal.getsignal(number) != signal.SIG_IGN]
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", ",".join(heard))
    try:
        inspect.unwrap(main)([*arguments])  # without the decorator that logs a traceback
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:  # a rank that was killed could not print anything itself
            print(f"fedsim: rank {rank} was ended by signal {-failure.exitcode}", file=sys.stderr)
        return max(1, failure.exitcode)
    except RendezvousError as error:
        print(f"fedsim: torchrun could not meet the other machines, or lost them ({type(error).__name__})",
              file=sys.stderr)
        return 1
    except SignalException as error:  # torchrun has passed it on to the ranks, and they have ended
        return 128 + error.sigval
    except Exception as error:  # an option or a variable that it cannot use, or a port that is in use
        reason = " ".join(str(error).splitlines()[:1])
        print(f"fedsim: torchrun cannot start the ranks ({type(error).__name__}: {reason})", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(torchrun(sys.argv[1:]))
