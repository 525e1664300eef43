"""Signals are wishes for the end of a round, and all ranks agree on them.

Each test names a mutation that it was seen to catch.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scenery import SOLO, on_ranks
from test_resume import check_same, command
from test_torchrun import records

from fedsim.errors import Stopped
from fedsim.experiment.signals import RunSignals, put_handlers_back
from fedsim.main import main

OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def test_a_signal_is_heard_and_does_nothing_else():
    """Catches a handler that raises in the middle of a round."""
    with RunSignals() as signals:
        assert signals.agree(SOLO) == (0, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signals = RunSignals()
            with signals:
                signal.raise_signal(number)
                assert signals.agree(SOLO) == (number, True)
                assert signals.agree(SOLO) == (number, True), "a wish to stop stays"


def test_a_wish_for_a_checkpoint_is_forgotten_once_it_is_told():
    """Catches a checkpoint in every round after the first wish."""
    with RunSignals() as signals:
        signal.raise_signal(signal.SIGUSR1)
        assert signals.agree(SOLO) == (0, True)
        assert signals.agree(SOLO) == (0, False)


def test_the_first_signal_to_stop_decides_the_status():
    """Catches the status of the last one: schedulers send SIGTERM again and again."""
    with RunSignals() as signals:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.raise_signal(number)
        assert signals.agree(SOLO) == (signal.SIGTERM, True)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_does_not_wait_for_the_round(second):
    """torchrun passes it on as SIGTERM. Catches a user who can't stop a long round."""
    with RunSignals():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)


def test_what_listened_before_listens_again(monkeypatch):
    """Whatever ends the block. Catches handlers that stay."""
    heard = []
    before = [signal.signal(number, lambda number, frame: heard.append(number)) for number in OURS]
    try:
        with pytest.raises(ValueError, match="end"), RunSignals():
            raise ValueError("end")
        for number in OURS:
            signal.raise_signal(number)
    finally:
        for number, handler in zip(OURS, before, strict=True):
            signal.signal(number, handler)
    assert heard == list(OURS)


def test_a_program_that_stops_hears_repeated_signals_until_it_is_told_that_it_outlives_the_run():
    """Catches handlers that fedsim.run leaves behind, and a second SIGTERM that ends a program without its words."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    with put_handlers_back():
        with pytest.raises(Stopped), RunSignals() as signals:
            raise Stopped("stopped", signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) == before[signal.SIGINT]
        assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGHUP) == signals._hear
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize(("told", "agreed"), [
    ({}, (0, False)), ({0: signal.SIGUSR1}, (0, True)), ({-1: signal.SIGUSR1}, (0, True)),
    ({-1: signal.SIGTERM}, (signal.SIGTERM, True)), ({0: signal.SIGINT}, (signal.SIGINT, True)),
    ({0: signal.SIGINT, -1: signal.SIGTERM}, None)])
def test_all_ranks_agree_on_what_reached_any_of_them(ranks, told, agreed):
    """Ranks that are threads hear by hand. Catches a rank that stops alone, and waits for ever for the others."""
    told = {rank % ranks: number for rank, number in told.items()}

    def ask(world):
        signals = RunSignals()
        if world.rank in told:
            signals._hear(told[world.rank], None)
        return signals.agree(world)

    found = set(on_ranks(ranks, ask))
    assert len(found) == 1
    assert found == {agreed} if agreed else found <= {(signal.SIGTERM, True), (signal.SIGINT, True)}


@pytest.fixture(scope="module")
def whole(tiny_camvid, tmp_path_factory) -> Path:
    """A run that no signal reaches."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(arguments(tiny_camvid, out)) == 0
    return out


def arguments(root: Path, out: Path) -> list[str]:
    """Of a run whose last rounds take long enough to be reached."""
    return command(root, out, rounds=40, checkpoint_every=100, evaluate_every=100, batchnorm="pooled")


def start(*arguments: str) -> subprocess.Popen:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-m", "fedsim.main", *arguments], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"})


def wait_until(holds, process: subprocess.Popen) -> None:
    for _ in range(6000):
        if holds():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    raise TimeoutError


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 0)])
def test_a_process_that_is_told_ends_its_round_writes_a_checkpoint_and_stops_or_goes_on(
        whole, tiny_camvid, tmp_path, number, status):
    """A real one. Then another goes on to the same bits. Catches each signal left to the system."""
    out = tmp_path / "run"
    process = start(*arguments(tiny_camvid, out))
    lines = out / "metrics.jsonl"
    wait_until(lambda: lines.exists() and lines.read_bytes().count(b"\n") > 2, process)
    process.send_signal(number)
    if status == 0:
        wait_until(lambda: list((out / "checkpoints").glob("round-*.json")), process)
        first, = (out / "checkpoints").glob("round-*.json")
        assert first.name != "round-000040.json"
    _, said = process.communicate(timeout=100)
    assert process.returncode == status
    if status:
        played = len(records(out)) - 1
        assert 2 <= played < 40
        assert said == (f"fedsim: stopped by {signal.Signals(number).name} after round {played} of 40; --resume {out} "
                        "goes on\n")
        assert [path.name for path in (out / "checkpoints").glob("round-*")] == [f"round-{played:06d}.json"]
        assert main(["--resume", str(out)]) == 0
    else:
        assert said == ""
    check_same(out, whole, rounds=40)
