"""Output that cannot be written costs a command none of its files, and ends no run."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from fedsim.system.console import Enduring, enduring_output

B = ["--cars", "2", "--width", "4", "--image-size", "32x24", "--threads", "1", "--device", "cpu", "--rounds", "1"]
FULL = "fedsim: stdout cannot be written (No space left on device), so a part of the output is lost\n"


def start(sink: str, *words: object, module: str = "fedsim",
          more: Mapping[str, str] = MappingProxyType({})) -> subprocess.CompletedProcess[str]:
    """Run a command whose stdout is a pipe without a reader, a full device, or closed; or whose stderr is closed.

    more: variables of its environment.
    """
    command, env = [sys.executable, "-m", module, *map(str, words)], os.environ | more
    if sink in ("closed", "no stderr"):
        shut = 1 if sink == "closed" else 2
        return subprocess.run(["sh", "-c", f'exec "$@" {shut}>&-', "sh", *command], capture_output=True, text=True,
                              env=env)
    if sink == "full":
        with open("/dev/full", "w") as full:
            return subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=env)
    finally:
        os.close(writer)


@pytest.mark.parametrize(("sink", "status", "said"), [("no reader", 0, ""), ("full", 1, FULL), ("closed", 0, ""),
                                                      ("no stderr", 0, None)])
def test_a_stdout_that_cannot_be_written_costs_no_file(tiny_camvid, tmp_path, sink, status, said):
    """Files and records are whole, there is no traceback, and nothing of the output is in the record."""
    run, here = tmp_path / "run", ["--data", "camvid", "--data-root", tiny_camvid]
    commands = {
        "run": ["run", "--ranks", 1, *B, *here, "--out", run],
        "evaluation": ["evaluate", run, "--perturb", "fog:2", "--out", tmp_path / "evaluation"],
        "inspection": ["data", "inspect", *here, "--cars", 2, "--out", tmp_path / "inspection"],
        "listed": ["list", tmp_path], "shown": ["show", run], "prediction": [
            "predict", run, tiny_camvid / "val", "--out", tmp_path / "prediction"]}
    for words in commands.values():
        done, expected = start(sink, *words), 0 if words[0] == "run" else status
        assert (done.returncode, done.stderr if said is not None else None) == (expected, said), words
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    assert (run / "report" / "summary.md").is_file() and (run / "checkpoints" / "model.safetensors").is_file()
    assert {path.name for path in (tmp_path / "evaluation").iterdir()} == {
        "robustness.json", "robustness.md", "robustness.png", "perturbations.png"}
    assert {"inspection.md", "inspection.json", "partition.json", "classes.png", "cars"} <= {
        path.name for path in (tmp_path / "inspection").iterdir()}
    assert [*(tmp_path / "prediction" / "index").iterdir()]


@pytest.mark.parametrize("sink", ["no reader", "full", "closed"])
def test_a_rank_whose_output_is_lost_plays_its_run_and_succeeds(tiny_camvid, tmp_path, sink):
    """torchrun would start the ranks of a run again that has ended well."""
    done = start(sink, *B, "--data", "camvid", "--data-root", tiny_camvid, "--out", tmp_path / "run",
                 module="fedsim.main")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "report" / "summary.md").is_file()


def test_help_and_version_end_quietly_too(tmp_path):
    for words in (["--help"], ["--version"], ["algorithms"], ["show", "--help"]):
        assert (done := start("no reader", *words)).returncode == 0 and done.stderr == ""
        assert (done := start("full", *words)).returncode == 1 and done.stderr == FULL


def test_a_stream_keeps_its_first_error_and_goes_on(monkeypatch):
    class Full:
        encoding = "utf-8"

        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", None)
    with enduring_output() as (out, _):
        print("lost", flush=True)
        print("lost as well", file=sys.stderr)
        assert isinstance(sys.stdout, Enduring) and sys.stdout.encoding == "utf-8"
    assert out.error and out.error.errno == 28 and sys.stderr is None and isinstance(sys.stdout, Full)


def test_a_run_in_python_goes_on_without_its_output(tiny_camvid, tmp_path, monkeypatch):
    """As in a notebook whose page was closed."""
    import fedsim

    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        result = fedsim.run(data="camvid", data_root=str(tiny_camvid), cars=2, width=4, image_size="32x24", rounds=1,
                            threads=1, device="cpu", out=str(tmp_path / "run"))
        monkeypatch.undo()
        with pytest.raises(OSError):
            full.close()
    assert len(result.metrics) == 2 and Path(result.report).is_file()


@pytest.mark.parametrize("trouble", ["at the start", "in a round"])
def test_tensorboards_files_that_cannot_be_written_end_no_training(tiny_camvid, tmp_path, capsys, monkeypatch, trouble):
    """They are for eyes alone: the records have all the numbers. Catches a run of days that ends for a picture."""
    from fedsim.main import main
    from fedsim.report.tensorboard.board import TensorBoard

    full = OSError(28, "No space left on device", "events")

    def fail(*arguments: object, **options: object) -> None:
        raise full

    monkeypatch.setattr(TensorBoard, "__init__" if trouble == "at the start" else "log_round", fail)
    run = tmp_path / "run"
    assert main([*B, "--data", "camvid", "--data-root", str(tiny_camvid), "--out", str(run)]) == 0
    said = capsys.readouterr()
    assert said.out.count("TensorBoard cannot be written: No space left on device (events); the run goes on") == 1
    assert said.err == "" and len((run / "metrics.jsonl").read_text().splitlines()) == 2
    assert (run / "report" / "summary.md").is_file()


def test_a_comparison_and_an_export_are_written_before_words(tiny_camvid, tmp_path):
    """And no figure needs the backend that MPLBACKEND names, which matplotlib may not know any more."""
    run, ascii_only = tmp_path / "run", {"PYTHONIOENCODING": "ascii", "MPLBACKEND": "qt4agg"}
    assert start("closed", *B, "--data", "camvid", "--data-root", tiny_camvid, "--out", run,
                 module="fedsim.main", more=ascii_only).returncode == 0
    for sink, said in (("full", FULL), ("no reader", "")):
        done = start(sink, "compare", run, "--out", tmp_path / f"comparison {sink}", more=ascii_only)
        assert (done.returncode, done.stderr) == (0, said)
        assert (tmp_path / f"comparison {sink}" / "index.html").is_file()
    done = start("full", "export", run, "--format", "torch", "--out", tmp_path / "model.pt2", more=ascii_only)
    assert (done.returncode, (tmp_path / "model.pt2").is_file()) == (1, True) and done.stderr.endswith(FULL)


def test_click_does_not_write_past_an_ascii_stream():
    """Catches help that goes to the stream's buffer as UTF-8, where an error is none of ours."""
    for sink, status, said in (("full", 1, FULL), ("no reader", 0, "")):
        done = start(sink, "list", "--help", more={"PYTHONIOENCODING": "ascii"})
        assert (done.returncode, done.stderr) == (status, said)
