"""A run's work on an accelerator that is only pretended: no tensors of two devices meet, and the host seldom waits.

One process plays all of it, see on_pretended.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Waits of the host that a device may cost at most. A car's and a round's do not depend on the number of steps.
MOST = {"step": 0, "car": 4, "round": 8, "batch": 1}


@pytest.fixture(scope="module")
def played() -> dict[str, Any]:
    tests = Path(__file__).parent
    done = subprocess.run([sys.executable, str(tests / "on_pretended.py")], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "OMP_NUM_THREADS": "1",
                               "PYTHONPATH": os.pathsep.join(map(str, (tests.parent, tests)))})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("what", MOST)
def test_the_host_seldom_waits_for_a_device(played, what):
    """Catches a number that is read in a step, a copy from pageable memory, and a magnitude asked for by itself."""
    assert played[what] and {name: waits for name, waits in played[what].items() if waits > MOST[what]} == {}


def test_a_run_on_a_device_goes_on_to_the_same_bits(played):
    """Catches a part of a checkpoint that comes back on another device, and one that is not saved."""
    assert played["resumed"] and all(played["resumed"].values())


def test_an_exact_sum_is_the_same_on_a_device(played):
    """Numbers of all sizes, which are set aside. The third vector is larger than the sum has room for.

    Catches numbers that are set aside at another place, or twice.
    """
    assert played["sum"]["agree"] and played["sum"]["waits"][:2] == [1, 1]


def test_what_cars_keep_lies_where_there_is_room_for_it(played):
    """On the device if it fits there twice, else in main memory. Catches main memory asked whether a GPU has room."""
    assert played["room"] == [True, ["pretend", "cpu", "cpu", "files"]]


def test_gradients_come_back_through_upsampling_in_a_fixed_order(played):
    """PyTorch's kernel for them adds in any order on a GPU. Catches a run without deterministic algorithms."""
    assert played["upsampled"] and not [name for name in played["upsampled"] if "bilinear" in name]
