"""Launchers that are killed alone, or get signals: their ranks save what there is, end soon, and leave the run free.

Real ranks are few, because they take seconds to start. The rules themselves are tested on processes without torch.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from drilling import Job, digests, options, send

from fedsim.main import main
from fedsim.system.children import find_children, find_descendants
from fedsim.system.files import is_locked
from fedsim.system.launchers import VARIABLE, lives, make_child_environment, name_process

ROOT = Path(__file__).parents[2]
LIMIT = 20  # seconds in which ranks end after their launcher
ROUNDS = 60
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")


def until(happened: Callable[[], object], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < limit
        time.sleep(0.05)


def python(*words: str, **environment: str) -> subprocess.Popen:
    """Start Python. It may wait for a line: no one writes one, and its stdin does not end either."""
    return subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True,
                            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment)


@pytest.fixture(scope="module")
def asked(tiny_camvid) -> list[str]:
    """Options of a run that writes no checkpoint unless it is asked to."""
    return [*options("admm", tiny_camvid, ROUNDS), "--checkpoint-every", "1000", "--evaluate-every", "1000"]


@pytest.fixture(scope="module")
def undisturbed(asked, tmp_path_factory) -> list[tuple[int, str]]:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert main([*asked, "--out", str(out)]) == 0
    return digests(out)


@pytest.mark.parametrize("program", [None, ["-m", "fedsim", "run", "--ranks", "2"]], ids=["torchrun", "fedsim-run"])
def test_ranks_end_after_their_launcher_with_a_checkpoint_and_the_run_goes_on(program, asked, undisturbed, tmp_path):
    """Catches ranks that train on and hold the lock, and ranks that lose the rounds since the last checkpoint."""
    with Job(None if program else 2, tmp_path / "run", asked, **({"program": program} if program else {})) as job:
        job.until(lambda: len(digests(job.out)) > 3, 60)
        send(signal.SIGKILL, [job.launcher])
        until(lambda: not job.processes(), LIMIT)
        assert not is_locked(job.out / "lock")
    played = digests(job.out)
    assert 3 < len(played) <= ROUNDS and (job.out / f"checkpoints/round-{len(played) - 1:06d}.json").exists()
    assert "fedsim: stopped by SIGTERM" in job.log.read_text()
    assert main(["--resume", str(job.out)]) == 0
    assert digests(job.out) == undisturbed


def test_a_launcher_passes_signals_on_to_its_ranks(asked, tmp_path):
    """One run, started under nohup. Catches a SIGHUP that is heard, a SIGUSR1 that ends all, and a second Ctrl-C that
    leaves the launcher waiting."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        job = Job(None, tmp_path / "run", [*asked, "--rounds", "100000"], ["-m", "fedsim", "run", "--ranks", "2"])
    finally:
        signal.signal(signal.SIGHUP, before)
    with job:
        until(lambda: len(find_descendants(job.launcher)) == 4, 60)
        send(signal.SIGUSR1, [job.launcher])  # ranks that are starting
        job.until(lambda: len(digests(job.out)) > 1, 60)
        ranks = [*job.ranks().values()]
        send(signal.SIGHUP, [job.launcher, *ranks])
        send(signal.SIGUSR1, [job.launcher])
        job.until(lambda: list(job.out.glob("checkpoints/round-*.json")), 60)
        seen = len(digests(job.out))
        job.until(lambda: len(digests(job.out)) > seen + 1, 60)
        send(signal.SIGINT, [job.launcher])
        time.sleep(0.1)
        send(signal.SIGINT, [job.launcher])
        assert job.wait(LIMIT) == 130, job.log.read_text()
        assert not job.processes() and "Traceback" not in job.log.read_text()


def test_a_rank_that_waits_for_the_others_ends_with_its_launcher(tmp_path):
    """Catches a wait of --timeout seconds."""
    rank = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "0", "TORCHELASTIC_RUN_ID": "none"}
    script = """
import os, socket, subprocess, sys, time
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    os.environ["MASTER_PORT"] = str(free.getsockname()[1])
subprocess.Popen([sys.executable, "-m", "fedsim.main", "--cars", "2"])
print(os.environ["MASTER_PORT"], flush=True)
time.sleep(300)
"""
    launcher = python("-c", script, **rank)
    port = f":{int(launcher.stdout.readline()):04X} "
    own, = find_children(launcher.pid)
    until(lambda: port in Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text(), 60)  # it waits
    name = name_process(own)
    launcher.kill()
    until(lambda: not lives(name), LIMIT)


