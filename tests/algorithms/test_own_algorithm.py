"""A user's own algorithm: the one of docs/add-an-algorithm.md, and those that cannot be one."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import scenery
import torch
from own_algorithms import LATE_FAULTS
from quadratics import SOLO, bowls, federation, play
from scenery import on_ranks
from test_bad_input import FAST, refused  # noqa: F401 a fixture
from test_torchrun import command, digests, start

from fedsim.algorithms import FedAvg
from fedsim.cli.algorithms import describe
from fedsim.errors import RankError, SettingsError
from fedsim.experiment.watched import watch
from fedsim.main import main
from fedsim.settings.compatible import check
from fedsim.settings.fields import Settings
from fedsim.settings.registry import algorithm_class

PAGE = Path(__file__).parents[2] / "docs" / "add-an-algorithm.md"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that writes mypackage/NAME.py in the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, code: str) -> str:
        folder = tmp_path / "mypackage"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(code)
        for module in [module for module in sys.modules if module.split(".")[0] == "mypackage"]:
            del sys.modules[module]
        importlib.invalidate_caches()
        return f"mypackage.{name}"

    path = list(sys.path)
    yield write
    sys.path[:] = path


@pytest.fixture
def fedexp(package) -> str:
    """What the page tells people to type."""
    code, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20, "about ten lines and some imports"
    return f"{package('fedexp', code)}:FedExP"


def test_the_pages_algorithm_trains_and_is_the_same_on_two_ranks(fedexp, tiny_camvid, tmp_path, monkeypatch):
    """Through torchrun too. Catches a module that only the first rank finds."""
    assert main(command(tiny_camvid, tmp_path / "one", "--algo", fedexp)) == 0
    monkeypatch.setenv("PYTHONPATH", str(PAGE.parent.parent))
    done = start(2, "-m", "fedsim.main", *command(tiny_camvid, tmp_path / "two", "--algo", fedexp), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "one") == digests(tmp_path / "two") and len(set(digests(tmp_path / "one"))) == 4


def test_the_pages_algorithm_is_the_papers(fedexp):
    """On quadratics: FedAvg where all cars agree, and by its formula further where they pull apart."""
    own = algorithm_class(fedexp)
    car = bowls(1)[0]
    agreed = [play(federation(kind(), [car] * 3), 5).shared.theta for kind in (own, FedAvg)]
    assert float((agreed[0] - agreed[1]).abs().max()) < 1e-12
    moves = [play(federation(FedAvg(), [car]), 1).shared.theta for car in bowls()]  # from 0, a car at a time
    mean = sum(moves) / 5
    step = sum(float(move @ move) for move in moves) / 5 / (2 * float(mean @ mean))
    assert step > 1
    assert torch.allclose(play(federation(own(), bowls()), 1).shared.theta, step * mean, rtol=1e-9)


def test_an_algorithm_of_ones_own_is_listed_where_it_is_named(fedexp):
    paper = "Jhunjhunwala et al. 2023, arXiv:2301.09604"
    assert describe(fedexp)[1:7] == ("FedExP", paper, "images", "–", "1 + 1 number", "1")


def test_an_algorithm_that_is_added_as_the_page_says_runs_to_its_report(tiny_camvid, tmp_path):
    """A file and its place in the list, in a copy of the package. Catches a second list of names anywhere: the report's
    colours once had one, and every run of an algorithm that was added ended in an AssertionError after training."""
    _, code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    shutil.copytree(PAGE.parents[1] / "fedsim", tmp_path / "fedsim", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "fedsim" / "algorithms" / "fedexp.py").write_text(code)
    listed = tmp_path / "fedsim" / "algorithms" / "__init__.py"
    text = listed.read_text()
    assert "FedNova, LocalOnly" in text
    listed.write_text("\n\nfrom fedsim.algorithms.fedexp import FedExP\n".join(
        text.replace("FedNova, LocalOnly", "FedNova, FedExP, LocalOnly").partition("\n\n")[::2]))

    def fedsim(*words: str) -> str:
        done = subprocess.run([sys.executable, "-m", "fedsim", *words], cwd=tmp_path, capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "140"})
        assert done.returncode == 0, done.stderr
        return done.stdout

    fedsim("run", "--ranks", "1", *command(tiny_camvid, tmp_path / "run", "--algo", "fedexp", "--exp-epsilon", "0.5"))
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert config["algo"] == "exp" and config["exp_epsilon"] == 0.5
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "exp_epsilon" in page and (tmp_path / "run" / "report" / "summary.md").exists()
    assert "--exp-epsilon [1e-12]" in fedsim("algorithms")
    assert "Keeps the step of exp finite." in fedsim("run", "--help")


HEAD = "from typing import NamedTuple\nfrom fedsim.algorithms import Algorithm, FedAvg\n"
OWN = """
from dataclasses import dataclass
from typing import Literal

