"""Turn exceptions of a run into sentences that name rank, round and place."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from fedsim.algorithms import Algorithm
from fedsim.distributed.world import World
from fedsim.errors import FedsimError, RankError


@contextmanager
def explain_faults(world: World, algo: str, algorithm: Algorithm) -> Iterator[None]:
    """Turn an exception of this machine or of a user's own algorithm into a RankError that says where it comes from.

    algo: the value of --algo. Errors of fedsim's own already say where they come from, and are not changed.
    """
    try:
        yield
    except FedsimError:
        raise
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise RankError(f"rank {world.rank}, while {world.doing}: {error.strerror or error}{where}") from error
    except Exception as error:
        if ":" in algo and (line := _find_own_line(error, algorithm)):
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise RankError(f"rank {world.rank}, while {world.doing}: --algo {algo} raises {said} "
                            f"({line})") from error
        raise


def _find_own_line(error: Exception, algorithm: Algorithm) -> str | None:
    """Return FILE:LINE of a user's own algorithm that an exception comes from; None if it comes from elsewhere."""
    own_file = sys.modules[type(algorithm).__module__].__file__
    lines = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
             if frame.filename == own_file]
    return lines[-1] if lines else None