def test_a_command_whose_launcher_is_gone_ends_before_it_begins():
    """What `fedsim compare` starts has its name. Catches a run that plays on although nobody counts it."""
    gone = python("-c", "input()")
    name = name_process(gone.pid)
    gone.kill()
    gone.wait()
    run = python("-m", "fedsim", "run", "--ranks", "2", **{VARIABLE: f"{name_process(os.getpid())} {name} odd 1/2/x/4"})
    _, said = run.communicate(timeout=LIMIT)
    assert run.returncode == -signal.SIGTERM and "the process that has started this one is gone" in said


WORKS_ON = """
import os, signal, subprocess, sys, time
from fedsim.system import launchers
launchers.GRACE = 3.0
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
launchers.end_with_launchers()
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""


def test_a_process_that_cannot_end_its_round_in_time_ends_all_the_same():
    """Catches a wait for a round that takes an hour."""
    launcher = python("-c", "input()")
    rank = python("-c", WORKS_ON, **{VARIABLE: name_process(launcher.pid)})
    assert rank.stdout.readline() == "ready\n"
    launcher.kill()
    launcher.wait()
    out, _ = rank.communicate(timeout=LIMIT)
    assert out == "asked\n" and rank.returncode == 143


SLOW_TO_STOP = """
import signal, subprocess, sys, time
from fedsim.system.children import run_in_child

def work():
    own = subprocess.Popen([sys.executable, "-c", RANK], start_new_session=True)
    def stop(number, frame):
        signal.signal(number, lambda *_: print("a second one", flush=True))  # which is what must not come
        own.send_signal(number)
        wait()
        raise SystemExit(128 + number)
    def wait():
        while own.poll() is None:
            time.sleep(0.01)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    wait()

RANK = '''
import signal, sys, time
heard = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, _: heard.append(number))
print("ready", flush=True)
while len(heard) < 3:
    time.sleep(0.01)
print(*map(int, heard), flush=True)
'''
print(run_in_child(work))
"""


@pytest.mark.parametrize("pause", [0, 0.02, 0.3])
def test_only_the_first_signal_goes_to_the_child_and_the_others_straight_to_its_ranks(pause):
    """Catches a second signal in the middle of the handling of the first one, after which torchrun waits for a day."""
    launcher = python("-c", SLOW_TO_STOP)
    assert launcher.stdout.readline() == "ready\n"
    for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM):
        launcher.send_signal(number)
        time.sleep(pause or 0.01)
    out, said = launcher.communicate(timeout=LIMIT)
    numbers, status = out.splitlines()
    assert sorted(map(int, numbers.split())) == [2, 10, 15] and status == "130", (out, said)


def test_a_process_has_a_name_that_does_not_come_again():
    """Catches host and number alone, which repeat in containers."""
    own = name_process(os.getpid())
    boot, space, number, started = own.split("/")
    assert lives(own) and not lives(f"{boot}/{space}/{number}/{int(started) - 1}")
    assert lives(f"other/{space}/{number}/1") and lives(f"{boot}/other/{number}/1"), "it cannot be seen from here"
    assert make_child_environment()[VARIABLE].split()[-1] == own


SEVERAL = """
import os, sys
from pathlib import Path
import fedsim

attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
for seed in (0, 1):
    run = fedsim.run(algo="avg", seed=seed, cars=2, rounds=1, image_size="32x24", width=4, threads=1)
    if os.environ["RANK"] == "0":
        with open(f"{attempt}.txt", "a") as file:
            print(run.directory, file=file)
        if attempt == "0":
            sys.exit(1)
"""


def test_two_runs_in_one_launch_are_two_runs_also_after_a_restart(tmp_path):
    """Catches a second run that is taken for the first, and a first one that is played again."""
    script = tmp_path / "several.py"
    script.write_text(SEVERAL)
    done = subprocess.run(
        [sys.executable, "-m", "fedsim.distributed.torchrun", "--standalone", "--local-addr=127.0.0.1",
         "--nproc_per_node=2", "--max-restarts=1", str(script)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / f"{attempt}.txt" for attempt in "01")
    assert first.read_text().split() == second.read_text().split()[:1]
    assert len(set(second.read_text().split())) == 2 == len(list((tmp_path / "runs").iterdir()))


@pytest.mark.parametrize(("variables", "words", "says"), [
    ({"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "soon"}, ["--standalone"], "TORCH_ELASTIC_SHUTDOWN_TIMEOUT is 'soon'"),
    ({}, ["--nnodes=x"], "torchrun cannot start the ranks (ValueError: "),
    ({"PET_NNODES": "2:1"}, [], "torchrun cannot start the ranks")])
def test_what_torchrun_cannot_use_is_told_in_a_sentence(variables, words, says):
    """Catches torchrun's own traceback."""
    done = python("-m", "fedsim.distributed.torchrun", *words, "-m", "fedsim.main", **variables)
    _, said = done.communicate(timeout=60)
    assert done.returncode == 2 and says in said and len(said.splitlines()) == 1, said
