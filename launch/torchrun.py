"""torchrun, but a rank's exit status becomes its own, and what the rank has said is the last word.

torchrun itself answers a user's mistake, or a signal, with status 1 and a traceback of its own.
"""

import logging
import sys

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.run import main

logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
try:
    main.__wrapped__(sys.argv[1:])  # without the decorator that logs a failure's traceback
except ChildFailedError as error:
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:  # a rank that was killed could say nothing itself
        print(f"fedsim: rank {rank} was ended by signal {-failure.exitcode}", file=sys.stderr)
    sys.exit(max(1, failure.exitcode))
except RendezvousError as error:
    sys.exit(f"fedsim: torchrun could not meet the other machines, or lost them ({type(error).__name__})")
except SignalException as error:  # passed on to the ranks, which have ended
    sys.exit(128 + error.sigval)
