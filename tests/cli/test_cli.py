"""The console script: the table of algorithms, and mistakes."""

import subprocess
import sys

import pytest

from fedsim.algorithms import ALGORITHMS
from fedsim.cli import main
from fedsim.cli.algorithms import describe
from fedsim.settings.registry import COMBINATIONS, NAMES


def test_every_algorithm_is_listed_with_name_paper_and_options():
    """A registered one that nobody can ask for, or that no table shows, is an oversight. Catches a missing paper."""
    assert set(NAMES) == set(ALGORITHMS) | set(COMBINATIONS)
    for name in NAMES:
        told = describe(name)
        assert told.algo == name and told.name
        assert "arXiv:" in told.paper or name in ("local", "central", "central-wide")


@pytest.mark.parametrize(("name", "keeps", "up", "down"), [
    ("avg", "–", "1", "1"), ("prox", "–", "1", "1"), ("admm", "2 + 1 number", "1", "1 + 1 number"),
    ("scaffold", "1", "2", "2"), ("dyn", "1", "1", "1 + 1 number"), ("nova", "–", "1 + 1 number", "1"),
    ("adam", "–", "1", "1"), ("central", "–", "–", "–"), ("central-wide", "–", "–", "–"), ("local", "1", "–", "–")])
def test_vectors_are_those_of_the_papers(name, keeps, up, down):
    assert describe(name)[4:7] == (keeps, up, down)


def test_options_are_told_with_their_defaults():
    assert "--rho [auto]" in describe("admm").options and "--mu [0.01]" in describe("prox").options
    assert "--server-momentum [0.9]" in describe("avgm").options
    assert "--server-optimizer [none]" in describe("scaffold").options
    assert "server" not in describe("dyn").options


@pytest.mark.parametrize("command", ["run --help", "data inspect --help", "--help", "list --help"])
def test_help_needs_neither_torch_nor_numpy(command):
    """It would take seconds, and a shell that completes options waits for the same imports. Seen to fail with an import
    of torch in fedsim/algorithms/fedavg.py."""
    code = ("import sys, fedsim.cli; sys.argv = ['fedsim', *sys.argv[1:]]\ntry: fedsim.cli.main()\nfinally: "
            "print('loaded:', [name for name in ('torch', 'numpy', 'PIL', 'matplotlib') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code, *command.split()], capture_output=True, text=True, check=True)
    assert "Usage: fedsim" in done.stdout and done.stdout.endswith("loaded: []\n")


def test_the_command_prints_the_table(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fedsim", "algorithms"])
    main()
    printed = capsys.readouterr().out
    assert all(describe(name).name in printed for name in NAMES) and "--krum-hostile [1]" in printed


@pytest.mark.parametrize(("arguments", "says"), [
    (["algorithm"], "no such command 'algorithm'"), (["algorithms", "nowhere:Mine"], "importing nowhere failed"),
    (["algorithms", "avgg"], "--algo is 'avgg'")])
def test_a_mistake_gets_one_sentence_and_status_2(monkeypatch, capsys, arguments, says):
    monkeypatch.setattr("sys.argv", ["fedsim", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and says in told and len(told.splitlines()) == 1 and told.startswith("fedsim: ")
