"""Damage to what fedsim reads, by chance: command lines, presets, and the files of runs that are to go on.

Whatever is read, fedsim says in a sentence why it cannot be used, or computes what it would have computed.
"""

import contextlib
import io
import json
import random
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from layouts import draw, write_segnet
from safetensors.torch import load_file

from fedsim.cli import options
from fedsim.data.partition.split_file import read_cars
from fedsim.errors import FedsimError, SettingsError
from fedsim.main import main
from fedsim.settings.compatible import check
from fedsim.settings.fields import Settings

ROUNDS = 3
SCENES = {"train": [5, 4, 3, 4, 2], "val": [4]}  # of each drive
ODD = ["", "-1", "0", "nan", "inf", "1e999", "null", "[]", "{}", "true", "\"\"", "9" * 30, "9" * 5000, "\0", "\ufffd",
       "\n", "[" * 3000, "../..", "--", "x:y", "1:0", "0x0", "'", "\"", "=", ","]
LARGEST = {"width": 16, "rounds": ROUNDS, "cars": 30, "threads": 8, "batch_size": 64}  # that is played


class Outcome(NamedTuple):
    """What came of a damage."""

    status: int | None  # of the command; None where it was not played because it asks for too much
    said: str


def damaged(data: bytes, chance: random.Random, other: bytes = b"") -> bytes:
    """The same with one to three damages. other: of the same kind, pieces of which may get into it."""
    for _ in range(chance.choice([1, 1, 2, 3])):
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.choice([1, 1, 2, 8, 100, 5000]))
        piece = chance.choice([b"", data[start:end] * 2, data[start:end][::-1], chance.randbytes(end - start),
                             chance.choice(ODD).encode(), other[start:end], bytes(end - start)])
        word = chance.choice([*re.finditer(rb"[\w.+-]+", data[start:start + 200])] or [None])
        if chance.random() < 0.1:
            data = data[:start]
        elif word and chance.random() < 0.4:
            data = data[:start + word.start()] + chance.choice(ODD).encode() + data[start + word.end():]
        elif chance.random() < 0.3 and start < len(data):
            data = data[:start] + bytes([data[start] ^ 1 << chance.randrange(8)]) + data[start + 1:]
        else:
            data = data[:start] + piece + data[end:]
    return data


