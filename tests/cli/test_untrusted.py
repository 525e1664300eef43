"""What is read from outside is refused in a sentence or does no harm, however it is damaged.

A short form of benchmarks/fuzz.py. Each test names a mutation that it was seen to catch.
"""

import random

import pytest
from damage import KINDS, Damage, damaged, one_sentence
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.experiment.journal import Journal
from fedsim.main import main
from fedsim.report import run_figures

CASES = dict.fromkeys(KINDS, 40) | {"environment.json": 12, "events": 8}  # these mostly play on, which takes longer


@pytest.fixture(scope="module")
def damage(tmp_path_factory):
    """With runs that draw nothing and print nothing: that takes longer than they do."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_loss", "draw_miou", "draw_segmentation"):
            patch.setattr(run_figures, name, lambda *arguments: None)
        patch.setattr("fedsim.report.summary.print_summary", lambda *arguments, **options: None)
        patch.setattr(Journal, "show", lambda self, number, predictions: None)
        yield Damage(tmp_path_factory.mktemp("damage"))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_told_in_a_sentence_or_does_no_harm(damage, kind):
    """Catches a KeyError for a record without a key, a model of another round, and a file that is believed."""
    outcomes = []

    @settings(max_examples=CASES[kind])
    @given(st.integers(0, 2**32))
    def play(seed):
        outcomes.append(KINDS[kind](damage, random.Random(seed)))

    play()
    assert any(outcome.status for outcome in outcomes) or kind == "events", "nothing was damaged"


def test_damages_are_of_every_kind():
    """So that the tests above say something. Catches chances that are never taken."""
    data = bytes(range(256)) * 20
    found = [damaged(data, random.Random(seed), b"other" * 999) for seed in range(300)]
    assert data not in found[:50] and len(set(found)) > 250
    assert min(map(len, found)) < 2000 and max(map(len, found)) > len(data) + 2000
    assert any(len(one) == len(data) and sum(map(int.__ne__, one, data)) == 1 for one in found)
    assert any(b"other" in one for one in found)


@pytest.mark.parametrize("line", ["a = " + "[" * 5000, "rounds = " + "9" * 5000, "lr = nan", "[lr]", "\0"])
def test_a_preset_that_python_itself_chokes_on_is_refused(tmp_path, capsys, line):
    """Catches a RecursionError, and a ValueError that is none of TOML's."""
    path = tmp_path / "preset.toml"
    path.write_text(line)
    assert main(["--config", str(path)]) == 2
    one_sentence(2, capsys.readouterr().err)


@pytest.mark.parametrize("words", [["--partition", "x" * 5000], ["two\nlines"], ["--resume", "x" * 5000],
                                   ["--config", "x" * 5000], ["--resume", "a\0b"]])
def test_words_that_the_system_chokes_on_are_refused(tmp_path, monkeypatch, capsys, words):
    """Catches an OSError for a name that is too long, and what was typed breaking the sentence."""
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    one_sentence(2, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())
