"""Faults of a machine, told in a sentence."""

import pytest
import torch

import fedsim.cli
from fedsim.distributed.devices import Place
from fedsim.distributed.hardware import Hardware
from fedsim.distributed.world import World
from fedsim.errors import RankError
from fedsim.experiment.faults import explain_faults, explain_memory
from fedsim.experiment.identity import other_gpus
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


def test_a_command_that_fills_a_gpu_says_so(monkeypatch, capsys):
    """Catches the traceback of `fedsim evaluate` and `fedsim predict`, and another error taken for this one."""
    def fail(error):
        def main(**_):
            raise error
        monkeypatch.setattr(fedsim.cli.commands, "main", main)
        return fedsim.cli._status()

    assert fail(torch.OutOfMemoryError("CUDA out of memory.")) == 1
    assert capsys.readouterr().err.startswith("fedsim: the GPU has no memory left; take a smaller --batch-size")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fail(RuntimeError("mat1 and mat2 shapes"))


def test_a_run_that_goes_on_with_other_gpus_warns():
    """Catches ranks that are counted, an older run that has no record of them, and CPUs."""
    one, other = "Made Up 100, compute capability 9.0", "Older 10, compute capability 7.0"
    assert other_gpus([one], [one, one]) == other_gpus(None, [one]) == other_gpus([], []) == []
    assert other_gpus([one, one], [other]) == [
        f"GPUs were {one} and are {other}: the last digits of results may change"]
