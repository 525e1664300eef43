"""Runs that are stopped, killed and damaged, and go on: by the command, with the very bits of one that never stopped.

One run of four rounds is played whole; the others are copies of it, with what a kill or a disk does to them. Each test
names a mutation that it was seen to catch.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import tomllib
from pathlib import Path

import chosen_options
import numpy as np
import pytest
from chosen_options import to_words
from PIL import Image
from safetensors.torch import load_file
from sameness import events, last_checkpoint, models, records, without_seconds
from test_torchrun import digests
from undrawn import draw_nothing

from fedsim.cli.show import show
from fedsim.experiment import journal, resuming
from fedsim.experiment import run as whole_run
from fedsim.experiment.past_run import PastRun
from fedsim.main import main
from fedsim.record import checkpoints, run_directory
from fedsim.record.checkpoints import PART, Checkpoints
from fedsim.record.overview import Overview
from fedsim.report import run as run_report
from fedsim.report import run_figures
from fedsim.system import files

ROUNDS = 4


def command(root, out=None, **others) -> list[str]:
    """others: settings by name; those that are None are left out."""
    settings = {"algo": "scaffold", "data": "camvid", "data_root": root, "cars": 5, "rounds": ROUNDS, "batch_size": 2,
                "participation": 0.6, "lr_schedule": "constant", "image_size": "32x24", "width": 4, "threads": 1,
                "batchnorm": "local-statistics", "test_flip": True,
                "average_weights": None if others.get("algo") == "local" else "ema:0.5",
                **({} if out is None else {"out": out}), **others}
    return to_words({name: value for name, value in settings.items() if value is not None})


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch.setattr)
        yield


@pytest.fixture(scope="module")
def whole(tiny_camvid, tmp_path_factory) -> Path:
    """Read only."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(command(tiny_camvid, out)) == 0
    return out


@pytest.fixture
def run(whole, tmp_path) -> Path:
    """A copy of the whole run, killed after the record of round 4 and before its checkpoint, report and weights."""
    return copy_killed(whole, tmp_path / "run", ROUNDS)


def copy_killed(whole: Path, out: Path, rounds: int) -> Path:
    """Copy a run of so many rounds as it was before its last checkpoint, its report and its weights."""
    shutil.copytree(whole, out)
    for path in [*(out / "checkpoints").glob(f"*-{rounds:06d}.*"), *out.glob("report/*"),
                 *(path for path in (out / "checkpoints").glob("*.safetensors") if not PART.fullmatch(path.name))]:
        path.unlink()
    return out