class Damage:
    """A finished run, copies of which are damaged; and another one of the same shape."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.whole = folder, folder / "whole"
        for split, counts in SCENES.items():
            drives = [[f"{split}{drive}_{scene:05d}" for scene in range(count)] for drive, count in enumerate(counts)]
            names = [name for drive in drives for name in drive]
            write_segnet(folder / "camvid", {name: draw(12, seed) for seed, name in enumerate(names)}, split)
            if split == "train":
                cars = [{"name": f"car {drive}", "scenes": scenes} for drive, scenes in enumerate(drives)]
                (folder / "split.json").write_text(json.dumps({"format": 1, "cars": cars}))
        self.plain = {"algo": "scaffold", "data": "camvid", "data_root": str(folder / "camvid"), "cars": "5",
                      "rounds": str(ROUNDS), "batch_size": "4", "participation": "0.6", "lr_schedule": "constant",
                      "image_size": "32x24", "width": "2", "threads": "1", "evaluate_every": "9",
                      "batchnorm": "pooled", "partition": str(folder / "split.json")}
        assert self.play(self.command()).status == 0
        self.model = model(self.whole)
        assert self.play(self.command(seed="1", out=str(folder / "other"))).status == 0

    def command(self, **others: str) -> list[str]:
        settings = {**self.plain, "out": str(self.whole), **others}
        return [word for name, value in settings.items() for word in ("--" + name.replace("_", "-"), value)]

    def command_line(self, chance: random.Random) -> Outcome:
        """Words of a command line. What it asks for is not played."""
        words = self.command()
        for _ in range(chance.choice([1, 1, 2, 3])):
            place = chance.randrange(len(words))
            words[place:place + chance.randrange(2) + 1] = chance.choice([
                [], [chance.choice(ODD)], [chance.choice(words)], [words[place], chance.choice(ODD)],
                [damaged(words[place].encode(), chance).decode(errors="surrogateescape")]])
        return self._told(lambda: checked(options.parse(words)))

    def preset(self, chance: random.Random) -> Outcome:
        """A file of settings. What it asks for is not played."""
        path = self.folder / "preset.toml"
        path.write_bytes(damaged((self.whole / "config.toml").read_bytes(), chance))
        return self._told(lambda: checked(options.parse(["--config", str(path)])))

    def config(self, chance: random.Random) -> Outcome:
        """The settings of a run that is to go on."""
        return self._go_on("config.toml", chance)

    def environment(self, chance: random.Random) -> Outcome:
        return self._go_on("environment.json", chance)

    def metrics(self, chance: random.Random) -> Outcome:
        return self._go_on("metrics.jsonl", chance)

    def checkpoint(self, chance: random.Random) -> Outcome:
        """Any file of it, in which pieces of another run's may be."""
        names = self._names("checkpoints", r"round-.*|global-.*|car-\d{5}-.*")
        return self._go_on(f"checkpoints/{chance.choice(names)}", chance)

    def events(self, chance: random.Random) -> Outcome:
        folder = chance.choice(self._names("tensorboard", ".*"))
        return self._go_on(f"tensorboard/{folder}/{self._names(f'tensorboard/{folder}', '.*')[0]}", chance)

    def split(self, chance: random.Random) -> Outcome:
        """Named again for a run that has it from a file."""
        whole, path, run = self.whole / "partition.json", self.folder / "damaged.json", self._copy()
        path.write_bytes(damaged(whole.read_bytes(), chance))
        outcome = self.play(["--resume", str(run), "--partition", str(path)], run)
        assert outcome.status or read_cars(path) == read_cars(whole), "another split is taken"
        return outcome

    def own_split(self, chance: random.Random) -> Outcome:
        """The copy that the run keeps."""
        return self._go_on("partition.json", chance)

    def _names(self, folder: str, pattern: str) -> list[str]:
        return sorted(path.name for path in (self.whole / folder).iterdir() if re.fullmatch(pattern, path.name))

    def _copy(self) -> Path:
        run = self.folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.whole, run)
        (run / "checkpoints/model.safetensors").unlink()
        return run

    def _go_on(self, name: str, chance: random.Random) -> Outcome:
        """Damage a file of a copy of the run and let it go on."""
        run, other = self._copy(), self.folder / "other" / name
        path = run / name
        path.write_bytes(damaged(path.read_bytes(), chance, other.read_bytes() if other.exists() else b""))
        return self.play(["--resume", str(run)], run)

    def play(self, arguments: list[str], run: Path | None = None) -> Outcome:
        """Play a command; a run that goes on comes to the model of the one that was not damaged."""
        if run and too_much(run / "config.toml"):
            return Outcome(None, "")
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = main(arguments)
        if run and not status:
            assert model(run) == self.model, "another model"
        return one_sentence(status, said.getvalue())

    def _told(self, action: Callable[[], object]) -> Outcome:
        try:
            action()
            return Outcome(0, "")
        except FedsimError as error:
            return one_sentence(error.exit_status, f"fedsim: {error}\n")


def model(run: Path) -> dict[str, bytes]:
    """Of a run that has ended: its tensors."""
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(run / "checkpoints/model.safetensors").items()}


def checked(asked: options.Asked | None) -> None:
    if asked:
        check(asked.settings)


def too_much(config: Path) -> bool:
    """Whether settings ask for what takes too long to be played here."""
    try:
        settings = Settings.from_values(tomllib.loads(config.read_text()), "")
    except (SettingsError, ValueError, RecursionError):
        return False
    size = settings.input_size() or (0, 0)
    return size[0] * size[1] > 2**13 or settings.epochs()[1] > 3 or any(
        (getattr(settings, name) or 0) > most for name, most in LARGEST.items())


def one_sentence(status: int, said: str) -> Outcome:
    """Asserts that a command has said what was wrong in a sentence, and nothing if nothing was."""
    if status == 0:
        assert said == "", said
        return Outcome(0, "")
    assert status in (1, 2), status
    assert said.startswith("fedsim: ") and said.count("\n") == 1, said
    assert "Traceback" not in said
    return Outcome(status, said.strip())


KINDS: dict[str, Callable[[Damage, random.Random], Outcome]] = {
    "command line": Damage.command_line, "preset": Damage.preset, "config.toml": Damage.config,
    "environment.json": Damage.environment, "metrics.jsonl": Damage.metrics, "checkpoint": Damage.checkpoint,
    "events": Damage.events, "split": Damage.split,
    "partition.json": Damage.own_split}
