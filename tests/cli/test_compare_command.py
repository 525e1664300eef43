"""fedsim compare: what is played, what is played again, what is refused, and what is said about it.

The numbers themselves are in tests/comparison/test_comparison.py. Each test names a mutation that it was seen to catch.
"""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest

import fedsim.main
from fedsim.cli import main
from fedsim.comparison.plan import Job, make_plan, open_folder
from fedsim.comparison.playing import play, share_of_gpus
from fedsim.comparison.tuning import Tuning
from fedsim.errors import OutputError, SettingsError, Stopped
from fedsim.options import as_arguments

ROOT = Path(__file__).parents[2]
FILES = {"index.html", "report.md", "table.csv", "summary.csv", "table.tex", "curves.png", "classes.png", "scenes.png"}


def tiny(root: Path) -> list[str]:
    return ["--data", "camvid", "--data-root", str(root), "--cars", "2", "--image-size", "32x24", "--width", "4",
            "--threads", "1", "--rounds", "1"]


@pytest.fixture
def compare(monkeypatch, capsys, tmp_path):
    """The command in an empty directory, with what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["fedsim", "compare", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def at_home(monkeypatch):
    """Runs are played in this process: what is played is looked at, not how. Gives the names of the runs, in order."""
    names = []

    def play_here(jobs, at_once, what):
        left = [job for job in jobs if not job.has_ended()]
        for job in left:
            names.append(f"{job.path.parent.name}/{job.path.name}")
            options = {name: value for name, value in job.options.items() if name != "ranks"}
            words = as_arguments(options)
            job.log.parent.mkdir(exist_ok=True)
            with open(job.log, "a") as log, contextlib.redirect_stderr(log):
                fedsim.main.main([*words, "--out", str(job.path), "--resume", "auto"])
        return [job for job in left if not job.has_ended()]

    monkeypatch.setattr("fedsim.cli.compare.play", play_here)
    return names


@pytest.fixture(scope="module")
def matrix(tiny_camvid, tmp_path_factory) -> Path:
    """Two algorithms with two seeds, played by processes of their own. Read only: copy it to change it."""
    folder = tmp_path_factory.mktemp("matrix") / "compared"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["fedsim", "compare", "--algos", "central,avg", "--seeds", "2", "--jobs", "2",
                                   "--out", str(folder), *tiny(tiny_camvid), "--participation", "0.5"])
        main()
    return folder


def options_of(run: Path) -> str:
    return (run / "config.toml").read_text()


def test_an_option_goes_to_the_algorithms_that_read_it():
    """Catches options that are passed on to all, or to none, and one that builds on another tried before it."""
    given = {"rho": "0.1", "participation": 0.5, "server_optimizer": "adam", "server_beta2": 0.9, "attackers": 1,
             "attack": "scale", "lr": 0.1, "optimizer": "adam"}
    plan = make_plan(["central", "fedavg", "admm", "avgm"], given, 1, {}, 1, None)
    everywhere, federated = {"lr", "optimizer", "cars", "threads"}, {"participation", "attackers", "attack"}
    assert {algo: own.keys() - everywhere for algo, own in plan.options.items()} == {
        "central": set(), "avg": federated | {"server_optimizer", "server_beta2"}, "admm": federated | {"rho"},
        "avgm": federated}


@pytest.mark.parametrize(("algos", "given", "says"), [
    (["avg", "prox"], {"rho": "0.1"}, "--rho is read by none of avg, prox"),
    (["avg", "admm"], {"optimizer": "adam"}, "--rho auto matches it"),  # a contradiction is none of the others' either
    (["avg", "fedavg"], {}, "name every algorithm once"),
    (["avg", "fancy"], {}, "--algo is 'fancy'"),
])
def test_what_does_not_go_together_is_refused_before_anything_is_played(algos, given, says):
    """Catches an option that nobody reads and nobody misses, and an algorithm that shares a directory with itself."""
    with pytest.raises(SettingsError, match=says.replace("?", r"\?")):
        make_plan(algos, given, 1, {}, 1, None)


def test_every_run_has_the_same_cars_and_threads_and_a_directory_of_its_own(tmp_path, monkeypatch):
    """Catches cars that depend on the number of ranks, and an algorithm of a user's own in a directory with a colon."""
    plan = make_plan(["avg", "admm"], {}, 2, {}, 1, None)
    jobs = plan.jobs(tmp_path, None)
    assert [job.path.name for job in jobs] == ["avg-0", "admm-0", "avg-1", "admm-1"]
    assert {(job.options["cars"], job.options["threads"], job.options["ranks"]) for job in jobs} == {
        (4, plan.threads, plan.ranks)}
    assert make_plan(["avg"], {"cars": 4}, 1, {}, 4, None).ranks == 1
    monkeypatch.setattr("fedsim.comparison.plan.ranks_that_fit", lambda device, threads: 8)
    assert make_plan(["avg"], {"cars": 4}, 1, {}, 2, None).ranks == 4  # each has half of the eight


