"""Commands in odd environments, by chance: variables of ranks, locales, homes, terminals, and streams that fail.

Whatever there is around a command, it says in a sentence why it cannot work, or does what it does elsewhere. Most
commands are played by a process that has imported everything, and forks; some are started as a user starts them.
"""

import contextlib
import json
import locale
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from damage import Outcome, model
from layouts import draw, write_segnet

from fedsim.system.launchers import VARIABLE, name_process

ROOT = Path(__file__).parent.parent
NUMBERS = ["", "0", "0", "1", "1", "2", "-1", "x", "1.5", " 1", "٣", "9" * 30, "\udcff"]
SIZES = [*NUMBERS[:5], *NUMBERS[6:]]  # with two ranks, each waits for the other
VARIABLES = {
    "RANK": NUMBERS, "WORLD_SIZE": SIZES, "LOCAL_RANK": NUMBERS, "LOCAL_WORLD_SIZE": NUMBERS,
    "MASTER_ADDR": ["", "127.0.0.1", "nowhere.invalid"], "MASTER_PORT": NUMBERS, "GROUP_RANK": NUMBERS,
    "TORCHELASTIC_RUN_ID": ["", "none", "\udcff"], "TORCHELASTIC_RESTART_COUNT": NUMBERS,
    "TORCHELASTIC_USE_AGENT_STORE": ["True", "False", "x"],
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": NUMBERS, "PET_NNODES": NUMBERS, "SLURM_PROCID": NUMBERS,
    "CUDA_VISIBLE_DEVICES": [*NUMBERS, ",", "0,0"], VARIABLE: ["", "x", "a/b/c/d", "a/b/1/2", "a b"],
    "LC_ALL": ["", "C", "POSIX", "C.UTF-8", "xx_XX", "de_DE.ISO-8859-1"], "LANG": ["", "C", "x"],
    "PYTHONIOENCODING": ["ascii", "latin-1", "utf-8", "ascii:strict"], "PYTHONUTF8": ["0", "1"],
    "HOME": ["", "/nowhere", "relative"], "TERM": ["", "dumb", "x", "xterm-256color"], "NO_COLOR": ["", "1"],
    "COLUMNS": NUMBERS, "LINES": NUMBERS, "FORCE_COLOR": ["1"], "TZ": ["", "x", "UTC"], "MPLBACKEND": ["agg", "x"],
    "MPLCONFIGDIR": ["/nowhere", "/dev/null"], "XDG_CACHE_HOME": ["", "/nowhere"], "PYTHONUNBUFFERED": ["1"],
    "FEDSIM_DATA": ["", "/nowhere", "~"], "USER": [""], "SHELL": [""]}
OF_A_LAUNCH = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
STREAMS = ["pipe", "pipe", "pipe", "closed", "full", "no reader", "null"]
LIMIT = 60  # seconds


class Case(NamedTuple):
    """A command and what is around it. A variable that is None is taken away; streams are those of 0, 1 and 2."""

    module: str
    words: list[str]
    variables: Mapping[str, str | None]
    streams: list[str]