@dataclass(frozen=True)
class Mine(FedAvg):
    beta: float = 0.5
    power: int = 1
    alpha: float | None = None
    kind: Literal["soft", "hard"] = "soft"
    def update(self, shared, mean, participation):
        return shared._replace(theta=shared.theta + self.beta**self.power * (mean - shared.theta))
"""


def test_options_of_ones_own_are_set_kept_and_part_of_what_a_run_is(package, tiny_camvid, tmp_path, capsys):
    """Catches options that are not handed on, not kept in config.toml, or free to change when a run continues."""
    algo = f"{package('mine', HEAD + OWN)}:Mine"
    assert main(command(tiny_camvid, tmp_path / "one", "--algo", algo, "--option", "beta=0.25", "--option", "kind=hard",
                        "--option", "alpha=0.1")) == 0
    config = tomllib.loads((tmp_path / "one" / "config.toml").read_text())
    assert config["option"] == {"beta": 0.25, "power": 1, "alpha": 0.1, "kind": "hard"}
    again = ["--algo", algo, "--config", str(tmp_path / "one" / "config.toml"), "--out"]
    assert main([*again, str(tmp_path / "two")]) == 0
    assert main([*again, str(tmp_path / "other"), "--option", "beta=1"]) == 0
    assert digests(tmp_path / "one") == digests(tmp_path / "two") != digests(tmp_path / "other")
    go_on = ["--algo", algo, "--resume", str(tmp_path / "one")]
    assert main([*go_on, "--option", "beta=0.250"]) == 0
    assert main([*go_on, "--option", "beta=0.5"]) == 2
    assert "that would change the result" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "says"), [
    ({"beta": "much"}, "--option beta is much; it must be a number"),
    ({"power": "1.5"}, "--option power is 1.5; it must be a whole number"),
    ({"kind": "medium"}, "--option kind is medium; it must be soft or hard"),
    ({"gamma": "1"}, "mypackage.mine:Mine has no option 'gamma'; it has beta, power, alpha, kind")])
def test_an_option_of_ones_own_is_checked_by_its_field(package, given, says):
    algo = f"{package('mine', HEAD + OWN)}:Mine"
    with pytest.raises(SettingsError) as refusal:
        check(Settings(algo=algo, option=given))
    assert says in str(refusal.value)


def test_a_field_that_no_dataclass_has_made_an_option_is_explained(package):
    algo = f"{package('mine', HEAD + 'class Mine(FedAvg):' + chr(10) + '    beta: float = 0.5')}:Mine"
    with pytest.raises(SettingsError, match=r"write @dataclass\(frozen=True\) above class Mine"):
        check(Settings(algo=algo, option={"beta": 0.25}))




@pytest.mark.parametrize(("code", "says"), [
    ("Mine = 3", "Mine is no subclass of fedsim.algorithms.Algorithm"),
    ("class Mine: pass", "Mine is no subclass of fedsim.algorithms.Algorithm"),
    ("class Other(FedAvg): pass", "mypackage.mine has no 'Mine'"),
    ("class Mine(Algorithm): pass", "Mine has no method contribute"),
    ("class Mine(Algorithm):\n    def contribute(self, *a): return a[0].w, None", "Mine has no method update"),
    ("class Mine(FedAvg):\n    def __init__(self, beta): pass", "give every option a default"),
    ("import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Mine(FedAvg):\n    start: str = 'zero'",
     "the option start of Mine takes the place of a method of fedsim.algorithms.Algorithm"),
    ("1 / 0", "importing mypackage.mine failed (ZeroDivisionError: division by zero)"),
    ("class Mine(FedAvg:", "importing mypackage.mine failed (SyntaxError"),
    ("class Mine(FedAvg):\n    def contribute(self, local, shared, memory): return local.w", "must return a pair"),
    ("class Mine(FedAvg):\n    def contribute(self, local, shared, memory): return local.w[:3], None",
     "must be a tensor shaped as theta"),
    ("class Mine(FedAvg):\n    def correction(self, w, shared, memory): return w[:3]", "correction returns a tensor"),
    ("class Mine(FedAvg):\n    def update(self, shared, mean, participation): return mean", "update must return"),
    ("class Mine(FedAvg):\n    def init_shared(self, theta): return theta", "init_shared must return a NamedTuple"),
    ("class Mine(FedAvg):\n    def init_memory(self, theta): return {}", "a car may keep"),
    ("class Mine(FedAvg):\n    def start(self, shared, memory): raise KeyError('x')", "it raises KeyError: 'x'"),
    ("class Mine(FedAvg):\n    def start(self, shared, memory): return shared.theta[:1]", "start must return a tensor"),
    ("class Mine(FedAvg):\n    def contribute(self, local, shared, memory): return (local.w, 1.0), None",
     "must be a tensor shaped as theta, or a NamedTuple"),
    ("class Mine(FedAvg):\n    def contribute(self, local, shared, memory): return local.w, local.w",
     "does not keep what the algorithm's init_memory returns"),
    ("class S(NamedTuple):\n    theta: object\n    extra: object = None\n"
     "class Mine(FedAvg):\n    def init_shared(self, theta): return S(theta)", "tensors shaped as theta and numbers"),
    ("class Mine(FedAvg):\n    def update(self, shared, mean, participation): return shared if participation == 1 "
     "else None", "update must return"),
])
def test_what_is_no_algorithm_is_refused_with_the_reason(refused, package, tiny_camvid, code, says):  # noqa: F811
    """Before training, in one sentence. Catches a traceback of the user's own code."""
    module = package("mine", HEAD + code)
    arguments = ["--data", "camvid", "--data-root", str(tiny_camvid), *FAST]
    said = refused("--algo", f"{module}:Mine", *arguments, own_code=True)
    assert said.startswith("--algo mypackage.mine:Mine: ") and says in said


