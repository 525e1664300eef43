"""The cache serves what is in the files now, whatever was done to them or to it.

A short form of benchmarks/fuzz.py. Seen to fail with a key of relative paths, sizes and times, and with entries that
are opened without a look at their digests.
"""

import random

import pytest
from cache_states import CacheStates


@pytest.fixture
def states(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))
    return CacheStates(tmp_path)


@pytest.mark.parametrize("seed", range(40))
def test_scenes_are_those_in_the_files_now(states, seed):
    states.serve_again(random.Random(f"cache-{seed}"))
