"""Two machines, each a network namespace of this one with a host name, joined by nothing but a virtual cable.

Started by the commands of docs/cluster.md. Skipped without `ip` (iproute2) or the privilege to make namespaces.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fedsim.main import main

ROOT = Path(__file__).parent.parent.parent
HOSTS = {"one": "10.77.0.1", "two": "10.77.0.2"}  # name -> address on the cable, whose end is `cable` on both
ROUNDS, TIMEOUT = 12, 12
# torchrun's own questions have no time-out: its agent notices a dead cable when the kernel gives a connection up,
# here after 6 attempts (25 s), by default after 15 (15 minutes).
RETRIES = 6
# A host name and /etc/hosts of the machine's own: $0 is the name, $1 the file, the rest the command.
BOOT = 'hostname "$0" && mount --bind "$1" /etc/hosts && shift && exec "$@"'


class Node(NamedTuple):
    """A machine: its namespace and its host name."""

    namespace: str
    name: str

    def ip(self, *words: str) -> None:
        ip("-n", self.namespace, *words)

    def processes(self) -> list[int]:
        found = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True)
        return [int(pid) for pid in found.stdout.split()]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    if shutil.which("ip") is None:
        pytest.skip("needs ip, of iproute2")
    pair = [Node(f"fedsim-{os.getpid()}-{name}", name) for name in HOSTS]
    try:
        connect(*pair)
        yield pair
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs the privilege to make network namespaces ({error.stderr.strip()})")
    finally:
        for node in pair:
            if Path("/run/netns", node.namespace).exists():
                for process in node.processes():
                    os.kill(process, 9)
                ip("netns", "del", node.namespace)


def connect(one: Node, other: Node) -> None:
    for node in (one, other):
        ip("netns", "add", node.namespace)
    ip("link", "add", "cable", "netns", one.namespace, "type", "veth", "peer", "name", "cable", "netns",
       other.namespace)
    for node in (one, other):
        ip("netns", "exec", node.namespace, "sysctl", "-w", f"net.ipv4.tcp_retries2={RETRIES}")
        node.ip("address", "add", f"{HOSTS[node.name]}/30", "dev", "cable")
        node.ip("link", "set", "lo", "up")
        node.ip("link", "set", "cable", "up")


class Ended(NamedTuple):
    """What the torchrun of a machine left: its exit status and all that it and its ranks have said."""

    status: int
    said: str


class Job:
    """A run on two ranks of each machine, under way."""

    def __init__(self, nodes: list[Node], folder: Path, options: list[str]) -> None:
        hosts = folder / "hosts"
        known = {"localhost": "127.0.0.1"} | HOSTS
        hosts.write_text("".join(f"{address} {name}\n" for name, address in known.items()))
        torchrun = [sys.executable, "-m", "fedsim.distributed.torchrun", "--nnodes=2", "--nproc_per_node=2",
                    "--rdzv_backend=c10d", f"--rdzv_endpoint={nodes[0].name}:29500"]
        self.logs = [folder / f"{node.name}.log" for node in nodes]
        self.processes = []
        for node, log in zip(nodes, self.logs, strict=True):
            boot = ["ip", "netns", "exec", node.namespace, "unshare", "--uts", "sh", "-c", BOOT, node.name, str(hosts)]
            with open(log, "w") as file:
                self.processes.append(subprocess.Popen(
                    [*boot, *torchrun, "-m", "fedsim.main", *options], cwd=folder, stdout=file,
                    stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}))

    def wait(self, seconds: float) -> list[Ended]:
        """Both machines', in their order."""
        limit = time.monotonic() + seconds
        statuses = [process.wait(max(0.0, limit - time.monotonic())) for process in self.processes]
        return [Ended(status, log.read_text()) for status, log in zip(statuses, self.logs, strict=True)]


def command(data: Path, out: Path) -> list[str]:
    return ["--algo", "admm", "--data", "camvid", "--data-root", str(data), "--cars", "5", "--rounds", str(ROUNDS),
            "--batch-size", "2", "--image-size", "32x24", "--width", "4", "--evaluate-every", str(ROUNDS),
            "--threads", "1", "--timeout", str(TIMEOUT), "--out", str(out)]


def digests(run: Path) -> list[str]:
    return [json.loads(line)["theta_sha256"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tiny_camvid, tmp_path_factory) -> list[str]:
    """The digests of the run in one process, which are those of any number of ranks of one machine."""
    run = tmp_path_factory.mktemp("alone") / "run"
    assert main(command(tiny_camvid, run)) == 0
    return digests(run)


class Cut(NamedTuple):
    """A run whose cable was cut: its directory and digests, what both machines left, seconds until both said so."""

    run: Path
    digests: list[str]
    ended: list[Ended]
    seconds: float


@pytest.fixture(scope="module")
def cut(nodes, tiny_camvid, tmp_path_factory) -> Cut:
    run = tmp_path_factory.mktemp("cut") / "run"
    job = Job(nodes, run.parent, command(tiny_camvid, run))
    until(lambda: (run / "metrics.jsonl").exists() and len(digests(run)) > 2, 120)
    nodes[0].ip("link", "set", "cable", "down")
    started = time.monotonic()
    until(lambda: all("fedsim: rank" in log.read_text() for log in job.logs), 3 * TIMEOUT)
    seconds = time.monotonic() - started
    ended = job.wait(60)
    return Cut(run, digests(run), ended, seconds)


def until(happened: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_two_machines_give_the_bits_of_one(cut, alone):
    assert cut.digests == alone[:len(cut.digests)] and 2 < len(cut.digests) <= ROUNDS
    assert json.loads((cut.run / "environment.json").read_text())["ranks"] == 4


def test_where_the_cable_is_cut_both_machines_say_so_and_leave_nothing_running(cut, nodes):
    """Catches ranks that wait for ever, and a machine that only stops because the other told it."""
    assert cut.seconds < TIMEOUT + 20  # some of them for finding who it was
    for node, ended in zip(nodes, cut.ended, strict=True):
        assert ended.status == 1 and "Traceback" not in ended.said, ended.said
        assert not node.processes()
    with_store, without = cut.ended
    assert re.search(r"^fedsim: rank [01] waited .* for rank [23], last heard of .*\bround \d+", with_store.said, re.M)
    assert re.search("^fedsim: rank [23] waited .* for the other ranks; the store .* is silent", without.said, re.M)


def test_once_the_cable_is_whole_again_the_run_goes_on_to_the_same_bits(cut, nodes, alone, tmp_path):
    nodes[0].ip("link", "set", "cable", "up")
    ended = Job(nodes, tmp_path, ["--resume", str(cut.run)]).wait(120)
    assert [node.status for node in ended] == [0, 0], ended
    assert digests(cut.run) == alone
