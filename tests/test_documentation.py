"""What README and docs tell people to type works, and what they link to is there."""

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from commandline import parse
from launches import type_command

from fedsim.main import main
from fedsim.settings.registry import NAMES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
SHORT = ["--rounds", "1", "--image-size", "32x24", "--width", "4"]  # the same command, in seconds


def commands() -> list[str]:
    """Every distinct command line in the fenced blocks of the pages."""
    lines = []
    for page in PAGES:
        for block in re.findall(r"```\w*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            lines += [line.split("  #")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
    wanted = ("torchrun ", "python -m fedsim.main", "launch/", "fedsim ")
    return sorted({line for line in lines if line.startswith(wanted)})


@pytest.mark.parametrize("line", [line for line in commands() if "fedsim.main" in line])
def test_documented_runs_work(line, tiny_camvid, tmp_path):
    words = shlex.split(line)
    if words[0] == "torchrun":
        words[:1] = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    else:
        words[0] = sys.executable
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "add-an-algorithm.md").read_text(), re.DOTALL)[0]
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "fedexp.py").write_text(code)  # in the working directory, as the page has it
    short = SHORT if "torchvision:" not in line else SHORT[:4]
    if "--resume" in words:
        begun = ["--cars", "4", "--data", "camvid", "--data-root", str(tiny_camvid), *short, "--out",
                 str(tmp_path / "run")]
        assert main(begun) == 0
        words = [str(tmp_path / "run") if word.startswith("runs/") else word for word in words]
        short = []
    done = subprocess.run([*words, *short, "--out", str(tmp_path / "run")], cwd=with_data(tmp_path, tiny_camvid),
                          capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "report" / "segmentation.png").exists()


def with_data(folder: Path, camvid: Path) -> Path:
    """The folder, in which a tiny CamVid lies where `fedsim data fetch` would put it."""
    (folder / "data").mkdir()
    (folder / "data" / "camvid").symlink_to(camvid)
    return folder


def typed(line: str) -> list[str]:
    """The words after the command's name, with the project's own files and a drive of the tiny CamVid."""
    words = shlex.split(re.sub(r"--hold-out-drive \w+", "--hold-out-drive d1", line))[1:]
    return [str(ROOT / word) if word.startswith("launch/") else word for word in words]


def shortened(words: list[str]) -> list[str]:
    """What makes a run short, of the options that its network and its crops allow."""
    rounds, small, narrow = SHORT[:2], SHORT[2:4], SHORT[4:]
    if "--crop" in words:
        return [*rounds, *narrow, "--image-size", "64x48", "--crop", "32x32"]
    if "--model" not in words:
        return SHORT
    size = ["--image-size", "64x32"] if any("segmentation_models" in word for word in words) else small
    return [*rounds, *size, "--local-steps", "2"]


def write_network(folder: Path) -> None:
    """The network of a page, in the folder where a user would have it."""
    page = (ROOT / "docs" / "bring-your-own-network.md").read_text(encoding="utf-8")
    code, = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (folder / "mynets.py").write_text(code)


def play_mentioned(words: list[str], folder: Path, camvid: Path) -> None:
    """The runs that a command reads, each of the algorithm that it is called after."""
    write_network(folder)
    own = next((["--model", word] for word in words if word.startswith("mynets:")), [])
    read = [word for before, word in pairwise(["", *words]) if before != "--out"]
    for path in sorted({match[0] for word in read if (match := re.match(r"runs/[^/]+", word))}):
        algo = Path(path).name if Path(path).name in NAMES else "admm"
        # The drives of the tiny CamVid are too short for scenes that are held out.
        data = ["--own-test", "0.2"] if "--matrix" in words else ["--data", "camvid", "--data-root", str(camvid)]
        begun = ["--algo", algo, *data, *own, *shortened(own), "--quiet", "--out", str(folder / path)]
        assert type_command(["run", *begun], folder).returncode == 0 if own else main(begun) == 0


def of_command(*names: str) -> list[str]:
    return [line for line in commands() if line.split()[0] == "fedsim" and line.split()[1] in names]


@pytest.mark.parametrize("line", of_command("run"))
def test_documented_runs_of_the_console_script_work(line, tiny_camvid, tmp_path):
    words = typed(line)
    play_mentioned(words, tmp_path, tiny_camvid)
    done = type_command([*words, *([] if "--resume" in words else shortened(words))], with_data(tmp_path, tiny_camvid))
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.glob("runs/*/report/index.html"))


@pytest.mark.parametrize("line", of_command("compare"))
def test_documented_comparisons_work(line, tiny_camvid, tmp_path):
    """On few scenes, with one seed, two runs at a time, and two values of a grid in the place of learning rates."""
    words = typed(line)
    play_mentioned(words, tmp_path, tiny_camvid)
    if "--lrs" in words:
        place = words.index("--lrs")
        words[place : place + 2] = []
    words = [",".join(word.split(",")[:2]) if before == "--grid" else word for before, word in pairwise(["", *words])]
    if "--algos" in words:
        words += ["--data", "camvid", "--data-root", str(tiny_camvid), "--eval-split", "val", *SHORT, "--seeds", "1",
                  "--jobs", "2"]
    done = type_command(words, with_data(tmp_path, tiny_camvid))
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.glob("*/*/index.html"))


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("fedsim ") and " fetch " not in line
                                  and line not in of_command("run", "compare")])
def test_documented_commands_work(line, tiny_camvid, tmp_path):
    """On runs of the names that they mention, and on a tiny CamVid."""
    words = typed(line)
    play_mentioned(words, tmp_path, tiny_camvid)
    done = type_command(words, with_data(tmp_path, tiny_camvid))
    assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("fedsim ") and " fetch " in line])
def test_documented_downloads_are_asked_for_rightly(line, tmp_path):
    """Of a mirror that is not there."""
    done = type_command([*shlex.split(line)[1:], "--url", "http://127.0.0.1:9/camvid.tgz"], tmp_path)
    assert done.returncode == 2 and "http://127.0.0.1:9/camvid.tgz" in done.stderr, done.stderr


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("launch/")])
def test_documented_verbs_exist_and_their_options_parse(line):
    verb, *options = shlex.split(line)
    assert os.access(ROOT / verb, os.X_OK)
    if verb == "launch/run":
        assert parse(["--algo", "admm", *options]) is not None


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "data" / "README.md"],
                         ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_python_of_the_readme_works(tmp_path):
    code, = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    short = code.replace("rounds=3", "rounds=1, image_size='32x24', width=4")
    assert short != code
    done = subprocess.run([sys.executable, "-c", short], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and done.stdout.splitlines()[-1].endswith("report/index.html"), done.stderr