def test_options_of_ones_own_are_no_settings_of_ours(package, tiny_camvid, tmp_path):
    """A plain attribute named mu, and a counter of whole numbers. Catches a config.toml that refuses itself."""
    module = package("mine", HEAD + """
class Count(NamedTuple):
    theta: object
    rounds: int

class Mine(FedAvg):
    mu = 0.5
    def init_shared(self, theta): return Count(theta, 0)
    def update(self, shared, mean, participation): return Count(mean, shared.rounds + [1, 1, 1, 1][shared.rounds])
""")
    assert main(command(tiny_camvid, tmp_path / "one", "--algo", f"{module}:Mine")) == 0
    again = ["--config", str(tmp_path / "one" / "config.toml"), "--out", str(tmp_path / "two")]
    assert main([*again, "--algo", f"{module}:Mine"]) == 0
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_code_that_a_file_names_runs_only_if_the_command_names_it_too(package, tiny_camvid, tmp_path, capsys):
    """A preset, or a run, of somebody else's. Catches an import that nobody has asked for."""
    module = package("mine", HEAD + "class Mine(FedAvg): pass")
    assert main(command(tiny_camvid, tmp_path / "one", "--algo", f"{module}:Mine")) == 0
    package("mine", "raise SystemExit('it runs')")
    for options in (["--config", str(tmp_path / "one" / "config.toml"), "--out", str(tmp_path / "two")],
                    ["--resume", str(tmp_path / "one")]):
        capsys.readouterr()
        assert main(options) == 2
        told = capsys.readouterr().err
        assert f"say --algo {module}:Mine as well if you trust it" in told and len(told.splitlines()) == 1


