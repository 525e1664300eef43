"""A program may call fedsim in any state: its settings change no run and no label, and none of them is changed."""

import os
import random
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from callers import STATES, Callers, in_threads

import fedsim
from fedsim.errors import SettingsError
from fedsim.system.process import take_turn

GROUPS = [
    ["float64", "no_grad", "older precision", "warnings raise", "stdout None", "plots"],
    ["default device", "autocast", "precision of oneDNN", "numpy raises", "stdout closed", "handlers"],
    ["device", "inference", "flags of oneDNN", "deterministic", "stdout broken", "stderr broken", "folder"],
    ["bfloat16", "precision of convolutions", "anomaly", "threads", "stdout ASCII", "stderr None", "log", "words"],
    ["draws"],
]


@pytest.fixture(scope="module")
def callers(tmp_path_factory) -> Callers:
    return Callers(tmp_path_factory.mktemp("callers"))


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_a_run_is_the_same_in_any_state_of_the_program_and_keeps_it(callers, names):
    """Catches every setting that is not taken to its default, and weights that are drawn while other threads draw."""
    callers.check(callers.check_run, names)


@pytest.mark.parametrize("name", [name for name in STATES if name != "draws"])
def test_labels_are_the_same_in_every_state_and_a_refused_run_keeps_it_too(callers, name):
    callers.check(callers.check_labels, [name])
    callers.check(callers.check_refusal, [name])


def test_runs_in_threads_are_played_one_after_another(callers):
    """Catches weights, and numbers of threads, that runs take from each other."""
    callers.check(lambda: in_threads([callers.check_run] * 2 + [callers.check_labels] * 4), ["float64"])


def test_whatever_ends_a_run_the_program_keeps_its_state(callers, monkeypatch, tmp_path):
    """Catches variables that ranks set when they meet, and generators that an algorithm of one's own seeds."""
    def fail(*settings: object) -> None:
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["HOME"] = "lo"
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        torch.set_num_threads(3)
        warnings.simplefilter("error")
        raise KeyboardInterrupt

    def interrupted() -> None:
        with pytest.raises(KeyboardInterrupt):
            fedsim.run(out=str(tmp_path / "run"))

    monkeypatch.setattr("fedsim.api.whole_run", fail)
    callers.check(interrupted, ["bfloat16", "inference", "older precision"])


def test_a_run_inside_a_run_and_two_at_once_on_several_ranks_are_refused(monkeypatch, tmp_path):
    """Both would wait for ever."""
    with take_turn("fedsim.run", waits=True), pytest.raises(SettingsError, match="is called inside of"):
        fedsim.run(out=str(tmp_path / "inner"))
    place = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    entered, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with take_turn("fedsim.run", waits=True):
            entered.set()
            ended.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait()
    try:
        for name, value in place.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError, match="call them one after another"):
            fedsim.run(out=str(tmp_path / "second"))
    finally:
        ended.set()
        holder.join()


def test_a_forked_process_has_a_turn_of_its_own():
    """Catches a process that waits for a thread that it does not have."""
    with take_turn("fedsim.run", waits=True):
        child = os.fork()
        if not child:
            with take_turn("fedsim.run", waits=False):
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


SCRIPT = """
import logging, os, sys
log = logging.getLogger("fedsim")
handler = logging.NullHandler()
if sys.argv[2] == "level":
    log.setLevel("WARNING")
else:
    log.addHandler(handler)
import fedsim
fedsim.run(data="camvid", data_root=sys.argv[1], cars=2, rounds=1, width=2, image_size="32x24", threads=1,
           device="cpu", out=sys.argv[3])
assert log.level == (logging.WARNING if sys.argv[2] == "level" else logging.INFO)
assert (log.handlers == [handler], log.propagate) == (sys.argv[2] == "handler",) * 2
assert os.environ["MPLBACKEND"] == "no-backend"
"""


@pytest.mark.parametrize("sets", ["level", "handler"])
def test_what_a_program_sets_before_it_imports_fedsim_holds(tiny_camvid, tmp_path, sets):
    """The log's level and handlers; also, no figure needs the backend that MPLBACKEND names.

    Catches a level that the first import of fedsim writes over.
    """
    out = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tiny_camvid), sets, str(out)], capture_output=True,
                          text=True, cwd=Path(__file__).parent.parent, env=os.environ | {"MPLBACKEND": "no-backend"})
    assert (done.returncode, done.stderr) == (0, "")
    assert (out / "report" / "index.html").is_file() and "round 1/1" not in done.stdout
