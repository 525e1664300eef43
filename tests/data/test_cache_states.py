"""The cache serves what is in the files now, whatever was done to them or to it.

A short form of benchmarks/fuzz.py. Seen to fail with a key of relative paths, sizes and times, and with entries that
are opened without a look at their digests.
"""

import random

import pytest
from cache_states import STATES, CacheStates


@pytest.fixture
def states(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))
    return CacheStates(tmp_path)


@pytest.mark.parametrize("state", dict.fromkeys(state.__name__ for state in STATES))
def test_scenes_are_those_in_the_files_now(states, state):
    for seed in range(10 if state == "written_damaged" else 3):
        states.serve_again(random.Random(seed), state)