@pytest.fixture
def play(capsys):
    """A function that plays a command line; returns the status and the last line of what went wrong."""
    def go(*arguments) -> tuple[int, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == (1 if status else 0), lines
        return status, lines[0].removeprefix("fedsim: ") if lines else ""
    return go


@pytest.fixture
def refused(play):
    def go(*arguments) -> str:
        status, said = play(*arguments)
        assert status == 2 and ". " not in said and "Error" not in said, said
        return said
    return go


def weights(run: Path) -> dict[str, dict]:
    """Name of a file -> name of a tensor -> its bytes."""
    return {path.name: {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}
            for path in (run / "checkpoints").glob("*.safetensors")}


def check_same(run: Path, whole: Path, rounds: int = ROUNDS) -> None:
    """Records, events, checkpoint and report are those of the run that never stopped."""
    assert without_seconds(run) == without_seconds(whole)
    assert events(run) == events(whole)
    assert {path.name for path in (run / "report").iterdir()} == {path.name for path in (whole / "report").iterdir()}
    found, expected = weights(run), weights(whole)
    both = found.keys() & expected.keys()  # other checkpoints before the last leave other parts
    assert f"global-{rounds:06d}.safetensors" in both
    assert all(PART.fullmatch(name) for name in found.keys() ^ expected.keys()), "models are those"
    assert {name: found[name] for name in both} == {name: expected[name] for name in both}
    for path in (run, whole):
        names = {record.name for record in (path / "checkpoints").glob("round-*")}
        assert {f"round-{rounds:06d}.json"} <= names and len(names) <= 2


def stop_after(monkeypatch, number: int, signals: dict[int, int]) -> None:
    """Let a signal reach the process in the rounds that are named."""
    real = whole_run.simulate

    def simulate(federation, state):
        for result in real(federation, state):
            if result.state.round in signals:
                signal.raise_signal(signals[result.state.round])
            yield result

    monkeypatch.setattr(whole_run, "simulate", simulate)


def test_a_run_killed_before_its_checkpoint_goes_on_to_the_same_bits(run, whole, play, capsys):
    """Its last record and events come about again. Catches a record that stands there twice."""
    assert play("--resume", run) == (0, "")
    check_same(run, whole)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_goes_on_to_the_same_bits(whole, tiny_camvid, tmp_path, play, monkeypatch, number, status):
    """Also with checkpoints far apart. Catches a stop without a checkpoint, or before the round is recorded."""
    out, handlers = tmp_path / "run", [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context() as patch:
        stop_after(patch, number, {2: number})
        said = play(*command(tiny_camvid, out, checkpoint_every=50))
    name = signal.Signals(number).name
    assert said == (status, f"stopped by {name} after round 2 of 4; --resume {out} goes on")
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert len(records(out)) == 3 and (out / "checkpoints" / "round-000002.json").exists()
    assert play("--resume", out) == (0, "")
    check_same(out, whole)


def test_a_run_killed_in_its_first_round_starts_over(tiny_camvid, tmp_path, whole, play, monkeypatch):
    """By the same command, with auto. Catches a directory that is refused because it holds a run."""
    out = tmp_path / "run"

    class Killed(BaseException):
        pass

    def killed(self, state):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(Killed):
            main(command(tiny_camvid, out, resume="auto"))
    assert len(records(out)) == 2
    assert play(*command(tiny_camvid, out, resume="auto")) == (0, "")
    check_same(out, whole)


def test_a_finished_run_only_reports_again(whole, tmp_path, play):
    """Catches a finished run that is refused, or that loses its last round."""
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    for _ in range(2):
        assert play("--resume", out) == (0, "")
        check_same(out, whole)


def test_a_run_may_be_made_longer_and_then_is_the_longer_run(whole, tiny_camvid, tmp_path, play, refused):
    """With a constant learning rate. Catches a length that is part of what must be the same."""
    short = tmp_path / "short"
    assert play(*command(tiny_camvid, short, rounds=2)) == (0, "")
    assert play("--resume", short, "--rounds", ROUNDS, "--evaluate-every", 1, "--timeout", 30) == (0, "")
    check_same(short, whole)
    assert refused("--resume", short, "--rounds", 3) == (
        f"--rounds is 3, but {short} has played 4: take at least as many")


def test_a_longer_cosine_is_another_and_warned_of(run, play, tiny_camvid, tmp_path, capsys):
    out = tmp_path / "cosine"
    assert main(command(tiny_camvid, out, lr_schedule="cosine", rounds=1)) == 0
    capsys.readouterr()
    assert main(["--resume", str(out), "--rounds", "2"]) == 0
    assert re.search(r"WARNING: --rounds is 2 and was 1, so that the learning rate falls along another cosine",
                     capsys.readouterr().out)
    assert len(records(out)) == 3


@pytest.mark.parametrize(("name", "value"), [
    ("lr", 0.3), ("seed", 1), ("algo", "avg"), ("cars", 4), ("threads", 2), ("partition", "iid"), ("width", 8),
    ("participation", 1.0), ("batchnorm", "local"), ("local_epochs", "2"), ("aggregator", "median"),
    ("lr_schedule", "cosine"), ("image_size", "48x36"), ("eval_split", "train"), ("weighting", "images"),
    ("test_scales", "2"), ("average_weights", "ema:0.9")])
def test_what_would_change_the_result_is_refused_by_name(run, refused, name, value):
    """Catches a setting that is ignored, or taken."""
    option, before = "--" + name.replace("_", "-"), fingerprint(run)
    was = tomllib.loads((run / "config.toml").read_text())[name]
    assert refused("--resume", run, option, value) == (
        f"{option} is {value}, but {run} was run with {was}, and that would change the result: leave {option} out, or "
        "start a new run")
    assert fingerprint(run) == before


@pytest.mark.parametrize(("typed", "was"), [("--nesterov", "--no-nesterov"), ("--no-test-flip", "--test-flip")])
def test_a_switch_that_is_turned_is_refused_as_it_is_typed(run, refused, typed, was):
    """Catches a sentence with True and False, which nobody can type."""
    assert refused("--resume", run, typed) == (
        f"{typed} is given, but {run} was run with {was}, and that would change the result: leave it out, or start a "
        "new run")


OWN = """
import dataclasses
from fedsim.algorithms import FedAvg

@dataclasses.dataclass(frozen=True)
class Mine(FedAvg):
    beta: float = 0.5
    steps: int = 3
    limit: float | None = None
"""


def test_options_by_name_are_compared_one_by_one_with_those_of_the_run(tiny_camvid, tmp_path, play, refused,
                                                                      monkeypatch):
    """By what they mean. Catches tables compared whole, text compared with values, and a value that is not checked."""
    (tmp_path / "own_to_resume.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    out, algo = tmp_path / "run", "own_to_resume:Mine"
    again = ("--resume", out, "--algo", algo, "--option")
    assert play(*command(tiny_camvid, out, algo=algo, rounds=1, option="beta=0.25")) == (0, "")
    for same in ("beta=0.250", "steps=3", "limit=none"):
        assert play(*again, same) == (0, "")
    assert refused(*again, "beta=0.5") == (
        f"--option beta is 0.5, but {out} was run with 0.25, and that would change the result: leave --option beta "
        "out, or start a new run")
    assert refused(*again, "limit=2").startswith(f"--option limit is 2.0, but {out} was run with none, ")
    assert refused(*again, "beta=much") == "--option beta is much; it must be a number"
    assert refused(*again, "gamma=1").startswith("--option gamma: own_to_resume:Mine has no option 'gamma'")


def fingerprint(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*")
            if path.is_file() and path.name != "lock"}


def test_what_was_given_may_be_given_again(run, whole, tiny_camvid, tmp_path, play, monkeypatch):
    """A folder by another path, and a long name of an algorithm. Catches words compared in the place of what they mean.
    """
    monkeypatch.chdir(tiny_camvid.parent)
    link = tmp_path / "link"
    link.symlink_to(tiny_camvid)
    again = command(tiny_camvid.name, algo="scaffold", resume=run)
    assert play(*again) == (0, "")
    check_same(run, whole)
    assert play("--resume", run, "--data-root", link, "--config", run / "config.toml", "--out", run) == (0, "")


@pytest.mark.parametrize("change", ["picture", "label"])
def test_data_may_be_moved_and_not_changed(run, whole, tiny_camvid, tmp_path, play, refused, change):
    """Of the file that has changed one pixel has. Catches a path in the identity, and a fingerprint of names alone."""
    moved = Path(shutil.copytree(tiny_camvid, tmp_path / "camvid"))
    assert play("--resume", run, "--data-root", moved) == (0, "")
    folder = moved / ("train" if change == "picture" else "trainannot")
    path = next(folder.iterdir())
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] = 1 - pixels[0, 0] // 200
    Image.fromarray(pixels).save(path)
    before = fingerprint(run)
    assert refused("--resume", run) == (
        f"the train scenes of camvid are not those that {run} was run with; restore them, or start a new run")
    assert fingerprint(run) == before
    assert play("--resume", run, "--data-root", tiny_camvid) == (0, "")
    check_same(run, whole)


def test_a_split_file_may_be_given_again_and_another_may_not(tiny_camvid, whole, tmp_path, play, refused):
    """Catches paths compared in the place of what they hold."""
    split, out = tmp_path / "split.json", tmp_path / "run"
    shutil.copy(whole / "partition.json", split)
    assert play(*command(tiny_camvid, out, partition=split, rounds=1)) == (0, "")
    split.write_text(json.dumps(json.loads(split.read_text()), indent=7))
    assert play("--resume", out, "--partition", split, "--rounds", 2) == (0, "")
    content = json.loads(split.read_text())
    content["cars"][0]["scenes"].pop()
    split.write_text(json.dumps(content))
    assert "--partition is" in refused("--resume", out, "--partition", split)


def test_a_run_with_a_split_file_may_be_moved(tiny_camvid, whole, tmp_path, play):
    """It has a copy of its split. Catches the copy looked for where the run was."""
    out, moved = tmp_path / "run", tmp_path / "moved"
    assert play(*command(tiny_camvid, out, partition=whole / "partition.json", rounds=1)) == (0, "")
    out.rename(moved)
    assert play("--resume", moved, "--rounds", 2) == (0, "")


def test_a_split_that_has_changed_in_the_run_itself_is_refused(tiny_camvid, whole, tmp_path, play, refused):
    """Two scenes change cars: all are there, once each. Catches an identity without the cars' scenes."""
    out = tmp_path / "run"
    assert play(*command(tiny_camvid, out, partition=whole / "partition.json", rounds=1)) == (0, "")
    content = json.loads((out / "partition.json").read_text())
    one, other = (car["scenes"] for car in content["cars"][:2])
    one[0], other[0] = other[0], one[0]
    (out / "partition.json").write_text(json.dumps(content))
    assert "is a checkpoint of another run: its settings or its data were others" in refused("--resume", out)


def test_auto_goes_on_where_there_is_a_run_and_starts_one_where_not(run, whole, tiny_camvid, tmp_path, play, refused):
    assert play(*command(tiny_camvid, run, resume="auto")) == (0, "")
    check_same(run, whole)
    assert play(*command(tiny_camvid, run, resume="auto")) == (0, ""), "finished"
    assert play(*command(tiny_camvid, tmp_path / "new", resume="auto", rounds=1)) == (0, "")
    assert refused(*command(tiny_camvid, resume="auto")) == "--resume auto goes on with the run in --out: name one"


def test_where_there_is_no_run_there_is_nothing_to_go_on_with(run, tmp_path, refused):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "absent", run / "config.toml"):
        assert refused("--resume", path) == (
            f"--resume {path}: there is no run in it (no config.toml); name the directory of a run")
    assert refused("--resume", run, "--out", tmp_path / "other").startswith("--out is ")
    assert not (tmp_path / "other").exists() and not list((tmp_path / "empty").iterdir())


def test_a_torn_last_line_comes_about_again(run, whole, play):
    with open(run / "metrics.jsonl", "r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 20)
    assert play("--resume", run) == (0, "")
    check_same(run, whole)


def test_metrics_that_are_damaged_or_gone_are_refused_and_nothing_is_changed(run, refused):
    """Catches a file that is cut before all of it was read."""
    path, lines = run / "metrics.jsonl", (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    for content, says in [("".join([*lines[:2], "x" + lines[2], *lines[3:]]), "line 3, is not a JSON object"),
                          ("".join(lines[:3]), "does not hold a record of each round up to 3"), ("", "does not hold"),
                          ("[]\n", "line 1, is not the record of a round")]:
        path.write_text(content)
        before = fingerprint(run)
        assert says in refused("--resume", run)
        assert fingerprint(run) == before
    path.unlink()
    assert "cannot read" in refused("--resume", run)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"device": 1}', '{"device": "cpu", "data": [], "versions": {}}'])
def test_an_environment_that_is_damaged_is_refused(run, refused, content):
    """Catches a traceback, and data that is not compared because nothing is known of it."""
    (run / "environment.json").write_text(content)
    assert refused("--resume", run) == (
        f"{run / 'environment.json'} is missing or damaged; restore it, or start a new run")


def test_a_run_on_another_kind_of_device_is_refused(run, refused):
    path = run / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "cuda:3"}))
    assert f"--device: {run} was run on cuda, and this is cpu" in refused("--resume", run)