def test_central_gets_one_rank_and_the_threads_of_the_others(tmp_path, monkeypatch):
    """Catches ranks that only look on, and threads that change the bits."""
    monkeypatch.setattr("fedsim.comparison.plan.ranks_that_fit", lambda device, threads: 4)
    central, avg = make_plan(["central", "avg"], {"cars": 4}, 1, {}, 1, None).jobs(tmp_path, None)
    assert (central.options["ranks"], avg.options["ranks"]) == (1, 4)
    assert central.options["threads"] == avg.options["threads"]


def test_learning_rates_are_tried_on_the_validation_split_and_the_best_is_played(tmp_path):
    """Catches tuning on the split that is reported, and one learning rate for all."""
    plan = make_plan(["avg", "admm", "prox"], {"eval_split": "test"}, 1, {"lr": ["0.1", "0.2"]}, 1, None)
    tries = plan.tuning_jobs(tmp_path)
    assert [job.path.name for job in tries["avg"].values()] == ["avg-lr0.1", "avg-lr0.2"]
    assert {(job.options["eval_split"], job.options["seed"]) for own in tries.values() for job in own.values()} == {
        ("val", 0)}
    low, high = (("lr", 0.1),), (("lr", 0.2),)
    tuning = Tuning("val", {"avg": {low: 0.3, high: 0.4}, "admm": {low: 0.3, high: None},
                            "prox": {low: None, high: None}})
    final = {job.path.name: job.options for job in plan.jobs(tmp_path, tuning)}
    assert {name: (own["lr"], own["eval_split"]) for name, own in final.items()} == {
        "avg-lr0.2-0": (0.2, "test"), "admm-lr0.1-0": (0.1, "test")}


def test_gpus_are_shared_out():
    """Catches runs at once that all take the first GPU."""
    assert [share_of_gpus(slot, 2, ["0", "1", "2"]) for slot in range(2)] == ["0,2", "1"]
    assert [share_of_gpus(slot, 3, ["4", "5"]) for slot in range(3)] == ["4", "5", "4"]
    assert share_of_gpus(0, 1, ["0", "1"]) is None and share_of_gpus(0, 2, []) is None


def test_a_comparison_goes_on_with_what_it_was_begun_with(tmp_path):
    """Catches runs of different settings in one table, and a directory of somebody else's that is filled."""
    def started(given: dict, grid=None, folder=tmp_path / "x") -> int:
        plan = make_plan(["avg"], given, 1, grid or {}, 1, folder)
        with open_folder(plan, given, folder):
            return plan.threads

    assert started({"threads": 3, "rounds": 2, "timeout": 5.0}) == 3
    assert started({"rounds": 2, "timeout": 9.0}) == 3  # the threads that are there; the time-out is free
    for given, grid, says in (({"rounds": 3}, {}, "--rounds is 3, but .*x was begun with 2"),
                              ({}, {}, "--rounds is 16"), ({"rounds": 2, "lr": 0.3}, {}, "--lr is 0.3"),
                              ({"rounds": 2, "threads": 2}, {}, "--threads is 2"),
                              ({"rounds": 2}, {"lr": ["0.1", "0.2"]}, "--lrs is 0.1,0.2, but .* begun without it"),
                              ({"rounds": 2}, {"momentum": ["0", "0.9"]}, "--grid is momentum=0,0.9, but .* begun")):
        with pytest.raises(SettingsError, match=says):
            started(given, grid)
    started({"rounds": 2}, {"momentum": ["0", "0.9"]}, tmp_path / "y")
    started({"rounds": 2}, {"momentum": ["0", "0.5", "0.9"]}, tmp_path / "y")  # values may be added
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with pytest.raises(OutputError, match="already holds"):
        started({}, folder=tmp_path / "mine")


