import fcntl
import json
import os
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from fedsim.errors import DataError, OutputError, RunError
from fedsim.record.metrics_file import read_metrics
from fedsim.record.run_directory import RunDirectory

CONFIG = {"algo": "admm", "rho": None, "data_root": Path("data/camvid"), "image_size": [120, 90],
          "model": {"name": "segnet", "width": None}}
HEADER = "repeat with: torchrun --nproc_per_node=4 -m fedsim.main --config THIS\nfedsim 0.1.0"


def create(path: Path) -> RunDirectory:
    return RunDirectory.create(path, CONFIG, {"torch": "2.6", "ranks": 4}, HEADER)


def listing(path: Path) -> dict[str, bytes | None]:
    return {str(found.relative_to(path)): found.read_bytes() if found.is_file() else None
            for found in path.rglob("*")}


def test_a_new_run_directory_has_every_file_and_subdirectory(tmp_path):
    run = create(tmp_path / "runs" / "a")
    assert set(listing(run.path)) == {"config.toml", "environment.json", "metrics.jsonl", "tensorboard",
                                      "checkpoints", "report", "lock"}
    assert run.metrics.read_bytes() == b""
    assert run.tensorboard.is_dir() and run.checkpoints.is_dir() and run.report.is_dir()
    assert json.loads((run.path / "environment.json").read_text()) == {"torch": "2.6", "ranks": 4}


def test_config_reads_back_as_toml_without_what_is_not_set(tmp_path):
    """A header of two lines of which only the first is commented out would not parse."""
    text = (create(tmp_path / "a").path / "config.toml").read_text()
    assert text.startswith("# repeat with: torchrun --nproc_per_node=4 -m fedsim.main --config THIS\n")
    assert tomllib.loads(text) == {"algo": "admm", "data_root": "data/camvid", "image_size": [120, 90],
                                   "model": {"name": "segnet"}}


def test_an_empty_directory_is_accepted(tmp_path):
    assert create(tmp_path).metrics.exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", "notes.txt", ".hidden"])
