"""Turn exceptions of a run into sentences that name rank, round and place."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fedsim.distributed.world import World
from fedsim.errors import FedsimError, RankError
from fedsim.experiment.blame import comes_from_loss, comes_from_network, describe, is_ctrl_c


@contextmanager
def explain_memory(world: World) -> Iterator[None]:
    """Turn the end of a GPU's memory into a RankError that says what was done and what would take less."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        others = f", fewer than {world.sharing} ranks on a GPU" if world.sharing > 1 else ""
        raise RankError(f"rank {world.rank}, while {world.doing}: {world.device} has no memory left; take a smaller "
                        f"--batch-size, --width or --image-size{others}, or --car-states disk for what cars keep"
                        ) from error


@contextmanager
def explain_faults(world: World, model: str, loss: str) -> Iterator[None]:
    """Turn an exception of this machine or of a user's own code into a RankError that says where it comes from.

    model, loss: the values of --model and --loss. Errors of fedsim's own already say where they come from, and are not
    changed. `explain_memory` tells the end of a GPU's memory.
    """
    try:
        yield
    except (FedsimError, torch.OutOfMemoryError):
        raise
    except BaseException as error:
        if isinstance(error.__cause__, StopIteration):  # which no generator lets through as it is
            error = error.__cause__
        blamed = (f"--loss {loss}" if comes_from_loss(error) else
                  f"--model {model}" if comes_from_network(error) else "")
        if blamed and not is_ctrl_c(error):
            raise RankError(f"rank {world.rank}, while {world.doing}: {blamed} raises {describe(error)}") from error
        if isinstance(error, OSError):
            where = f" ({error.filename})" if error.filename else ""
            raise RankError(f"rank {world.rank}, while {world.doing}: {error.strerror or error}{where}") from error
        raise
