"""Paths as users write them: ~ is the home directory, and an empty text is no path."""

import os
from pathlib import Path

from fedsim.errors import SettingsError


def read_path(text: str | Path, what: str) -> str:
    """Return the path that a user's text means, with a home directory in place of a leading `~`, `~/` or `~user/`.

    Every other name that begins with ~ is an ordinary one, and so is `~name/` if there is such a folder. what: where
    the text comes from, such as "--out". Raises SettingsError if the text is empty, if there is no such user, or if
    the user has no home directory.
    """
    path = os.fspath(text)
    if not path:
        raise SettingsError(f"{what} is empty; name a path, or leave it out")
    first, slash, rest = path.partition("/")
    if first != "~" and not (first.startswith("~") and slash and not os.path.isdir(first)):
        return path
    home = "" if first == "~" and os.environ.get("HOME") == "" else os.path.expanduser(first)
    if home in ("", first):
        missing = "HOME names no home directory" if first == "~" else f"there is no user {first[1:]}"
        raise SettingsError(f"{what} is {path}, but {missing}; write the path without ~")
    return os.path.join(home, rest.lstrip("/")) if rest else home


def path_from_environment(name: str) -> Path | None:
    """Return the path that a variable of the environment names; None if it is empty or not set."""
    text = os.environ.get(name)
    return Path(read_path(text, name)) if text else None