def test_a_directory_that_holds_anything_is_refused_and_left_as_it_was(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(OutputError, match=r"already holds .*--out") as error:
        create(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert listing(tmp_path) == {name: b"precious"}


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_the_way_is_refused_and_left_as_it_was(tmp_path, below):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(OutputError, match=r"cannot make the directory .*out.*--out"):
        create(tmp_path / "out" / below)
    assert (tmp_path / "out").read_text() == "precious"


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path, monkeypatch):
    """Otherwise the same --out would be refused once there is room again."""
    real = Path.mkdir

    def full(path, *args, **kwargs):
        if path.name == "checkpoints":
            raise OSError(28, "No space left on device")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OutputError, match="No space left on device"):
        create(tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("fault", [DataError("no"), KeyboardInterrupt(), RuntimeError()])
def test_whatever_goes_wrong_leaves_nothing_behind(tmp_path, fault):
    """Mutation: clear away after errors of the system alone."""
    def others(folder):
        raise fault

    with pytest.raises(type(fault)):
        RunDirectory.create(tmp_path / "a", CONFIG, {}, HEADER, others)
    assert not (tmp_path / "a").exists()


def test_a_name_that_is_no_text_is_refused_and_leaves_nothing_behind(tmp_path):
    """Such as a file's in Latin-1. Catches an empty config.toml, which would count as a run."""
    with pytest.raises(OutputError, match="is not text; rename it"):
        RunDirectory.create(tmp_path / "a", {"data_root": os.fsdecode(b"/caf\xe9")}, {}, HEADER)
    assert not (tmp_path / "a").exists()


def test_a_file_system_without_locks_gets_no_run(tmp_path, monkeypatch):
    """Catches a lock file that stays behind, and has the directory refused from then on."""
    def unsupported(file, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.raises(OutputError, match="No locks available"):
        create(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_of_two_runs_started_at_once_in_one_directory_the_later_writes_nothing(tmp_path, monkeypatch):
    """The second makes its directory between the first's look and its lock.

    Mutation: do not look again once the lock is held.
    """
    real = Path.iterdir
    taken = {}

    def look(path):
        found = list(real(path))
        monkeypatch.setattr(Path, "iterdir", real)
        RunDirectory.create(path, {"algo": "avg"}, {}, "the second run")
        taken.update(listing(path))
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", look)
    with pytest.raises(OutputError, match="already holds"):
        create(tmp_path)
    assert listing(tmp_path) == taken and b"the second run" in taken["config.toml"]


def test_a_start_while_another_writes_is_refused_and_takes_nothing_away(tmp_path):
    """The second comes when all but config.toml is there, as a killed start leaves it. Mutation: no lock."""
    refused = []

    def second(folder):
        before = listing(folder)
        with pytest.raises(OutputError, match="another process works on") as error:
            create(folder)
        refused.append(error)
        assert listing(folder) == before and "metrics.jsonl" in before

    RunDirectory.create(tmp_path, CONFIG, {}, "the first run", second)
    assert refused and (tmp_path / "config.toml").read_text().startswith("# the first run")


@pytest.mark.parametrize("existing", [True, False])
def test_of_eight_threads_one_makes_the_directory(tmp_path, existing):
    path = tmp_path / "run"
    if existing:
        path.mkdir()
    start = threading.Barrier(8, timeout=20)
    outcomes = []

    def attempt():
        start.wait()
        try:
            outcomes.append(create(path))
        except OutputError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["OutputError"] * 7 + ["RunDirectory"]


STARTED = ["lock", "environment.json", "tensorboard", "checkpoints", "report", "metrics.jsonl", "partition.json",
           ".config.part.toml"]


def leave(path: Path, names: list[str]) -> None:
    for name in names:
        if "." in name or name == "lock":
            (path / name).write_text("" if name in ("lock", "metrics.jsonl") else "{}")
        else:
            (path / name).mkdir()


@pytest.mark.parametrize("count", range(1, len(STARTED) + 1))
def test_what_a_start_that_was_killed_has_left_is_cleared_away(tmp_path, count):
    leave(tmp_path, STARTED[:count])
    assert create(tmp_path).metrics.read_bytes() == b""
    assert "partition.json" not in listing(tmp_path)


@pytest.mark.parametrize("kept", ["metrics.jsonl", "checkpoints/round-1.pt", "notes.txt"])
def test_a_run_that_has_lost_its_settings_is_not_cleared_away(tmp_path, kept):
    leave(tmp_path, STARTED)
    (tmp_path / kept).write_text("precious")
    before = listing(tmp_path)
    with pytest.raises(OutputError, match="already holds"):
        create(tmp_path)
    assert listing(tmp_path) == before


def test_a_lock_that_is_taken_away_while_another_waits_for_it_is_not_held(tmp_path, monkeypatch):
    """What a start that fails does. Mutation: take whatever file flock has locked."""
    run = create(tmp_path / "a")
    real = fcntl.flock

    def taken_away(file, how):
        (run.path / "lock").unlink(missing_ok=True)
        real(file, how)

    monkeypatch.setattr("fcntl.flock", taken_away)
    with pytest.raises(OutputError, match="another process works on"):
        run.lock()


def test_appended_records_read_back_in_order_at_once(tmp_path, records):
    run = create(tmp_path / "a")
    for count, record in enumerate(records, start=1):
        run.append(record)
        assert read_metrics(run.metrics) == records[:count]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused_by_round_and_place(tmp_path, records, value):
    run = create(tmp_path / "a")
    run.append(records[0])
    records[3]["cars"][2]["loss"] = value
    with pytest.raises(RunError, match=rf"round 3, rank 0: cars\[2\]\.loss is {value}"):
        run.append(records[3])
    assert read_metrics(run.metrics) == records[:1]


def test_metrics_that_cannot_be_written_are_a_run_error(tmp_path, records):
    run = create(tmp_path / "a")
    run.metrics.unlink()
    run.metrics.mkdir()
    with pytest.raises(RunError, match=r"round 2, rank 0: cannot write .*metrics\.jsonl"):
        run.append(records[2])


def test_a_run_that_goes_on_keeps_the_records_up_to_its_checkpoint(tmp_path, records):
    """And a torn last line does not stay in front of the next. Catches a later record that stands there twice."""
    run = create(tmp_path / "a")
    for record in records:
        run.append(record)
    with open(run.metrics, "a") as file:
        file.write('{"round": 7, "al')
    assert run.cut(4) == records[:5]
    for record in records[5:]:
        run.append(record)
    assert read_metrics(run.metrics) == records
    assert run.cut(-1) == [] and run.metrics.read_bytes() == b""


@pytest.mark.parametrize("change", [
    lambda lines: lines[:2], lambda lines: [*lines[:1], *lines[2:]], lambda lines: [*lines, lines[2]],
    lambda lines: [lines[1], lines[0], *lines[2:]], lambda lines: [],
], ids=["too few", "a gap", "doubled", "swapped", "none"])
def test_metrics_without_each_round_of_the_checkpoint_are_refused(tmp_path, records, change):
    """And left as they are. Catches a count in the place of the rounds themselves."""
    run = create(tmp_path / "a")
    for record in records[:4]:
        run.append(record)
    run.metrics.write_text("".join(change(run.metrics.read_text().splitlines(keepends=True))))
    before = run.metrics.read_bytes()
    with pytest.raises(OutputError, match=r"does not hold a record of each round up to 3, .*; restore it, or start"):
        run.cut(3)
    assert run.metrics.read_bytes() == before


@pytest.mark.parametrize(("key", "value"), [
    ("cars", None), ("cars", [1]), ("cars", [{"car": 0}]), ("cars", {}), ("global", 7), ("global", {"loss": 1.0}),
    ("seconds", {}), ("seconds", {"total": "1"}), ("pictures", 1.5), ("pictures", True), ("algo", None),
    ("lr", float("nan")), ("lr", float("inf")), ("bytes_up", None)])
def test_a_record_that_the_report_could_not_use_is_refused(tmp_path, records, key, value):
    """Catches a KeyError hours later, when the report is drawn."""
    run = create(tmp_path / "a")
    run.metrics.write_text("".join(json.dumps(record) + "\n" for record in [*records[:2], records[2] | {key: value}]))
    says = r"metrics\.jsonl is damaged: line 3, the record of round 2, has missing or wrong fields; restore it"
    with pytest.raises(OutputError, match=says):
        run.cut(2)
    assert len(run.cut(1)) == 2


def test_one_process_works_on_a_run(tmp_path):
    """And one that was killed leaves no lock. Catches a lock file that counts by being there."""
    run = create(tmp_path / "a")
    with run.lock():
        for _ in range(2):
            with pytest.raises(OutputError, match=r"another process works on .*a; wait for its end, or choose"):
                run.lock()
    with run.lock():
        pass
    code = f"from fedsim.record.run_directory import *; lock = RunDirectory(Path({str(run.path)!r})).lock(); " \
           "import os; print('held', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    assert other.stdout.readline() == "held\n"
    with pytest.raises(OutputError, match="another process works on"):
        run.lock()
    other.kill()
    other.communicate()
    with run.lock():
        assert (run.path / "lock").exists()


def test_a_lock_writes_over_nothing(tmp_path):
    """Catches a file that is opened for writing: the lock may be a link to something of the user's."""
    run = create(tmp_path / "a")
    (tmp_path / "precious").write_text("precious")
    (run.path / "lock").unlink()
    (run.path / "lock").symlink_to(tmp_path / "precious")
    with run.lock():
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    """Catches every error taken for another process."""
    def unsupported(file, how):
        raise OSError(37, "No locks available")

    run = create(tmp_path / "a")
    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.raises(OutputError, match=r"cannot lock .*lock \(No locks available\)"):
        run.lock()


def test_a_directory_that_is_gone_cannot_be_locked(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write in .*gone \(No such file"):
        RunDirectory(tmp_path / "gone").lock()


def test_a_last_line_torn_by_a_kill_is_left_out_and_a_damaged_one_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"round": 0}\n{"round": 1}\n{"rou')
    assert read_metrics(path) == [{"round": 0}, {"round": 1}]
    path.write_text('{"round": 0}\n{"rou\n{"round": 2}\n')
    with pytest.raises(OutputError, match=r"metrics\.jsonl, line 2"):
        read_metrics(path)
    with pytest.raises(OutputError, match="cannot read"):
        read_metrics(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("module", ["record.run_directory", "report.progress", "report.summary"])
def test_importing_a_light_module_imports_nothing_heavy(module):
    """Start-up time: what the first round does not need is imported when it is."""
    heavy = ["torch", "tensorboard", "matplotlib", "rich", "PIL"]
    code = f"import sys, fedsim.{module}; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(root)})
    assert done.stdout.strip() == "[]"
