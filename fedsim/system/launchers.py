"""Watch the processes that have started this one, and end this one after them.

A launcher may be killed in a way that it cannot pass on. The processes that it has started would then work on by
themselves, and hold the lock of their run. So they watch it. A launcher writes its name into the environment of what it
starts. torchrun does not, so a rank watches its parent too.
"""

import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "FEDSIM_ENDS_WITH"  # names of processes
POLL = 0.5  # seconds
GRACE = 16.0  # seconds that a process has to end its round and write a checkpoint
SAID = b"fedsim: the process that has started this one is gone, so this one stops too\n"

_watching: int | None = None  # the process that has a thread that watches: threads do not survive a fork


def name_process(pid: int) -> str:
    """Return a name that no other process of any machine has had: boot, pid namespace, number, and time of its start.

    Numbers alone repeat, in containers within seconds. Without Linux's /proc the name is that of the machine and the
    number.
    """
    boot, space = _boot_and_namespace()
    return f"{boot}/{space}/{pid}/{_start_of(pid) or ''}"


def lives(name: str) -> bool:
    """Return whether the process of that name has not ended; True if it cannot be seen from here."""
    boot, space, number, started = name.split("/")
    if (boot, space) != _boot_and_namespace():
        return True
    if started:
        return _start_of(int(number)) == started
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def make_child_environment() -> dict[str, str]:
    """Return the variable that makes a fedsim which this process starts end when this process ends."""
    return {VARIABLE: " ".join([*_launchers(), name_process(os.getpid())])}


def end_with_launchers(quiet: bool = False) -> threading.Event:
    """Let a thread end this process after any of its launchers: with a SIGTERM, and if need be without asking.

    In a run, SIGTERM asks for the end of the round and a checkpoint. Without a launcher, and if there is such a thread
    already, this does nothing.

    quiet: do not say so. Returns the event that ends the thread.
    """
    global _watching
    over, watched = threading.Event(), _launchers()
    if os.environ.get("TORCHELASTIC_RUN_ID"):  # torchrun has started this process
        watched.append(PARENT)
    if watched and _watching != os.getpid():
        _watching = os.getpid()
        threading.Thread(target=_end_after, args=(watched, over, quiet), daemon=True).start()
    return over


@contextmanager
def follow_launchers() -> Iterator[None]:
    """End this process after any of its launchers as long as the block runs."""
    over = end_with_launchers()
    try:
        yield
    finally:
        over.set()


def _end_after(watched: list[str], over: threading.Event, quiet: bool) -> None:
    global _watching
    while all(map(lives, watched)):
        if over.wait(POLL):
            _watching = None
            return
    if not quiet and os.environ.get("RANK", "0") == "0":
        with suppress(OSError):
            os.write(2, SAID)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(128 + signal.SIGTERM)


def _launchers() -> list[str]:
    """Return the names in the environment; what is no name is left out."""
    return [name for name in os.environ.get(VARIABLE, "").split() if _is_name(name)]


def _is_name(text: str) -> bool:
    parts = text.split("/")
    return len(parts) == 4 and parts[2].isascii() and parts[2].isdigit()


def _boot_and_namespace() -> tuple[str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return boot, os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return "-".join(platform.node().split()).replace("/", "-"), ""


def _start_of(pid: int) -> str | None:
    """Return when a process has started, in ticks since the boot; None if it has ended or cannot be seen."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # a /proc of another namespace, with other numbers
            return None
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


PARENT = name_process(os.getppid())  # noted early: a process whose parent has ended gets another one
