"""A file fetched over HTTP into a part, which a later try continues.

    PART        the bytes that are here
    PART.json   the address they are from, and what tells this content from another: its ETag or Last-Modified

RFC 9110, sections 13.1.5 and 14: Range asks for what is missing, If-Range for all of it where the content is another.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, responses
from pathlib import Path
from typing import Any
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from fedsim.errors import DataError, SettingsError
from fedsim.version import __version__

BLOCK = 2**16  # bytes read at once
SILENCE = 30.0  # seconds to wait for an answer, and for the next byte

Progress = Callable[[int, int | None], None]  # bytes that are here, bytes in all (None: the server does not say)


class Interrupted(DataError):
    """The connection broke half way; the message says how much is here and that the same command goes on."""


def download(url: str, part: Path, limit: int, progress: Progress) -> None:
    """Bring the file `part` to the whole content of `url`, at most `limit` bytes, from where an earlier try stopped.

    Raises Interrupted where the connection breaks, DataError where there is no answer or an unusable one,
    SettingsError for an address that cannot be one, OSError where the disk fails.
    """
    _check(url)
    here, validator = _begun(url, part)
    response = _ask(url, here, validator)
    if here and response.status != 200 and not _goes_on(response, here, validator):
        response.close()
        here, response = 0, _ask(url)
    with response:
        if response.status == 200:
            here, total = 0, response.length
            _begin(url, part, _validator(response))
        elif here:
            total = _range(response)[1]
        else:
            raise _refused(url, response.status)
        broken = _receive(response, part, here, total, limit, progress)
    if broken:
        of_all = "" if total is None else f" of {megabytes(total)}"
        raise Interrupted(f"the connection broke ({broken}): {megabytes(part.stat().st_size)}{of_all} are here, and "
                          f"the same command {'continues' if can_continue(part) else 'starts anew'}")


def can_continue(part: Path) -> bool:
    """Whether an earlier try left bytes that `download` can go on from."""
    return _note(part).is_file() and part.is_file() and part.stat().st_size > 0


def megabytes(count: int) -> str:
    """Such as "186.9 MB"."""
    return f"{count / 1e6:,.1f} MB"


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number, or half an IPv6 address
        sound = False
    if not (sound and url.isascii() and url.isprintable() and " " not in url):
        raise SettingsError(f"{url!r} is no address of a file; it must look like https://example.org/camvid.tar.gz")


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _begun(url: str, part: Path) -> tuple[int, str | None]:
    """(bytes that are here, validator) where an earlier try at this address can be continued, else (0, None)."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # a note half written is as good as none
        note = json.loads(_note(part).read_text())
        if note["url"] == url:
            return part.stat().st_size, note["validator"]
    return 0, None


def _begin(url: str, part: Path, validator: str | None) -> None:
    """Start anew. The old note goes first: no moment has new bytes under an old validator."""
    _note(part).unlink(missing_ok=True)
    part.write_bytes(b"")
    if validator:
        _note(part).write_text(json.dumps({"url": url, "validator": validator}))


def _ask(url: str, here: int = 0, validator: str | None = None) -> Any:
    """The answer (http.client.HTTPResponse) to a request for all bytes from `here` on. Raises DataError."""
    headers = {"User-Agent": f"fedsim/{__version__}", "Accept-Encoding": "identity"}
    if here and validator:
        headers |= {"Range": f"bytes={here}-", "If-Range": validator}
    try:
        return _opener().open(request.Request(url, headers=headers), timeout=SILENCE)
    except HTTPError as error:
        if error.code == 416:  # nothing is missing, or the content has become shorter
            return error
        error.close()
        raise _refused(url, error.code) from error
    except (OSError, HTTPException, ValueError) as error:
        raise DataError(f"{urlsplit(url).hostname} cannot be reached ({_reason(error)})") from error


def _opener() -> request.OpenerDirector:
    """HTTP and HTTPS alone: a redirection to ftp: or file: leads nowhere."""
    opener = request.OpenerDirector()
    for handler in (request.ProxyHandler, request.UnknownHandler, request.HTTPHandler, request.HTTPSHandler,
                    request.HTTPDefaultErrorHandler, request.HTTPRedirectHandler, request.HTTPErrorProcessor):
        opener.add_handler(handler())
    return opener


def _range(response: Any) -> tuple[int | None, int | None]:
    """(first byte, bytes in all) of a partial answer; of one that has nothing to send, the first byte is the end."""
    found = re.fullmatch(r"bytes (?:(\d{1,18})-\d+|\*)/(?:(\d{1,18})|\*)", response.headers.get("Content-Range", ""))
    if found is None:
        return None, None
    first, total = (None if number is None else int(number) for number in found.groups())
    return (total if first is None else first), total


def _goes_on(response: Any, here: int, validator: str | None) -> bool:
    """Whether a partial answer begins where the part ends; some servers send a range of another content."""
    return _range(response)[0] == here and _validator(response) in (validator, None)


def _validator(response: Any) -> str | None:
    """What If-Range may hold: a strong ETag or a date."""
    tag = response.headers.get("ETag", "")
    chosen = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    return chosen if chosen and chosen.isascii() and chosen.isprintable() else None


def _receive(response: Any, part: Path, here: int, total: int | None, limit: int, progress: Progress) -> str | None:
    """Append what comes after the bytes that are `here`; returns why it broke off, None where it did not."""
    with open(part, "ab") as file:
        progress(here, total)
        while total is None or here < total:
            if max(here, total or 0) > limit:
                part.unlink()
                raise DataError(f"the server sends more than {megabytes(limit)}, so it is another file")
            try:
                block = response.read1(BLOCK if total is None else min(BLOCK, total - here))
            except (OSError, HTTPException) as error:
                return _reason(error)
            if not block:
                return None if total is None else "closed too early"
            file.write(block)
            here += len(block)
            progress(here, total)
    return None


def _refused(url: str, status: int) -> DataError:
    return DataError(f"{urlsplit(url).hostname} answers {status} ({responses.get(status, 'unknown')})")


def _reason(error: Exception) -> str:
    """The error in a few words, none of them the server's."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, HTTPException) and not isinstance(cause, OSError):
        return "its answer breaks off or is not HTTP"
    return " ".join(str(getattr(cause, "strerror", None) or cause or "no reason given").split()).rstrip(".")
