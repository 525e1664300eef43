"""Faults of a machine, told in a sentence."""

import pytest
import torch

from fedsim.distributed.devices import Place
from fedsim.distributed.hardware import Hardware
from fedsim.distributed.world import World
from fedsim.errors import RankError
from fedsim.experiment.faults import explain_faults, explain_memory
from fedsim.settings.fields import Settings


def test_the_end_of_a_gpus_memory_is_a_sentence(monkeypatch):
    """While a run is put together, and later on. Catches a traceback, and an `explain_faults` that says it before."""
    def fill(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("fedsim.experiment.run.assemble", fill)
    from fedsim.experiment.run import run
    with pytest.raises(RankError, match=r"^rank 0, while starting: cpu has no memory left; .* or --car-states disk"):
        run(Settings(device="cpu", threads=1), {})
    gpu = Hardware("a", "cuda:0", "GPU-1")
    world = World(Place(1, 2, 1, 2), torch.device("cuda", 0), "gloo", "shared", 1, hardware=(gpu, gpu))
    world.doing = "scoring round 0"
    with (pytest.raises(RankError, match=r"^rank 1, while scoring round 0: cuda:0 has .* fewer than 2 ranks on a GPU"),
          explain_memory(world), explain_faults(world, "segnet", "cross-entropy")):
        fill()