def test_other_versions_are_warned_of(run, play, capsys):
    path = run / "environment.json"
    environment = json.loads(path.read_text())
    environment["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(environment))
    assert main(["--resume", str(run)]) == 0
    assert "WARNING: torch was 1.0 and is " in capsys.readouterr().out


def test_a_second_process_on_a_run_is_refused(run, whole, refused, play):
    """It changes nothing of the first one's. Catches a lock taken after the metrics are cut."""
    with open(run / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = fingerprint(run)
        assert refused("--resume", run).startswith(f"another process works on {run}; wait for its end")
        assert fingerprint(run) == before
    assert play("--resume", run) == (0, "")
    check_same(run, whole)


def test_the_lock_is_free_after_a_run_whatever_ended_it(run, refused, play):
    (run / "metrics.jsonl").rename(run / "kept")
    refused("--resume", run)
    (run / "kept").rename(run / "metrics.jsonl")
    assert play("--resume", run) == (0, "")


def test_the_checkpoint_before_is_taken_where_the_last_is_damaged(whole, tmp_path, capsys):
    """Told once, and the run ends with the same bits."""
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    path = out / "checkpoints" / f"global-{ROUNDS:06d}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert main(["--resume", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.count("WARNING") == 1 and f"WARNING: {path} cannot be used: it is damaged" in said
    assert f"Going on in {out} after round 3 of 4" in said
    check_same(out, whole)


def test_where_all_checkpoints_are_damaged_the_run_is_refused_as_it_is(run, refused, capsys):
    for path in (run / "checkpoints").glob("round-*"):
        path.write_text("{}")
    before = fingerprint(run)
    assert "can be used; start a new run with another --out" in refused("--resume", run)
    assert fingerprint(run) == before


def test_checkpoints_of_another_run_are_refused(run, tiny_camvid, tmp_path, refused):
    """Of the same shape: only the seed is another. Catches an identity without all settings."""
    other = tmp_path / "other"
    assert main(command(tiny_camvid, other, seed=1, rounds=3)) == 0
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(other / "checkpoints", run / "checkpoints")
    assert "is a checkpoint of another run: its settings or its data were others" in refused("--resume", run)


FULL = OSError(errno.ENOSPC, "No space left on device")


def fail_in(monkeypatch, number: int, place: str) -> None:
    """Let the disk be full from a round on, where something of it is written."""
    real_append, real_write = run_directory.RunDirectory.append, checkpoints.write_part
    real_sync = os.fsync
    full = False

    def fsync(handle):
        if full:
            raise FULL
        return real_sync(handle)

    def append(self, record):
        nonlocal full
        full = place == "metrics" and record["round"] == number
        return real_append(self, record)

    def write(path, part, round_number):
        nonlocal full
        full = place == "checkpoint" and round_number == number
        return real_write(path, part, round_number)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(run_directory.RunDirectory, "append", append)
    monkeypatch.setattr(checkpoints, "write_part", write)


@pytest.mark.parametrize(("place", "says"), [
    ("metrics", r"round 3, rank 0: cannot write .*metrics\.jsonl \(No space left on device\)"),
    ("checkpoint", r"round 3, rank 0: cannot write the checkpoint in .* \(No space left on device\); make room and go"),
])
def test_a_full_disk_ends_the_run_in_a_sentence_and_the_checkpoint_before_is_whole(
        tiny_camvid, whole, tmp_path, play, monkeypatch, place, says):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        fail_in(patch, 3, place)
        status, said = play(*command(tiny_camvid, out))
    assert status == 1 and re.match(says, said), said
    assert play("--resume", out) == (0, "")
    check_same(out, whole)


def test_a_directory_that_is_removed_during_the_run_ends_it_in_a_sentence(tiny_camvid, tmp_path, play, monkeypatch):
    out, real = tmp_path / "run", whole_run.simulate

    def simulate(federation, state):
        for result in real(federation, state):
            if result.state.round == 2:
                shutil.rmtree(out)
            yield result

    monkeypatch.setattr(whole_run, "simulate", simulate)
    status, said = play(*command(tiny_camvid, out))
    assert status == 1 and said.startswith("round 2, rank 0: cannot write") and "No such file" in said
    assert not out.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_read_only_is_refused(run, refused):
    for path in [*run.rglob("*"), run]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert "cannot write in" in refused("--resume", run)
    finally:
        for path in [run, *run.rglob("*")]:
            path.chmod(0o755)


def test_read_only_file_systems_are_refused_in_a_sentence(run, refused, monkeypatch):
    """As the system tells of them. Catches an OSError of the lock."""
    real = open

    def read_only(path, mode="r", *others, **options):
        if str(path) == str(run / "lock"):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, mode, *others, **options)

    monkeypatch.setattr(files, "open", read_only, raising=False)
    assert refused("--resume", run).startswith(f"cannot write in {run} (Read-only file system)")


def test_a_clock_that_goes_backwards_disturbs_nothing(run, whole, play, monkeypatch):
    """Catches event files in the order of the clock."""
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert play("--resume", run) == (0, "")
    check_same(run, whole)


def test_a_run_that_has_been_prolonged_is_known_to_be_longer(tiny_camvid, tmp_path, play):
    """Without being told again. Catches a length that only the first command decides."""
    out = tmp_path / "run"
    assert play(*command(tiny_camvid, out, rounds=1)) == (0, "")
    assert play("--resume", out, "--rounds", 2) == (0, "")
    assert play("--resume", out) == (0, "")
    assert len(digests(out)) == 3


def test_runs_that_are_stopped_can_be_evaluated_only_once_they_have_ended(run):
    """Parts of a checkpoint are no models. Catches a pattern that takes a car's part for a car's model."""
    from fedsim.errors import OutputError
    from fedsim.experiment.past_run import PastRun

    assert list((run / "checkpoints").glob("car-*.safetensors"))
    with pytest.raises(OutputError, match="holds no weights: the run has not ended"):
        PastRun.open(run).directory.weights()


@pytest.mark.parametrize("method", chosen_options.each_method(), ids=lambda method: "-".join(map(str, method.values())))
def test_every_method_goes_on_to_the_same_bits(tiny_camvid, tmp_path, play, method):
    """With the network's own types. Catches state of the coordinator alone that is float32 before the first round and
    float64 after it: its checkpoint was refused (FedDyn's h, the balanced penalty's mean dual)."""
    whole = tmp_path / "whole"
    federated = {"algo": "avg", "participation": 1.0, "batchnorm": "recalibrate", "rounds": 2}
    assert play(*command(tiny_camvid, whole, **federated | method)) == (0, "")
    run = copy_killed(whole, tmp_path / "run", 2)
    assert play("--resume", run) == (0, "")
    assert without_seconds(run) == without_seconds(whole) and models(run) == models(whole)
    assert last_checkpoint(run) == last_checkpoint(whole)


@pytest.mark.parametrize(("action", "checkpoint_every", "says"), [
    ("stop", 1, "stopped, because it diverged"), ("stop", 4, "stopped, because it diverged"),
    ("rollback", 50, "diverges again after 3 rounds")])
def test_a_run_that_has_stopped_because_it_diverges_stays_stopped(tiny_camvid, tmp_path, play, action,
                                                                  checkpoint_every, says):
    """Whatever checkpoints it has. Catches a resume that plays on, because the trouble was told of already or because
    three rounds were undone.
    """
    out = tmp_path / "run"
    status, said = play(*command(tiny_camvid, out, algo="admm", server_step=3, participation=0.5, rounds=14,
                                 on_divergence=action, lr=0.1, checkpoint_every=checkpoint_every))
    assert status == 1 and "stopped, because " in said
    played = digests(out)
    assert len(played) < 15
    for _ in range(2):
        status, said = play("--resume", out)
        assert status == 1 and said.startswith(f"round {len(played) - 1}: stopped, because it") and says in said
        assert digests(out) == played and not (out / "report" / "summary.md").exists()


@pytest.mark.parametrize("algo", ["admm", "local"])
def test_the_round_that_a_resumed_run_ends_with_is_scored(tiny_camvid, tmp_path, play, algo):
    """Although it was not the last when it was played. Catches the untrained model's score as the final one."""
    common = {"algo": algo, "participation": 1.0, "batchnorm": "recalibrate", "evaluate_every": 3}
    out, scored = tmp_path / "run", tmp_path / "scored"
    assert play(*command(tiny_camvid, scored, **common | {"rounds": 2})) == (0, "")
    assert play(*command(tiny_camvid, out, **common | {"rounds": 4})) == (0, "")
    for path in [*(out / "checkpoints").glob("*-000004.*"), *out.glob("report/*")]:
        path.unlink()  # as if the run had been killed in round 3 ...
    for path in (out / "checkpoints").glob("*-000003.*"):
        path.unlink()
    shutil.copytree(scored / "checkpoints", out / "checkpoints", dirs_exist_ok=True)
    assert play("--resume", out, "--rounds", 1)[0] == 2
    assert play("--resume", out, "--rounds", 2) == (0, "")
    last, undisturbed = records(out)[-1], records(scored)[-1]
    assert last["round"] == 2 and last["global"] == undisturbed["global"]
    assert last.get("worst") == undisturbed.get("worst")
    assert [entry.get("miou") for entry in last["cars"]] == [entry.get("miou") for entry in undisturbed["cars"]]
    assert (out / "report" / "summary.md").exists()
    assert play("--resume", out, "--rounds", 4) == (0, "")
    told = json.loads((out / "environment.json").read_text())["warnings"]
    assert any(line.startswith("round 2 was scored because it was the last") for line in told)


PLACES = {"baselines": (whole_run, "trivial_baselines"), "panels": (journal.Journal, "show"),
          "figures": (run_figures, "draw_miou"), "page": (run_report, "write_run_report")}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("killed", [True, False])
def test_a_run_whose_report_fails_has_ended(tiny_camvid, whole, tmp_path, play, monkeypatch, capsys, place, killed):
    """Killed as the system kills it, or for lack of memory. Catches a model or a score that waits for a report."""
    out, owner, name = tmp_path / "run", *PLACES[place]
    undisturbed, calls = getattr(owner, name), []

    class Killed(BaseException):
        """The end of the process: nothing of fedsim's handles it."""

    def fail(*arguments):
        calls.append(arguments)
        if place == "panels" and arguments[1] < ROUNDS:
            return undisturbed(*arguments)
        raise Killed if killed else MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        if killed:
            with pytest.raises(Killed):
                main(command(tiny_camvid, out))
        else:
            status, said = play(*command(tiny_camvid, out))
            assert status == 1 and "no room" in said and "has ended" in said and f"--resume {out}" in said
    assert calls and PastRun.open(out).has_ended() and Overview.of(out).state == "finished"
    assert without_seconds(out) == without_seconds(whole) and weights(out).keys() == weights(whole).keys()
    capsys.readouterr()
    show([str(out)], standalone_mode=False)
    assert "have not been made" in capsys.readouterr().out
    assert play("--resume", out) == (0, "")
    assert "have not been made" not in (out / "report" / "summary.md").read_text()
    assert (out / "report" / "summary.json").read_bytes() == (whole / "report" / "summary.json").read_bytes()
    if place != "panels":
        check_same(out, whole)


@pytest.fixture
def launched(tiny_camvid, tmp_path, monkeypatch):
    """Plays a run as the only rank of a torchrun, in a new process as far as fedsim can see; returns the status."""
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")

    def play(restarts: int = 0, parent: str = "boot/1/7/100", **options: object) -> int:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restarts))
        monkeypatch.setattr(resuming, "PARENT", parent)
        resuming._starts.clear()
        return main(command(tiny_camvid, tmp_path / "run", **options))

    return play


