"""Code of a user's own, which settings name as MODULE:NAME.

It runs with all rights of the user. So a name that only a file says is not imported: the user has to say it too.
"""

import importlib
import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from fedsim.errors import SettingsError
from fedsim.options import flag

NAMING = ("algo", "model", "loss")  # the settings that may name code
BUILT_IN = ("torchvision:",)  # beginnings of names with a colon that are no code of a user's own


def is_own(name: str) -> bool:
    """Return whether a name stands for code of a user's own."""
    return ":" in name and not name.startswith(BUILT_IN)


def find_own(setting: str, name: str) -> Any:
    """Import what MODULE:NAME stands for, as Python finds modules, the working directory first.

    setting: the setting that has this name as its value. Raises SettingsError.
    """
    typed = f"{flag(setting)} {name}"
    module_name, _, path = name.partition(":")
    where = os.getcwd()
    if where not in sys.path:
        sys.path.insert(0, where)
    try:
        found: Any = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's module does when it is imported
        raise SettingsError(f"{typed}: importing {module_name or 'nothing'} failed "
                            f"({type(error).__name__}: {' '.join(str(error).split())}); it is looked for in the "
                            "working directory and on PYTHONPATH") from error
    for part in path.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise SettingsError(f"{typed}: {module_name} has no {path!r}")
    return found


def name_of(value: Any) -> str | None:
    """Return MODULE:NAME of a class or a function; None if it cannot be found under that name.

    >>> import json
    >>> name_of(json.JSONDecoder), name_of(lambda: 0)
    ('json.decoder:JSONDecoder', None)
    """
    module_name, path = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    found: Any = sys.modules.get(str(module_name))
    for part in path.split("."):
        found = getattr(found, part, None)
    return f"{module_name}:{path}" if found is value else None


def check_said(settings: Any, given: Mapping[str, Any], origin: str) -> None:
    """Raise SettingsError if a file names code to run and the user does not.

    settings: what the file and the user ask for together; given: what the user says, by setting.
    """
    for setting in NAMING:
        name = getattr(settings, setting)
        if is_own(name) and "".join(str(given.get(setting)).split()) != name:
            raise SettingsError(f"{origin} names code of its own, {setting} = {name!r}, which runs with all your "
                                f"rights: say {flag(setting)} {name} as well if you trust it")


def options_that_say_it(settings: Mapping[str, Any]) -> str:
    """Return the options that name code of the user's own, as " --algo MODULE:NAME"; "" if there is no such code.

    Commands that repeat a run or go on with it need them: fedsim runs no code that only a file names.
    """
    return "".join(f" {flag(setting)} {shlex.quote(name)}" for setting in NAMING
                   if is_own(name := str(settings.get(setting, ""))))
