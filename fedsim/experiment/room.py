"""Room for what the cars of a rank keep and send: memory of the device, main memory, or files."""

from dataclasses import replace
from logging import Logger
from pathlib import Path

import torch

from fedsim.distributed.devices import fits_on_device
from fedsim.federation.federation import Federation
from fedsim.federation.memories import make_memories
from fedsim.system.machine import fits_in_memory

CPU = torch.device("cpu")


def make_room(federation: Federation, choice: str, folder: Path, log: Logger) -> Federation:
    """Return the federation with room for what its cars keep and send. All ranks decide alike.

    On a GPU, memories lie in its own memory if they fit there, else in main memory. choice: as --car-states has it;
    folder: where files may lie. Raises UserError on every rank if one of them finds no room.
    """
    world, fleet = federation.world, federation.fleet
    kept, stored = federation.bytes_kept(), federation.bytes_stored()

    def everywhere(fits: bool) -> bool:
        return bool(world.table({world.rank: [fits]}, world.size, 1).all())

    # Within a round the memories before and after it are there at once.
    on_gpu = world.device.type != "cpu" and everywhere(fits_on_device(2 * kept, world.device, world.sharing))
    fits = everywhere(fits_in_memory(stored + (0 if on_gpu else kept), world.place.local_size))
    initial, cars = federation.memories.initial_memory, list(fleet.scenes)
    if choice == "disk" or (choice == "auto" and not fits):
        memories = world.together(lambda: make_memories(initial, cars, folder))
        log.info("What cars keep lies in files under %s", folder)
    elif world.device.type != "cpu" and not on_gpu:
        memories = make_memories(initial, cars, None, CPU)
        log.info("What cars keep lies in main memory, because the GPU has no room for it")
    else:
        return federation
    return replace(federation, memories=memories)
