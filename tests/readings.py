"""What fedsim reads of made-up data sets, held against what an independent reader finds in the same files."""

import contextlib
import io
import os
import random
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import label_sets
import numpy as np
from damage import Outcome, one_sentence
from label_oracle import VOID, Verdict, judge, plain
from label_sets import LabelSet

from fedsim.data.cache import load
from fedsim.data.datasets import open_source
from fedsim.data.scene_set import SceneSet
from fedsim.errors import FedsimError
from fedsim.main import main


class Readings:
    """Data sets in a folder, one after the other, and a cache of scenes that is emptied after each."""

    def __init__(self, folder: Path) -> None:
        self.root, self.out = folder / "set", folder / "out"

    def read_labels(self, chance: random.Random, twists: list[Callable[[LabelSet], None]] | None = None) -> Outcome:
        """Label files, palettes, names, sizes, folders and tables of all sorts."""
        names = label_sets.make(self.root, chance, twists)
        try:
            rights = {split: judge(self.root, split) for split in ("train", "val")}
            may_refuse = any(right.must or right.may for right in rights.values())
            outcomes = [self._split(split, right, may_refuse) for split, right in rights.items()]
            if chance.random() < 0.03:
                self._inspect(any(outcome.status for outcome in outcomes))
        except AssertionError as error:
            raise AssertionError(f"{', '.join(names)}: {error}") from error
        finally:
            shutil.rmtree(os.environ["FEDSIM_CACHE"], ignore_errors=True)
        return max(outcomes, key=lambda outcome: outcome.status or 0)

    def _split(self, split: str, right: Verdict, may_refuse: bool) -> Outcome:
        try:
            source = open_source("folder", self.root, 2)
            scenes = load(source, split, None)
            told = [*source.notes(split), *scenes.remarks]
        except FedsimError as error:
            said = str(error)
            assert may_refuse, f"{split} is right, but refused: {said}"
            assert "\n" not in said and len(said) < 1500, said
            return Outcome(error.exit_status, said)
        assert not right.must, f"{split} is read, but: {right.must[0]}"
        agree(scenes, right)
        account(scenes, right, " ".join(told))
        return Outcome(0, "")

    def _inspect(self, refused: bool) -> None:
        """Say the same on the screen."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = main(["data", "inspect", "--data", "folder", "--data-root", str(self.root), "--cars", "2",
                           "--quiet", "--out", str(self.out)])
        shutil.rmtree(self.out, ignore_errors=True)
        assert bool(status) == refused or not refused, f"inspect ends with {status}: {said.getvalue()}"
        assert "Traceback" not in said.getvalue()
        if status:
            one_sentence(status, said.getvalue())


def agree(scenes: SceneSet, right: Verdict) -> None:
    """Assert that each scene is one on disk, with the classes that its label holds."""
    names = [plain(name) for name in scenes.classes.names]
    assert len(set(names)) == len(names), f"classes are {names}"
    assert set(names) <= set(right.names), f"classes are {names}, not {right.names}"
    meanings = np.full(256, VOID, np.uint8)
    meanings[:len(names)] = [right.names.index(name) for name in names]
    for index, name in enumerate(scenes.names):
        want, got = right.labels[composed(name)], meanings[scenes.labels[index]]
        assert got.shape == want.shape, f"{name} has the shape {got.shape}, not {want.shape}"
        assert (got == want).all(), f"{name}: {(got == want).mean():.1%} of the pixels are right"


def account(scenes: SceneSet, right: Verdict, told: str) -> None:
    """Assert that files that are not read are counted or named."""
    read = {composed(name) for name in scenes.names}
    assert len(read) == len(scenes.names), "a name stands for two scenes"
    unused = [path for path in right.files if not any(
        composed(f"{path.parent.name}/{path.stem}").endswith(name) and path.suffix.lower() in (".png", ".jpg", ".jpeg")
        for name in read)]
    counts = sum(int(count) for count in re.findall(r"(?<!\S)\d+(?!\S)", told))
    named = sum(path.name in told for path in unused)
    assert max(counts, named) >= len(unused), f"not a word on {unused[0].name} and {len(unused)} in all: {told!r}"


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)

