"""fedsim run: the ranks it starts, and how its end is told."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedsim.cli import main
from fedsim.distributed import devices
from fedsim.options import flag
from fedsim.settings.fields import read_settings

ROOT = Path(__file__).parents[2]
SHORT = ("--data", "streets", "--image-size", "32x24", "--width", "4", "--rounds", "1")


@pytest.fixture
def started(monkeypatch) -> list:
    """What would be started: (ranks, arguments)."""
    calls: list = []
    monkeypatch.setattr("fedsim.distributed.torchrun.start",
                        lambda ranks, arguments: calls.append((ranks, arguments)) or 0)
    monkeypatch.setattr("fedsim.experiment.run.run", lambda settings, given: calls.append(
        (1, [word for name, value in given.items() for word in (flag(name), str(value))])))
    return calls


def type_(monkeypatch, *words: str) -> int:
    """The exit status of a command that is typed."""
    monkeypatch.setattr("sys.argv", ["fedsim", *words])
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code)
    return 0


@pytest.mark.parametrize(("words", "cores", "ranks"), [
    ((), 2, 2), ((), 64, 4), (("--cars", "3"), 8, 3), (("--cars", "100"), 8, 8), (("--threads", "4"), 8, 2),
    (("--algo", "central"), 8, 1)])
def test_there_are_as_many_ranks_as_cars_or_as_the_machine_has_room_for(started, monkeypatch, words, cores, ranks):
    monkeypatch.setattr(devices, "cores", lambda: cores)
    assert type_(monkeypatch, "run", *words) == 0
    assert started == [(ranks, [*words])]


def test_gpus_count_where_there_are_some(started, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    type_(monkeypatch, "run", "--cars", "5")
    assert started[0][0] == 3


def test_ranks_that_are_asked_for_are_started_and_options_are_passed_on(started, monkeypatch):
    type_(monkeypatch, "run", "--ranks", "4", "--algo", "prox", "--mu", "0.5", "--quiet")
    assert started == [(4, ["--algo", "prox", "--mu", "0.5", "--quiet"])]


def test_a_run_that_goes_on_has_its_own_number_of_cars(started, monkeypatch, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.toml").write_text("cars = 3\n")
    monkeypatch.setattr(devices, "cores", lambda: 8)
    type_(monkeypatch, "run", "--resume", str(out))
    assert started[0][0] == 3


@pytest.mark.parametrize(("words", "says"), [
    (("--algoo", "avg"), "there is no option --algoo (did you mean --algo or --loss?)"),
    (("--ranks", "0"), "0 is not in the"),
    (("--lr", "-1"), "--lr is -1"), (("--resume", "nowhere"), "there is no run in it")])
def test_a_mistake_is_told_before_any_rank_starts(started, monkeypatch, capsys, words, says):
    assert type_(monkeypatch, "run", *words) == 2 and not started
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1


def fedsim(*words: str, folder: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "fedsim", *words], cwd=folder, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_real_ranks_play_the_run_and_say_nothing_when_asked_to_be_quiet(tmp_path):
    run = fedsim("run", *SHORT, "--ranks", "2", "--cars", "3", "--quiet", "--out", "it", folder=tmp_path)
    out, err = run.communicate(timeout=120)
    assert (run.returncode, out, err) == (0, "", "")
    told = json.loads((tmp_path / "it" / "environment.json").read_text())
    assert told["ranks"] == 2 and len(told["partition"]) == 3
    config = tmp_path / "it" / "config.toml"
    assert config.read_text().startswith("# repeat with: fedsim run --ranks 2 --config it/config.toml\n")
    assert read_settings(config)["cars"] == 3


def test_verbose_tells_more_of_every_round(monkeypatch, capsys, tmp_path):
    assert type_(monkeypatch, "run", *SHORT, "--ranks", "1", "--verbose", "--out", str(tmp_path / "it")) == 0
    lines = capsys.readouterr().out.splitlines()
    round_ = next(place for place, line in enumerate(lines) if line.startswith("round 1/1"))
    assert "learning rate 0.2" in lines[round_ + 1] and "MB up" in lines[round_ + 1]


def test_a_mistake_that_only_ranks_can_see_is_told_once_with_status_2(tmp_path):
    run = fedsim("run", *SHORT, "--ranks", "2", "--cars", "1", "--out", "it", folder=tmp_path)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 2 and err.count("fedsim: ") == 1 and "every rank plays at least one car" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_ranks_which_save_and_say_how_to_go_on(tmp_path, number):
    run = fedsim("run", *SHORT[:-1], "1000", "--ranks", "2", "--out", "it", folder=tmp_path)
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not list((tmp_path / "it").glob("checkpoints/round-*.json")):
        time.sleep(0.2)
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 128 + number and "--resume it goes on" in err, err


@pytest.mark.parametrize(("words", "place", "holds"), [
    ("fedsim ru", 1, "plain,run"), ("fedsim run --algo a", 3, "plain,admm"), ("fedsim run --aggreg", 2, "--aggregator"),
    ("fedsim run --out ", 3, "file,"), ("fedsim data ", 2, "plain,fetch"),
    ("fedsim compare --algos central,ad", 3, "plain,central,admm"), ("fedsim show runs/", 2, "file,runs/"),
    ("fedsim compare runs/", 2, "file,runs/")])
def test_shells_complete_commands_options_and_values(words, place, holds):
    done = subprocess.run([sys.executable, "-m", "fedsim"], capture_output=True, text=True, env=os.environ | {
        "_FEDSIM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(place), "PYTHONPATH": str(ROOT)})
    assert holds in done.stdout


@pytest.mark.parametrize("command", [("run",), ("compare", "--algos", "avg")])
def test_commands_that_start_ranks_are_refused_under_torchrun(started, monkeypatch, capsys, command):
    """In one sentence, by the first rank. Catches whole federations that are played side by side."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert type_(monkeypatch, *command) != 0 and not started
        said = capsys.readouterr().err
        assert len(said.splitlines()) == lines and (not lines or "cannot be started by torchrun" in said)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="root alone may rename a machine")
def test_ranks_meet_on_a_machine_whose_name_does_not_resolve(tmp_path):
    """Catches a wait of minutes for a look-up that fails."""
    options = " ".join(["--ranks", "2", *SHORT, "--threads", "1", "--quiet", "--out", str(tmp_path / "run")])
    done = subprocess.run(
        ["unshare", "--uts", "sh", "-c", f"hostname nowhere.invalid && {sys.executable} -m fedsim run {options}"],
        capture_output=True, text=True, timeout=90, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report" / "summary.md").exists()
