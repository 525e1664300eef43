"""Python's search for cycles of objects: it is put off while a program imports its modules.

torch's modules are about 280 thousand objects that stay. By default Python searches them hundreds of times while they
are made, which takes a sixth of a program's start.
"""

import gc

OBJECTS = 280_000  # that may be new before the first search: as many as `import torch` makes


def put_off_collection() -> None:
    """Let the first search for cycles come when about as many objects as torch's are there, and pass them over.

    All later searches are as usual. Call it in programs of fedsim's own alone, before their long imports.
    """
    usual = gc.get_threshold()

    def go_on_as_usual(phase: str, info: dict[str, int]) -> None:
        gc.callbacks.remove(go_on_as_usual)
        gc.set_threshold(*usual)
        gc.freeze()  # modules stay to the end, so that no search needs to look at them

    gc.set_threshold(OBJECTS, *usual[1:])
    gc.callbacks.append(go_on_as_usual)