def test_a_matrix_is_played_and_reported_on(matrix):
    """In processes of their own. Catches an option that is lost on the way, and a run that is not in the tables."""
    assert {path.name for path in matrix.iterdir()} >= FILES
    assert {path.name for path in (matrix / "runs").iterdir() if path.is_dir()} == {
        "central-0", "central-1", "avg-0", "avg-1"}
    assert "participation = 0.5" in options_of(matrix / "runs" / "avg-1")
    assert "participation = 1.0" in options_of(matrix / "runs" / "central-1")
    assert "Written:" in (matrix / "runs" / "avg-1.log").read_text()
    with open(matrix / "table.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        last = json.loads((Path(line["run"]) / "metrics.jsonl").read_text().splitlines()[-1])
        assert float(line["final_miou"]) == last["global"]["miou"] and 0 <= float(line["worst_car_miou"]) <= 1
    assert [line["seed"] for line in lines] == ["0", "1", "0", "1"]


def test_only_what_has_not_ended_is_played_again(compare, at_home, matrix, tiny_camvid, tmp_path, monkeypatch):
    """Catches runs that are played twice, and one without its report that counts as ended."""
    monkeypatch.setattr("fedsim.cli.compare.write_report", lambda *_: None)
    shutil.copytree(matrix, tmp_path / "copy")
    lost = tmp_path / "copy" / "runs" / "avg-1" / "report" / "summary.md"
    lost.unlink()
    compare("--algos", "central,avg", "--seeds", 2, "--out", "copy", *tiny(tiny_camvid), "--participation", "0.5")
    assert at_home == ["runs/avg-1"] and lost.exists()


def test_tuned_runs_are_reported_with_their_grid(compare, at_home, tiny_camvid, tmp_path):
    """Catches a report that does not tell how learning rates were chosen, and one that was not used.

    And a rate that diverges: as a failure, untold, or tried again.
    """
    words = ["--algos", "avg", "--lrs", "0.01,0.4,1e30", "--seeds", 1, "--out", "out", *tiny(tiny_camvid)]
    said = compare(*words)
    scores = [json.loads((tmp_path / "out" / "tuning" / name / "metrics.jsonl").read_text().splitlines()[-1])
              ["global"]["miou"] for name in ("avg-lr0.01", "avg-lr0.4")]
    best = "0.01" if scores[0] >= scores[1] else "0.4"
    assert at_home == ["tuning/avg-lr0.01", "tuning/avg-lr0.4", "tuning/avg-lr1e+30", f"runs/avg-lr{best}-0"]
    assert f"lr = {best}\n" in options_of(tmp_path / "out" / "runs" / f"avg-lr{best}-0")
    assert f"{min(scores):.3f}" in said and f"{max(scores):.3f}" in said
    assert "WARNING: avg has no score at lr 1e+30: round 1: " in said and "failed" not in said
    assert "Learning rates" in (tmp_path / "out" / "index.html").read_text()
    at_home.clear()
    compare(*words)
    assert at_home == []


def test_options_are_tried_by_the_algorithms_that_read_them(compare, at_home, tiny_camvid, tmp_path):
    """With and without a flag of their own, in all combinations. Catches a value that is tried and not played."""
    said = compare("--algos", "avg,admm", "--grid", "kappa=0.5,0.7", "--grid", "rho=auto,0.1", "--seeds", 1, "--out",
                   "out", *tiny(tiny_camvid))
    tried = [f"tuning/admm-kappa{kappa}-rho{rho}" for kappa in ("0.5", "0.7") for rho in ("auto", "0.1")]
    assert at_home[:4] == tried and at_home[4] == "runs/avg-0" and len(at_home) == 6
    chosen = at_home[5].removeprefix("runs/").removesuffix("-0")
    settings = tomllib.loads((tmp_path / "out" / "runs" / f"{chosen}-0" / "config.toml").read_text())
    kappa, rho = settings.get("option", {}).get("kappa", 0.7), settings["rho"]
    assert chosen == f"admm-kappa{kappa:g}-rho{rho}" and "Settings that were tried" in said
    common = tomllib.loads((tmp_path / "out" / "comparison.toml").read_text())
    assert common["grid"] == {"kappa": ["0.5", "0.7"], "rho": ["auto", "0.1"]} and common["lrs"] == []


def test_an_algorithm_that_diverges_at_every_rate_is_left_out(compare, at_home, tiny_camvid, capsys):
    """Catches a status that says all is well, and a failure that would be played again in vain."""
    with pytest.raises(SystemExit) as stopped:
        compare("--algos", "avg", "--lrs", "1e29,1e30", "--seeds", 1, "--out", "out", *tiny(tiny_camvid))
    told = capsys.readouterr().err
    assert stopped.value.code == 1 and at_home == ["tuning/avg-lr1e+29", "tuning/avg-lr1e+30"]
    assert told == ("fedsim: avg left out: no run of the tuning ended; take smaller learning rates, in another "
                    "directory\n")


def test_runs_that_are_there_are_compared(compare, matrix, tmp_path):
    """Catches a report in the directory of a run, and seeds that are not paired."""
    said = compare(*(matrix / "runs" / name for name in ("avg-0", "central-0")), "--target", "0.01")
    folder, = (tmp_path / "comparisons").iterdir()
    assert {path.name for path in folder.iterdir()} == FILES and "rounds to 0.010" in said
    assert folder.name.startswith("avg-0-central-0-")


@pytest.mark.parametrize(("arguments", "says"), [
    ([], "name either existing runs, or algorithms"),
    (["RUN", "--algos", "avg"], "name either existing runs, or algorithms"),
    (["RUN", "--seeds", "2"], "--seeds belongs to a comparison that plays runs"),
    (["RUN", "--rounds", "2"], "--rounds belongs to a comparison that plays runs"),
    (["RUN", "RUN"], "are one run played twice"),
    (["RUN", "nowhere"], "nowhere is not a run directory"),
    (["RUN", "--out", "full"], "already holds"),
    (["--algos", "avg", "--lrs", "0.1,x"], "--lr is x; expected float"),
    (["--algos", "avg", "--lrs", "0.1,"], "--lrs is 0.1,; write values with commas"),
    (["--algos", "avg", "--lrs", "0.1,-1"], "--lr is -1.0"),
    (["--algos", "avg", "--lrs", "0.1"], "--lrs needs at least two"),
    (["--algos", "avg", "--lrs", ""], "--lrs is ; write values with commas"),
    (["--algos", "avg", "--lrs", "0.1,0.2", "--lr", "0.1"], "leave one of the two out"),
    (["--algos", "avg", "--grid", "mu=0.1,1"], "--grid mu: it is neither an option of avg, nor a setting of local"),
    (["--algos", "avg", "--grid", "rounds=1,2"], "--grid rounds: it is neither an option"),
    (["--algos", "prox", "--grid", "mu=0.1,-1"], "--mu is -1; it must be a number at least 0"),
    (["--algos", "admm", "--grid", "kappa=0.1,0"], "--option kappa is 0; it must be a number above 0"),
    (["--algos", "admm", "--grid", "kappa=0.1,0.2", "--option", "kappa=0.3"],
     "--option kappa has one value and others to try: leave one of the two out"),
    (["--algos", "admm", "--grid", "server_step=1,2", "--option", "server-step=3"], "--server-step has one value"),
    (["--algos", "admm", "--grid", "kappa=0.1,0.2", "--grid", "kappa=1,2"], "--option kappa is tried twice"),
    (["--algos", "admm", "--grid", "kappa=0.1,0.10"], "--option kappa: 0.1, 0.10 mean the same; name at least two"),
    (["--algos", "avg", "--lrs", "0.1,0.10"], "--lr: 0.1, 0.10 mean the same; name at least two"),
    (["--algos", "avg", "--loss", "focal", "--grid", "loss-option=1,2"], "1 is no value of --loss-option; write NAME="),
    (["--algos", "avg", "--loss", "focal", "--grid", "loss-option=gamma=1,gamma=1.0"], "gamma=1, gamma=1.0 mean the"),
    (["--algos", "avg", "--loss", "focal", "--grid", "loss-option=gamma=1,gamma=-1"], "--loss-option gamma is '-1'"),
    (["--algos", "avg", "--loss", "focal", "--grid", "loss-option=gamma=1,gamma=2", "--loss-option", "gamma=3"],
     "--loss-option has one value and others to try: leave one of the two out"),
    (["--algos", "admm", "--grid", "kappa"], "--grid is kappa; write values with commas"),
    (["--algos", "admm", "--grid", "kappa=0.1"], "--grid needs at least two values"),
    (["--algos", "avg", "--lrs", "0.1,0.2", "--grid", "lr=0.1,0.2"], "--lr is tried twice"),
    (["--algos", "avg", "--out", "full"], "already holds"),
    (["--algos", "avg", "--data", "camvid", "--data-root", "nowhere"], "no directory nowhere"),
    (["--algos", "avg", "--data", "camvid", "--data-root", "TINY", "--eval-split", "test"], "no split test"),
])
def test_a_mistake_gets_one_sentence_and_leaves_nothing(compare, matrix, tiny_camvid, capsys, tmp_path, arguments,
                                                        says):
    """Catches a traceback, and a directory that is made before the mistake is found."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        compare(*({"RUN": matrix / "runs" / "avg-0", "TINY": tiny_camvid}.get(word, word) for word in arguments))
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and says in told and len(told.splitlines()) == 1, told
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine"]


def test_damaged_records_get_one_sentence(compare, matrix, capsys, tmp_path):
    """Catches a traceback, in the report and where a learning rate is chosen."""
    run = tmp_path / "run"
    shutil.copytree(matrix / "runs" / "avg-0", run)
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"miou": 0', '"miou": "0').replace(', "pixel_acc', '", "pixel_acc'))
    with pytest.raises(SystemExit):
        compare(run)
    said = capsys.readouterr().err
    assert "metrics.jsonl is damaged: line 1, the record of round 0, has missing or wrong fields" in said
    with pytest.raises(OutputError, match="is damaged"):
        Job(run, {}).read_final()


def test_a_full_disk_gets_one_sentence_and_leaves_no_half_of_a_file(tmp_path, monkeypatch):
    """Catches a traceback, and half a comparison.toml that the next start takes for whole."""
    plan = make_plan(["avg"], {}, 1, {}, 1, None)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OutputError, match=r"cannot write .*comparison.toml \(No space left on device\)"), \
                open_folder(plan, {}, tmp_path / "out"):
            pass
    assert not (tmp_path / "out" / "comparison.toml").exists()
    with open_folder(plan, {}, tmp_path / "out"):
        assert (tmp_path / "out" / "comparison.toml").exists()


def test_of_two_comparisons_in_one_directory_one_begins(tmp_path):
    """Before it has written anything. Catches the settings of one over those of the other, whose runs they are not."""
    plan, folder = make_plan(["avg"], {}, 1, {}, 1, None), tmp_path / "out"
    with open_folder(plan, {"rounds": 2}, folder):
        (folder / "comparison.toml").unlink()
        with pytest.raises(OutputError, match="another process works on"), open_folder(plan, {"rounds": 3}, folder):
            pass
        assert not (folder / "comparison.toml").exists()
    (folder / "mine").write_text("mine")
    with pytest.raises(OutputError, match="already holds"), open_folder(plan, {}, folder):
        pass


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Plays a shell script for a run; gives a function that waits for the process ids that the script has written."""
    pids, program = tmp_path / "pids", tmp_path / "program"

    def make(script: str):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(program))
        monkeypatch.setenv("PIDS", str(pids))
        return wait

    def wait() -> list[int]:
        limit = time.monotonic() + 60
        while not (pids.exists() and pids.read_text().endswith("\n")):
            assert time.monotonic() < limit
            time.sleep(0.05)
        return [int(pid) for pid in pids.read_text().split()]

    return make


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="ranks are found in /proc")
def test_a_closed_terminal_stops_runs_and_a_second_signal_kills_them_with_their_ranks(stub, tmp_path):
    """Catches ranks, which have a session of their own, that outlive their launcher; and a SIGHUP that is not heard."""
    pids = stub("trap '' TERM; setsid sleep 300 & echo $$ $! > $PIDS; wait")

    def two_signals() -> None:
        pids()
        for number in (signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
            time.sleep(1)

    before = signal.signal(signal.SIGHUP, lambda *_: pytest.fail("SIGHUP is not heard"))
    sender = threading.Thread(target=two_signals)
    try:
        sender.start()
        with pytest.raises(Stopped, match="stopped by SIGHUP"):
            play([Job(tmp_path / "runs" / "avg-0", {"algo": "avg"})], 1, "playing")
        sender.join()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert [pid for pid in pids() if lives(pid)] == []


def test_an_error_leaves_no_run_behind(stub, tmp_path, monkeypatch):
    """Catches runs that go on when the comparison has ended with an error."""
    pids = stub("echo $$ > $PIDS; exec sleep 300")

    def news(child: object) -> int:
        pids()
        raise OSError("odd")

    monkeypatch.setattr("fedsim.comparison.playing._Child.count_new_records", news)
    with pytest.raises(OSError, match="odd"):
        play([Job(tmp_path / "runs" / "avg-0", {"algo": "avg"})], 1, "playing")
    assert [pid for pid in pids() if lives(pid)] == []


def test_a_failed_run_does_not_stop_the_others(tmp_path, tiny_camvid, matrix, capsys):
    """Catches one failure that ends all, and one that nobody is told of."""
    shutil.copytree(matrix / "runs" / "avg-0", tmp_path / "good")
    jobs = [Job(tmp_path / "bad", {"algo": "avg", "data": "camvid", "data_root": str(tmp_path), "cars": 2, "ranks": 1}),
            Job(tmp_path / "good", {"algo": "avg", "rounds": 1})]
    assert play(jobs, 1, "playing") == jobs[:1]
    said = capsys.readouterr().out
    assert "bad failed with status 2: fedsim: " in said and str(tmp_path / "bad.log") in said


def test_an_interrupted_comparison_saves_what_is_under_way(tiny_camvid, tmp_path):
    """Catches runs that go on behind the user's back, and a status that says all is well."""
    words = [sys.executable, "-m", "fedsim", "compare", "--algos", "avg", "--seeds", "2", "--out", "out",
             *tiny(tiny_camvid)[:-1], "500"]
    own = subprocess.Popen(words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    metrics, run = tmp_path / "out" / "runs" / "avg-0" / "metrics.jsonl", tmp_path / "out" / "runs" / "avg-0"
    limit = time.monotonic() + 120
    while not metrics.exists() or metrics.read_text().count("\n") < 3:
        assert own.poll() is None and time.monotonic() < limit, own.communicate()
        time.sleep(0.1)
    own.send_signal(signal.SIGINT)
    said, told = own.communicate(timeout=120)
    assert own.returncode == 130 and "0 of 2 runs have ended" in told and "--out out goes on" in told, said + told
    assert "stopped by SIGTERM after round" in metrics.parent.with_suffix(".log").read_text()  # and was not killed
    played = metrics.read_text().count("\n") - 1
    assert played < 500 and (run / "checkpoints" / f"round-{played:06d}.json").exists()
    assert not (tmp_path / "out" / "runs" / "avg-1").exists() and not (tmp_path / "out" / "report.md").exists()
