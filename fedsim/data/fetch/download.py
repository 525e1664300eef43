"""A download over HTTP that a later try can continue.

    PART        the bytes that are here
    PART.json   their address, and the validator of the content: its ETag or Last-Modified

RFC 9110, sections 13.1.5 and 14: Range asks for the bytes that are missing. If-Range asks for all bytes if the content
has changed.
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

Progress = Callable[[int, int | None], None]  # bytes that are here; bytes in all, None if the server does not say


class Interrupted(DataError):
    """The connection broke. The message says how much is here, and that the same command goes on."""


def download(url: str, part: Path, limit: int, progress: Progress, secure: bool = False) -> None:
    """Download `url` into the file `part`, from where an earlier try stopped. At most `limit` bytes.

    secure: refuse plain HTTP, also after a redirection.
    Raises Interrupted if the connection breaks, DataError if there is no answer or a wrong one, SettingsError if the
    address is malformed, OSError if the disk fails.
    """
    _check(url)
    if secure and urlsplit(url).scheme != "https":
        raise SettingsError(f"{url} is plain HTTP, and nothing else vouches for this copy: take an address that begins "
                            "with https, or give the archive's digest with --sha256")
    here, validator = _read_note(url, part)
    response = _ask(url, here, validator, secure)
    if here and response.status != 200 and not _continues(response, here, validator):
        response.close()
        here, response = 0, _ask(url, secure=secure)
    with response:
        if response.status == 200:
            here, total = 0, response.length
            _begin(url, part, _validator_of(response))
        elif here:
            total = _range_of(response)[1]
        else:
            raise _refusal(url, response.status)
        broken = _receive(response, part, here, total, limit, progress)
    if broken:
        of_all = "" if total is None else f" of {megabytes(total)}"
        raise Interrupted(f"the connection broke ({broken}): {megabytes(part.stat().st_size)}{of_all} are here, and "
                          f"the same command {'continues' if can_continue(part) else 'starts anew'}")


def can_continue(part: Path) -> bool:
    """Return whether an earlier try left bytes from which `download` can go on."""
    return _note_path(part).is_file() and part.is_file() and part.stat().st_size > 0


def megabytes(count: int) -> str:
    """Write a number of bytes, such as "186.9 MB"."""
    return f"{count / 1e6:,.1f} MB"


def _check(url: str) -> None:
    """Raise SettingsError if this is no address of a file."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number, or the IPv6 address is malformed
        sound = False
    if not (sound and url.isascii() and url.isprintable() and " " not in url):
        raise SettingsError(f"{url!r} is no address of a file; it must look like https://example.org/camvid.tar.gz")


def _note_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(url: str, part: Path) -> tuple[int, str | None]:
    """Return (bytes that are here, validator) if an earlier try at this address can be continued, else (0, None)."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # a note that is half written counts as missing
        note = json.loads(_note_path(part).read_text())
        if note["url"] == url:
            return part.stat().st_size, note["validator"]
    return 0, None


def _begin(url: str, part: Path, validator: str | None) -> None:
    """Start anew. The old note is removed first, so that new bytes never stand under an old validator."""
    _note_path(part).unlink(missing_ok=True)
    part.write_bytes(b"")
    if validator:
        _note_path(part).write_text(json.dumps({"url": url, "validator": validator}))


def _ask(url: str, here: int = 0, validator: str | None = None, secure: bool = False) -> Any:
    """Request all bytes from `here` on. Return the answer, an http.client.HTTPResponse. Raises DataError."""
    headers = {"User-Agent": f"fedsim/{__version__}", "Accept-Encoding": "identity"}
    if here and validator:
        headers |= {"Range": f"bytes={here}-", "If-Range": validator}
    try:
        return _opener(secure).open(request.Request(url, headers=headers), timeout=SILENCE)
    except HTTPError as error:
        if error.code == 416:  # no byte is missing, or the content has become shorter
            return error
        error.close()
        raise _refusal(url, error.code) from error
    except (OSError, HTTPException, ValueError) as error:
        raise DataError(f"{urlsplit(url).hostname} cannot be reached ({_reason(error)})") from error


def _opener(secure: bool) -> request.OpenerDirector:
    """Return an opener for HTTPS, and for HTTP unless `secure`, so that other redirections are refused."""
    opener = request.OpenerDirector()
    for handler in (request.ProxyHandler, request.UnknownHandler, request.HTTPHandler, request.HTTPSHandler,
                    request.HTTPDefaultErrorHandler, request.HTTPRedirectHandler, request.HTTPErrorProcessor):
        if not (secure and handler is request.HTTPHandler):
            opener.add_handler(handler())
    return opener


def _range_of(response: Any) -> tuple[int | None, int | None]:
    """Return (first byte, bytes in all) of a partial answer. If it sends no byte, the first byte is the end."""
    match = re.fullmatch(r"bytes (?:(\d{1,18})-\d+|\*)/(?:(\d{1,18})|\*)", response.headers.get("Content-Range", ""))
    if match is None:
        return None, None
    first, total = (None if digits is None else int(digits) for digits in match.groups())
    return (total if first is None else first), total


def _continues(response: Any, here: int, validator: str | None) -> bool:
    """Return whether a partial answer continues the part. Some servers send a range of other content."""
    return _range_of(response)[0] == here and _validator_of(response) in (validator, None)


def _validator_of(response: Any) -> str | None:
    """Return a value that If-Range may hold, a strong ETag or a date; None if the answer has neither."""
    tag = response.headers.get("ETag", "")
    chosen = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
    return chosen if chosen and chosen.isascii() and chosen.isprintable() else None


def _receive(response: Any, part: Path, here: int, total: int | None, limit: int, progress: Progress) -> str | None:
    """Append the bytes of the answer to the part. Return why it broke off; None if it is complete."""
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


def _refusal(url: str, status: int) -> DataError:
    return DataError(f"{urlsplit(url).hostname} answers {status} ({responses.get(status, 'unknown')})")


def _reason(error: Exception) -> str:
    """Describe an error in a few words, without any text from the server."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, HTTPException) and not isinstance(cause, OSError):
        return "its answer breaks off or is not HTTP"
    return " ".join(str(getattr(cause, "strerror", None) or cause or "no reason given").split()).rstrip(".")