class Environments:
    """A finished run, and the same commands on it and beside it in one environment after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "environments"
        self.server: Any = None  # the process that forks; it is started when it is needed
        self.folder.mkdir()
        for split, scenes in (("train", 6), ("val", 2)):
            write_segnet(self.folder / "camvid", {f"{split}_{number}": draw(12, number) for number in range(scenes)},
                         split)
        self.plain = ["--algo", "admm", "--data", "camvid", "--data-root", "camvid", "--cars", "2", "--rounds", "1",
                      "--image-size", "32x24", "--width", "2", "--threads", "1", "--timeout", "2"]
        self.whole = self.folder / "whole"
        status, said = self._start(Case("fedsim", ["run", "--ranks", "1", *self.plain, "--out", "whole"], {},
                                        ["null", "pipe", "pipe"]))
        assert status == 0, said
        self.model = model(self.whole)

    def play(self, chance: random.Random) -> Outcome:
        """Play a command. A run that ends well has the model of the one in an ordinary environment."""
        case = self._draw(chance)
        really = chance.random() < 0.15
        status, said = self._start(case) if really else self._fork(case)
        told = f"{case} {'started' if really else 'forked'}: {status}\n{said}"
        if case.streams[2] == "pipe":
            lines = [line for line in said.splitlines() if not line.startswith("libgomp: ")]
            another = case.variables.get("TORCHELASTIC_RUN_ID") and case.variables.get("RANK") in ("1", "2")
            silent = status == 0 or (another and case.words[0] == "run")  # the first rank speaks for it
            assert "Traceback" not in said and len(lines) == (0 if silent else 1), told
            assert all(line.startswith("fedsim: ") for line in lines), told
        assert status in (0, 1, 2), told
        if status == 0 and "--out run" in " ".join(case.words):
            assert model(self.folder / "run") == self.model, told
        return Outcome(status, said)

    def close(self) -> None:
        """End the process that forks."""
        if self.server:
            self.server.stdin.close()
            self.server.wait()

    def _draw(self, chance: random.Random) -> Case:
        variables: dict[str, str | None] = {}
        for name in chance.sample([*VARIABLES], chance.choice([1, 2, 4, 8])):
            variables[name] = chance.choice([None, *VARIABLES[name]])
        if chance.random() < 0.4:  # almost whole
            kept = {name: value for name, value in variables.items() if chance.random() < 0.5}
            variables = {**OF_A_LAUNCH, **kept}
        if chance.random() < 0.2:
            variables[VARIABLE] = name_process(os.getpid())
        streams = [chance.choice(STREAMS) if chance.random() < 0.3 else "pipe" for _ in range(3)]
        return Case(*self._command(chance), variables, streams)

    def _command(self, chance: random.Random) -> tuple[str, list[str]]:
        for name in ("run", "prediction"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        kind = chance.random()
        if kind < 0.12:
            return "fedsim.main", [*self.plain, "--out", "run"]
        if kind < 0.16:
            return "fedsim", ["run", "--ranks", "2" if chance.random() < 0.1 else "1", *self.plain, "--out", "run"]
        if kind < 0.26:
            shutil.copytree(self.whole, self.folder / "run")
            (self.folder / "run/report/summary.md").unlink()
            return "fedsim.main", ["--out", "run", "--resume", "auto"]
        return "fedsim", chance.choice([
            ["list", "."], ["show", "whole"], ["algorithms"], ["--help"], ["run", "--help"], ["data", "cache"],
            ["data", "inspect", *self.plain[2:8]], ["predict", "whole", "camvid/val", "--out", "prediction"],
            ["list", "~"], ["--version"], ["compare", "--help"], ["nonsense"]])

    def _environment(self, case: Case) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if name not in VARIABLES or name == "HOME"}
        both = {**own, "FEDSIM_CACHE": str(self.folder / "cache"), "PYTHONPATH": str(ROOT), **case.variables}
        return {name: value for name, value in both.items() if value is not None}

    def _start(self, case: Case) -> tuple[int, str]:
        """Start a command as a user does. Return its status and what it has said on stderr."""
        files = [_open(case, number, self.folder) for number in range(3)]
        shut = "".join(f" {number}>&-" for number, stream in enumerate(case.streams) if stream == "closed")
        words = [sys.executable, "-m", case.module, *case.words]
        try:
            done = subprocess.run(["sh", "-c", f'exec "$@"{shut}', "sh", *words], stdin=files[0], stdout=files[1],
                                  stderr=files[2], env=self._environment(case), cwd=self.folder, timeout=LIMIT)
        finally:
            for file in files:
                os.close(file)
        return done.returncode, self._said()

    def _fork(self, case: Case) -> tuple[int, str]:
        """Let a process that has imported everything fork, and the fork play the command."""
        if self.server is None:
            self.server = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self.folder,
                env=os.environ | {"PYTHONPATH": ":".join(sys.path)})
        asked = case._replace(variables=self._environment(case))
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline()), self._said()

    def _said(self) -> str:
        said = (self.folder / "said").read_bytes() if (self.folder / "said").exists() else b""
        (self.folder / "said").unlink(missing_ok=True)
        return said.decode(errors="replace")


def _open(case: Case, number: int, folder: Path) -> int:
    """Return a descriptor for a stream. Only stderr is read afterwards."""
    stream = case.streams[number]
    if stream == "full":
        return os.open("/dev/full", os.O_RDWR)
    if stream == "no reader":
        reader, writer = os.pipe()
        os.close(reader)
        return writer
    return os.open(folder / "said" if (number, stream) == (2, "pipe") else os.devnull, os.O_RDWR | os.O_CREAT)


def serve() -> None:
    """Play the cases that come on stdin, each in a fork, and write the status of each; 999 if it does not end."""
    from fedsim import api, cli, main  # noqa: F401 what takes long to import
    from fedsim.experiment import journal  # noqa: F401
    from fedsim.report import run, run_figures

    for name in ("draw_loss", "draw_miou", "draw_segmentation"):  # figures take longer than the runs
        setattr(run_figures, name, lambda *given: next(one for one in given if isinstance(one, Path)).touch())
    run.write_run_report = lambda *given: given[-1].touch()  # the page has figures too
    for line in sys.stdin:
        case = Case(*json.loads(line))
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(SystemExit):
                status = _play_here(case)
            os._exit(status)
        print(_wait(child), flush=True)


def _wait(child: int) -> int:
    limit = time.monotonic() + LIMIT
    while time.monotonic() < limit:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return 999


def _play_here(case: Case) -> int:
    os.environ.clear()
    os.environ.update({name: value for name, value in case.variables.items() if value is not None})
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")[0]
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, "")
    streams: list[Any] = []
    for number, stream in enumerate(case.streams):
        os.dup2(_open(case, number, Path()), number)
        if stream == "closed":
            os.close(number)
        errors = "backslashreplace" if number == 2 else "strict"
        streams.append(None if stream == "closed" else open(  # noqa: SIM115
            number, "w" if number else "r", encoding=encoding, errors=errors, closefd=False))
    sys.stdin, sys.stdout, sys.stderr = streams
    sys.argv = [case.module, *case.words]
    try:
        return _call(case)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        return 99
    finally:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()


def _call(case: Case) -> int:
    from fedsim import cli, main

    if case.module == "fedsim.main":
        return main.main(case.words)
    cli.main()
    return 0


if __name__ == "__main__":
    serve()
