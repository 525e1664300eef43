"""The search for cycles, which programs of fedsim put off."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from fedsim.system.collector import OBJECTS, put_off_collection

class Knot:
    def __init__(self):
        self.own = self

usual, searches = gc.get_threshold(), []
put_off_collection()
gc.callbacks.append(lambda phase, info: searches.append(phase))
modules = [[] for _ in range(OBJECTS // 2)]
assert not searches and gc.get_threshold() != usual, "it was not put off"
modules += [[] for _ in range(OBJECTS)]
assert searches and gc.get_threshold() == usual and len(gc.callbacks) == 1, "it never begins"
assert gc.get_freeze_count() >= OBJECTS, "modules are searched again and again"
knots = [weakref.ref(Knot()) for _ in range(100_000)]
assert sum(knot() is not None for knot in knots) < 50_000, "cycles stay"
"""


def test_the_search_for_cycles_begins_after_the_imports_and_is_then_as_usual():
    """Catches a program that searches while it imports, and one that never searches again and keeps dead tensors."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
