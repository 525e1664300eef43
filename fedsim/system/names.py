"""Names of files: as text that can be written anywhere, and short enough for a file system."""

import os
import re
from hashlib import blake2b

LONGEST = 255  # bytes of a name on the usual file systems


def printable(text: str) -> str:
    """Return a text in which all that is no UTF-8 is replaced, so that it can be written and shown.

    Python holds such bytes of names as surrogates, and JSON may have other surrogates.
    """
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def fit_name(name: str, ending: str = "") -> str:
    """Return the name of a file, name and ending, of 255 bytes at most.

    A name that is too long is cut and gets a digest of the whole, so two long names stay apart.
    """
    room = LONGEST - len(os.fsencode(ending))
    whole = os.fsencode(name)
    if len(whole) > room:
        digest = f"-{blake2b(whole, digest_size=8).hexdigest()}"
        name = whole[:max(0, room - len(digest))].decode("utf-8", "ignore") + digest
    return name + ending
