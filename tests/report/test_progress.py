import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from records import make_records

from fedsim.report.progress import Progress, round_line
from fedsim.system.console import LOG

SCRIPT = """
from records import make_records
from fedsim.report.progress import Progress
from fedsim.system.console import LOG
with Progress(3) as progress:
    LOG.info("hello")
    for record in make_records(rounds=3, cars=4, evaluate_every=2):
        progress.show(record)
"""


def test_off_a_terminal_there_is_one_plain_line_a_round(capsys, records):
    with Progress(6) as progress:
        LOG.info("4 cars")
        for record in records:
            progress.show(record)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "4 cars" and len(lines) == 8 and err == ""
    assert lines[1] == "round 0/6  loss 2.400  mIoU 0.030  pixel accuracy 0.430  5.2 s"
    assert re.fullmatch(r"round 3/6  loss 1\.171  mIoU 0\.290  pixel accuracy 0\.690  "
                        r"cars( \d\.\d\d){4}  5\.2 s", lines[4])


def test_many_cars_are_summed_up():
    record = make_records(rounds=1, cars=9)[1]
    for entry, loss in zip(record["cars"], [0.9, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.4], strict=True):
        entry["loss"] = loss
    assert "  9 cars, min 0.10 median 0.50 max 0.90  " in round_line(record, 100)


def test_a_round_that_was_not_evaluated_says_so(records):
    records[2]["global"] = None
    assert round_line(records[2], 16).startswith("round  2/16  not evaluated  cars ")


def test_a_round_says_who_did_not_answer_and_whether_there_is_a_step():
    """Catches rounds without a step that look like others."""
    records = make_records(rounds=2, cars=4, chosen=lambda number: [0, 1, 2] if number == 1 else [])
    assert "did not answer" not in round_line(records[1], 2)
    records[1]["failed"], records[2]["failed"] = [3], [1, 3]
    assert "  1 did not answer  " in round_line(records[1], 2)
    assert "  2 did not answer, so there is no step  " in round_line(records[2], 2)


def run_on_terminal(**variables: str) -> tuple[str, str]:
    """What SCRIPT writes to a terminal on stderr, and to a pipe on stdout."""
    root = Path(__file__).parents[2]
    terminal, end = pty.openpty()
    env = {**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}", "TERM": "xterm", "COLUMNS": "110", **variables}
    done = subprocess.run([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=end, text=True,
                          env=env, check=True)
    os.close(end)
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # Linux says so at the end of a terminal whose other side is closed
        pass
    os.close(terminal)
    return shown.decode(), done.stdout


def test_a_terminal_shows_a_bar_with_the_latest_scores_and_a_redirected_stdout_its_lines():
    shown, out = run_on_terminal()
    assert "3/3" in shown and "loss 1.412" in shown and "mIoU" in shown
    assert len(out.splitlines()) == 5


def test_no_color_is_respected():
    """Colours are SGR sequences of 3x or 9x; the display still moves its cursor."""
    colour = re.compile(r"\x1b\[[\d;]*[39]\d")
    assert colour.search(run_on_terminal()[0])
    assert not colour.search(run_on_terminal(NO_COLOR="1")[0])
