"""fedsim list and fedsim show: runs, read back from their directories."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from records import make_records

from fedsim.cli import commands, main
from fedsim.errors import OutputError
from fedsim.main import main as play
from fedsim.record.overview import Overview, find_runs
from fedsim.report.run import write_run_report
from fedsim.report.run_figures import draw_loss, draw_miou, draw_segmentation

CONFIG = """# repeat with: fedsim run --ranks 2 --config here

algo = "admm"
data = "streets"
cars = 4
rounds = 6
eval_split = "val"
model = "segnet-small"
"""


@pytest.fixture(scope="module")
def played(tiny_camvid, tmp_path_factory) -> Path:
    """A real run. Read only."""
    out = tmp_path_factory.mktemp("played") / "run"
    assert play(["--data", "camvid", "--data-root", str(tiny_camvid), "--cars", "2", "--rounds", "2", "--image-size",
                 "32x24", "--width", "4", "--threads", "1", "--out", str(out)]) == 0
    return out


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """A command of the console script, in an empty folder; what it says."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["fedsim", *words])
        main()
        return capsys.readouterr().out

    return call


def make_run(path: Path, rounds: int, ended: bool = False, given=()) -> Path:
    """A made-up run of six rounds that has come so far."""
    (path / "report").mkdir(parents=True)
    (path / "config.toml").write_text(CONFIG)
    environment = {"ranks": 2, "given": [*given], "warnings": ["drives are shared"], "start": {
        "source": "weights.pth", "taken": 36, "new": ["head.bias"], "left_over": [*"abcdefg"]}}
    (path / "environment.json").write_text(json.dumps(environment))
    lines = [json.dumps(record) for record in make_records(6, 4)[:rounds + 1]]
    (path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if ended:
        (path / "report" / "summary.md").write_text("")
        (path / "report" / "summary.json").write_text('{"baselines": {"colour only": 0.27}, "notes": ["A note."]}')
    return path


def row(text: str, name: str) -> list[str]:
    """The cells of the one row of that name."""
    found, = [line.split() for line in text.splitlines() if line.split()[:1] == [name]]
    return found


def test_runs_are_listed_with_scores_and_state_the_latest_last(command, tmp_path):
    """Catches the last score taken for the best, and a stopped run taken for a finished one."""
    runs = tmp_path / "runs"
    make_run(runs / "whole", 6, ended=True)
    records = make_records(6, 4)
    records[6]["global"]["miou"], records[5]["global"] = 0.2, None
    (runs / "whole" / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    make_run(runs / "cut", 3)
    make_run(runs / "begun", -1)
    make_run(tmp_path / "runs" / "comparison" / "runs" / "nested", 1)
    for age, name in enumerate(["comparison/runs/nested", "begun", "cut", "whole"]):
        moment = time.time() - 7200 * (3 - age) - 1
        for path in runs.glob(f"{name}/*.jsonl"):
            os.utime(path, (moment, moment))
    said = command("list")
    assert row(said, "whole")[1:7] == ["admm", "streets", "4", "6/6", "0.200", f"{records[4]['global']['miou']:.3f}"]
    assert row(said, "whole")[-1] == "finished" and row(said, "cut")[-1] == "stopped"
    assert row(said, "begun")[4:7] == ["–/6", "–", "–"]
    assert row(said, "comparison/runs/nested")[-3:] == ["6", "h", "stopped"]
    order = [line.split()[0] for line in said.splitlines() if line.rstrip().endswith(("stopped", "finished"))]
    assert order == ["comparison/runs/nested", "begun", "cut", "whole"]


def test_a_run_whose_lock_is_held_is_running(tmp_path):
    """And asking does not take the lock. Catches one that is asked for exclusively, or kept."""
    run = make_run(tmp_path / "run", 3)
    with open(run / "lock", "a") as held:
        assert Overview.of(run).state == "stopped"
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert Overview.of(run).state == "running"
    assert Overview.of(run).state == "stopped"


@pytest.mark.parametrize(("name", "content", "fault"), [
    ("config.toml", None, "it has no config.toml"), ("config.toml", "cars = [", "config.toml cannot be read"),
    ("metrics.jsonl", None, "it has no metrics.jsonl"),
    ("metrics.jsonl", '{"round": 0, "global": {"mi\n', "metrics.jsonl cannot be read"),
    ("metrics.jsonl", "no JSON\n", "metrics.jsonl cannot be read"),
    ("metrics.jsonl", "[]\n", "metrics.jsonl does not end")])
def test_damaged_runs_are_listed_as_such_beside_whole_ones(command, capsys, tmp_path, name, content, fault):
    make_run(tmp_path / "runs" / "whole", 6, ended=True)
    path = make_run(tmp_path / "runs" / "broken", 3) / name
    path.unlink() if content is None else path.write_text(content)
    said = command("list")
    assert row(said, "whole")[-1] == "finished"
    assert fault in " ".join(row(said, "broken"))
    with pytest.raises(SystemExit):
        command("show", "runs/broken")
    told = capsys.readouterr().err
    assert told.startswith("fedsim: runs/broken is damaged: ") and told.count("\n") == 1


def test_a_line_that_was_being_written_is_left_out(tmp_path):
    run = make_run(tmp_path / "run", 3)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"round": 4, "glo')
    assert Overview.of(run).scores.round == 3 and Overview.of(run).fault is None


def test_without_runs_a_sentence_says_how_to_begin(command, capsys):
    assert command("list").count("\n") == 1
    with pytest.raises(SystemExit) as stopped:
        command("list", "nowhere")
    assert stopped.value.code == 2 and "nowhere is no directory" in capsys.readouterr().err


def test_folders_of_others_are_not_taken_for_runs(tmp_path):
    for name in (".hidden/run", "run/copy"):
        make_run(tmp_path / name, 1)
    make_run(tmp_path / "more" / "run", 1)
    (tmp_path / "run" / "environment.json").write_text("{}")
    assert [*find_runs(tmp_path)] == [tmp_path / "more" / "run", tmp_path / "run"]


def test_listing_needs_no_torch():
    """It would take seconds. Catches an import of the settings, or of what trains."""
    code = "import sys; import fedsim.cli.list, fedsim.cli.show; print('torch' in sys.modules, 'rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_of_a_finished_run_everything_is_shown(command, tmp_path):
    make_run(tmp_path / "run", 6, ended=True, given=["cars"])
    said = command("show", "run")
    assert row(said, "state")[-1] == "finished" and row(said, "round")[-3:] == ["6", "of", "6"]
    assert row(said, "mIoU")[-1] == "0.270" and "A note." in said and "WARNING: drives are shared" in said
    assert "36 tensors taken from weights.pth; new: head.bias; left over: a, b, c, d, e and 2 more\n" in said
    assert "given" in said and "fedsim run --ranks 2 --config here" in said and "--resume" not in said
    assert "tensorboard --logdir run/tensorboard" in said


def test_of_a_stopped_run_the_command_that_goes_on_is_shown(command, tmp_path):
    make_run(tmp_path / "run", 3)
    said = command("show", "run")
    assert row(said, "state")[-1] == "stopped" and "fedsim run --ranks 2 --resume run" in said


@pytest.mark.parametrize("name", [".", "nowhere"])
def test_what_is_no_run_is_refused(command, capsys, name):
    with pytest.raises(SystemExit) as stopped:
        command("show", name)
    assert stopped.value.code == 2 and "is not a run directory" in capsys.readouterr().err


def test_a_record_that_lacks_something_is_told_in_a_sentence(command, capsys, tmp_path):
    """Catches a KeyError."""
    run = make_run(tmp_path / "run", 3)
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(text.replace('"pixel_accuracy"', '"accuracy"', 1))
    with pytest.raises(SystemExit):
        command("show", "run")
    assert "is damaged: line 1, the record of round 0" in capsys.readouterr().err


def test_a_real_run_is_listed_and_shown_and_has_its_page(command, played, tmp_path, monkeypatch):
    """From end to end, and once more after it has gone on. Catches settings or warnings that no file has."""
    run = Path(shutil.copytree(played, tmp_path / "runs" / "real"))
    assert row(command("list"), "real")[-1] == "finished"
    said = command("show", "runs/real")
    assert {"rounds", "image_size"} <= {line.split()[0] for line in said.splitlines() if line.split()}
    page = run / "report" / "index.html"
    page.unlink()
    monkeypatch.setattr("fedsim.report.run.write_run_report", write_run_report)
    for draw in (draw_loss, draw_miou, draw_segmentation):
        monkeypatch.setattr(f"fedsim.report.run_figures.{draw.__name__}", draw)
    assert play(["--resume", str(run)]) == 0
    assert all(word in page.read_text() for word in ("Settings that were given", "32x24", "d0"))


ODD = [None, 5, -1, 2**70, 10**400, 1.5, "x", "", [], {}, [1], {"a": 1}, True, float("nan"), float("inf")]


def places(value, at=()):
    """Yield the keys that lead to every value of a JSON file; of a list, to its first value."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*at, key))


def with_odd(value, at, odd):
    """Return a copy of a JSON value with another one at a place."""
    if not at:
        return odd
    copy = value.copy()
    copy[at[0]] = with_odd(value[at[0]], at[1:], odd)
    return copy


@pytest.mark.parametrize("name", ["metrics.jsonl", "environment.json", "report/summary.json"])
def test_an_odd_value_anywhere_gets_a_sentence_or_is_shown(played, tmp_path, capsys, name):
    """In list and show. Catches a traceback at "worst": 5, at bytes beyond float, and at a class without a number."""
    run = tmp_path / "run"
    shutil.copytree(played, run)
    *before, last = (run / name).read_text().splitlines() if name.endswith("l") else [(run / name).read_text()]
    base = json.loads(last)
    if before:
        base |= {"worst": {"name": "a", "miou": 0.5}, "warning": "w"}
    for at in places(base):
        for odd in ODD:
            (run / name).write_text("\n".join([*before, json.dumps(with_odd(base, at, odd))]) + "\n")
            for words in (["list", str(tmp_path)], ["show", str(run)]):
                try:
                    commands.main(words, standalone_mode=False)
                except OutputError as error:
                    assert str(run) in str(error) and (not at or not before or "line" in str(error)
                                                       or "metrics.jsonl" in str(error))
    capsys.readouterr()
