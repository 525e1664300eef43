"""The examples in the docstrings of methods are run."""

import doctest
import importlib
from pathlib import Path

import pytest

import fedsim.algorithms
from fedsim.algorithms import ALGORITHMS, VARIANTS
from fedsim.algorithms.server_optimizers import SERVER_OPTIMIZERS

FILES = sorted(Path(fedsim.algorithms.__file__).parent.glob("[!_]*.py"))
METHODS = [*ALGORITHMS.values(), *(kind for variants in VARIANTS.values() for kind in variants),
           *SERVER_OPTIMIZERS.values()]


@pytest.mark.parametrize("module", ["fedsim.options", *(f"fedsim.algorithms.{path.stem}" for path in FILES)])
def test_every_example_prints_what_it_says(module):
    """Seen to fail with a dual step of the wrong sign in fedadmm.py."""
    failed, _ = doctest.testmod(importlib.import_module(module), optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert failed == 0


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_every_method_has_an_example(method):
    assert doctest.DocTestFinder(recurse=False).find(method)[0].examples