def test_adam_goes_with_a_subclass_of_fedadmm_that_has_a_penalty(package):
    """Catches a check by name, which says that it divides by a step length."""
    module = package("mine", HEAD + "from fedsim.algorithms import FedADMM\nclass Mine(FedADMM): pass")
    check(Settings(algo=f"{module}:Mine", optimizer="adam", rho="0.1"))
    with pytest.raises(SettingsError, match=r"give a number, e\.g\. --rho 0\.01"):
        check(Settings(algo=f"{module}:Mine", optimizer="adam"))


@pytest.mark.parametrize("fault", ["late: an OSError", "late: an exit", "late: an interrupt"])
def test_what_fails_in_training_is_told_with_its_place(package, tiny_camvid, tmp_path, capsys, fault):
    """File and line of the user's code. Catches a traceback, an end without a word, a fault of fedsim's own files."""
    module = package("mine", LATE_FAULTS[fault].source())
    assert main([*command(tiny_camvid, tmp_path / "run", "--algo", f"{module}:Mine"), "--rounds", "6"]) == 1
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and LATE_FAULTS[fault].says in told and "round 5" in told
    assert f"--algo {module}:Mine: it raises" in told and "mypackage/mine.py:" in told


@pytest.mark.parametrize("fault", [name for name in LATE_FAULTS if "raises" not in LATE_FAULTS[name].says])
def test_what_is_wrong_in_a_late_round_is_told_with_its_place(package, fault):
    """A wrong result, or a write to what others hold. Catches a run that goes on, and a car that is blamed."""
    module = package("mine", LATE_FAULTS[fault].source())
    own = watch(algorithm_class(f"{module}:Mine")(), f"{module}:Mine", SOLO)
    made = scenery.federation(own, [2, 1])
    state = play(made, 4)
    with pytest.raises(RankError) as told:
        play(made, 1, state)
    said = str(told.value)
    assert f"--algo {module}:Mine: " in said and LATE_FAULTS[fault].says in said and "mypackage/mine.py:" in said


def test_a_whole_number_may_become_a_float_on_every_rank(package):
    """Catches ranks that take the coordinator's number for one of the type that they have."""
    module = package("mine", HEAD + """
class Count(NamedTuple):
    theta: object
    factor: float

class Mine(FedAvg):
    def init_shared(self, theta): return Count(theta, 1)
    def correction(self, w, shared, memory): return shared.factor * w
    def update(self, shared, mean, participation): return Count(mean, shared.factor / 2)
""")
    own = algorithm_class(f"{module}:Mine")()
    shared, other = on_ranks(2, lambda world: play(scenery.federation(own, [2, 1], world=world), 2).shared)
    assert shared.factor == other.factor == 0.25 and torch.equal(shared.theta, other.theta)


@pytest.mark.parametrize("code", ["raise SystemExit(3)",
                                  "class Mine(FedAvg):\n    def __init__(self): raise SystemExit",
                                  "class Mine(FedAvg):\n    def __init__(self): raise GeneratorExit"])
def test_code_that_ends_the_program_is_told_too(refused, package, code):  # noqa: F811
    """When it is imported, and when its class is called. Catches an exit without a word."""
    assert "Exit" in refused("--algo", f"{package('mine', HEAD + code)}:Mine", *FAST, own_code=True)


def test_a_module_that_is_not_there_is_refused(refused):  # noqa: F811
    said = refused("--algo", "nowhere.at.all:Mine", *FAST, own_code=True)
    assert "importing nowhere.at.all failed" in said and "PYTHONPATH" in said
