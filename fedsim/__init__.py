"""fedsim: one segmentation network, trained by many cars that never share their pictures.

    import fedsim

    result = fedsim.run(algo="admm", cars=4, rounds=3)
    labels = fedsim.load("runs/admm").labels([picture])
"""

from __future__ import annotations

from fedsim.version import __version__

TYPE_CHECKING = False  # as typing's: importing that takes time, in which Ctrl-C would print a traceback

__all__ = ["FedsimError", "Result", "Segmenter", "Settings", "__version__", "load", "read_settings", "run"]

if TYPE_CHECKING:
    from typing import Any

    from fedsim.api import FedsimError, Result, Segmenter, Settings, load, read_settings, run


def __getattr__(name: str) -> Any:
    """Import a public name when it is used first: importing torch takes seconds, and `fedsim --help` needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'fedsim' has no attribute {name!r}")
    from fedsim import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
