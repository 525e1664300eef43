"""What the command line shows and completes is known without the libraries that read scenes."""

import subprocess
import sys

import pytest

HEAVY = {"numpy", "PIL", "torch"}


@pytest.mark.parametrize("names", ["data.AUGMENTATIONS", "data.datasets.SOURCES", "data.partition.DEFAULT_ALPHA",
                                   "data.perturbations.PERTURBATIONS"])
def test_names_are_known_before_torch_numpy_and_pillow_are_imported(names):
    """Seen to fail with an import of fedsim.data.scene_set in data/datasets/__init__.py."""
    module, _, table = f"fedsim.{names}".rpartition(".")
    program = f"import sys; from {module} import {table}; assert {table}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert module in done.stdout.split() and not HEAVY & set(done.stdout.split())
