"""The place in a user's own code that an exception or a wrong result comes from, as FILE:LINE."""

import inspect
import os
import signal
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType

import torch

from fedsim.algorithms import Algorithm
from fedsim.errors import FedsimError, SettingsError
from fedsim.losses.own import measure_by_own_code

LIBRARIES = (str(Path(__file__).parents[1]),
             *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")))
FOREIGN = (*(f"{folder}{os.sep}" for folder in LIBRARIES), "<frozen", "<string>")
MODULE_CALL = "_call_impl"  # the function in which torch calls a network's forward


@contextmanager
def blame_setting(setting: str) -> Iterator[None]:
    """Turn whatever a user's own code raises in the block into a SettingsError that names the setting and the place.

    setting: as the user types it, with its value. A sentence of fedsim, Ctrl-C and a lack of GPU memory stay as they
    are: the first says what is wrong, and the others are no fault of the code.
    """
    try:
        yield
    except (FedsimError, torch.OutOfMemoryError):
        raise
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        raise SettingsError(f"{setting}: it raises {describe(error)}") from error


def describe(error: BaseException, own: type | None = None) -> str:
    """Describe an exception of a user's own code: its type, what it says, and FILE:LINE.

    own: the class whose files are the user's wherever they are.
    """
    said = " ".join(str(error).split())
    lines = _lines(error)
    place = next((line for line in reversed(lines) if is_own(line[0], own)), lines[-1] if lines else None)
    return f"{type(error).__name__}{': ' if said else ''}{said}" + (f" ({place[0]}:{place[1]})" if place else "")


def place_of(own: Algorithm, method: str) -> str:
    """Return FILE:LINE of a method of a user's own algorithm, or of its class if it has inherited the method."""
    kind = type(own)
    for base in kind.__mro__:
        code = getattr(inspect.unwrap(vars(base).get(method, None)), "__code__", None)
        if isinstance(code, CodeType) and is_own(code.co_filename, kind):
            return f"{code.co_filename}:{code.co_firstlineno}"
    return f"class {kind.__name__}, {_file_of(kind) or kind.__module__}"


def place_of_function(call: object) -> str:
    """Return FILE:LINE of a function, or of a class if that is what is given; "" if it has none, as built-in ones."""
    try:
        found = inspect.unwrap(call)  # type: ignore[arg-type]  # whatever a user names
        return f"{inspect.getsourcefile(found)}:{inspect.getsourcelines(found)[1]}"
    except (TypeError, OSError):
        return ""


def comes_from_loss(error: BaseException) -> bool:
    """Return whether an exception was raised by a loss of a user's own."""
    return measure_by_own_code.__name__ in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def comes_from_network(error: BaseException) -> bool:
    """Return whether an exception was raised by code of a network that is not fedsim's, nor a library's."""
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    if MODULE_CALL not in names:
        return False
    return any(is_own(line[0]) for line in _lines(error)[names.index(MODULE_CALL):])


def is_ctrl_c(error: BaseException) -> bool:
    """Return whether an exception is the user's Ctrl-C, and not raised by own code."""
    lines = _lines(error)
    by_python = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and (by_python or not lines or not is_own(lines[-1][0]))


def is_own(file: str, own: type | None = None) -> bool:
    """Return whether a file is neither fedsim's nor a library's. own: a class whose files are the user's anyway."""
    bases = own.__mro__ if own else ()
    files = {_file_of(base) for base in bases if base.__module__.partition(".")[0] not in ("fedsim", "builtins")}
    return file in files or not file.startswith(FOREIGN)


def _file_of(kind: type) -> str | None:
    """Return the file of a class's module; None for a module without one, such as that of a notebook."""
    return getattr(sys.modules.get(kind.__module__), "__file__", None)


def _lines(error: BaseException) -> list[tuple[str, int | None]]:
    return [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