def test_a_launch_goes_on_with_its_own_run_that_has_not_ended_and_with_no_other(launched, tmp_path, capsys):
    """Catches host and number of the parent, which repeat in containers: a new run that is none, with status 0."""
    assert launched(rounds=1) == 0
    played = records(tmp_path / "run")
    refusals = [{}, {"parent": "boot/2/7/101"}, {"seed": 1}, {"restarts": 1, "parent": "boot/2/7/101"},
                {"restarts": 1, "seed": 1}]
    assert [launched(**{"rounds": 1} | other) for other in refusals] == [2] * len(refusals)
    assert capsys.readouterr().err.count("already holds a run") == len(refusals)
    assert launched(rounds=1, restarts=1) == 0, "its report may be missing"
    (tmp_path / "run" / "report" / "summary.md").unlink()
    assert launched(rounds=1) == 0, "it has not ended"
    assert capsys.readouterr().err == "" and records(tmp_path / "run") == played


def test_resume_auto_says_that_nothing_is_left_of_a_run_that_has_ended(tiny_camvid, tmp_path, capsys):
    """Catches a status of 0 and no word on settings that were given for another run."""
    run = tmp_path / "run"
    assert main(command(tiny_camvid, run, algo="avg", rounds=1)) == 0
    capsys.readouterr()
    assert main(command(tiny_camvid, run, algo="avg", rounds=1, seed=0, resume="auto")) == 0
    assert f"{run} has played all 1 rounds: nothing is trained" in capsys.readouterr().out
    for name, value in (("algo", "admm"), ("seed", 3), ("lr", 0.3)):
        assert main(command(tiny_camvid, run, **{"algo": "avg", "rounds": 1, "resume": "auto", name: value})) == 2
        said = capsys.readouterr().err
        assert f"--{name} is {value}, but {run} was run with" in said
        assert len(said.splitlines()) == 1
