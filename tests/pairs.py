"""Runs with options at random that are stopped, killed, prolonged and resumed at random, on one rank and on two.

In the end they have the very bits of a run left alone on one rank; or the options are refused in a sentence.
"""

import random
import re
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chosen_options
import sameness
from chosen_options import OWN_CODE, to_words, value_of
from damage import Outcome, one_sentence
from launches import Ended, Fall, launch
from layouts import draw, write_cityscapes, write_fastai, write_folder, write_segnet

from fedsim.experiment.identity import FREE
from fedsim.own_code import NAMING, is_own

SCENES = {"train": [5, 4, 3, 4, 2], "val": [3], "test": [2]}  # of each drive
NERVOUS = {"ROUNDS": 1, "GROWTH": 0.0}  # the guard of divergence sees trouble in any round that grows
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGKILL, signal.SIGUSR1)
# Tags of rounds that are scored.
OF_SCORES = re.compile(r"/(result/.*|(averaged_)?(loss|miou)|pixel_accuracy|panel|(class_iou|drive_miou|own_test)/.*)$")
BY_SCORES = ("stop_at", "patience", "keep_best")  # what they do depends on which rounds are scored: legs differ in it
NEAR = ("", "", "", "metrics.jsonl", "checkpoints", "config.toml", "environment.json", "report")
GUARD = "fedsim.federation.divergence."


@dataclass
class Leg:
    """A launch of a run: how it is started, and how it falls."""

    how: str  # the run is named by --resume or "config" too, found by "auto", or started "again" as torchrun does
    ranks: int
    changes: dict[str, Any] = field(default_factory=dict)  # settings that may change at a resume
    fall: Fall | None = None


class Pairs:
    """Data sets on disk, and runs on them, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "pairs"
        for split, counts in SCENES.items():
            def frames(name: str, classes: int, split: str = split, counts: list[int] = counts) -> dict[str, Any]:
                return {name.format(split=split, drive=drive, scene=scene): draw(classes, 100 * drive + scene)
                        for drive, count in enumerate(counts) for scene in range(count)}

            write_segnet(self.folder / "camvid", frames("{split}{drive}_{scene:05d}", 12), split)
            write_cityscapes(self.folder / "cityscapes", frames("{split}{drive}_000000_{scene:06d}", 30), split)
            write_folder(self.folder / "own", frames("{split}{drive}/{scene}", 3), split)
        write_fastai(self.folder / "fastai", {f"0001TP_{scene:05d}": draw(32, scene) for scene in range(9)},
                     {f"0016E5_{scene:05d}": draw(32, scene) for scene in range(3)})
        (self.folder / "own_pairs.py").write_text(OWN_CODE)
        for root in ("camvid", "cityscapes", "own", "fastai"):
            (self.folder / f"{root}-moved").symlink_to(self.folder / root)
        self._write_split()

    def _write_split(self) -> None:
        """The split file of a run."""
        plain = chosen_options.PLAIN | {"data_root": self.folder / "camvid", "rounds": 1, "out": self.folder / "split",
                                        "partition": "dirichlet", "cars": 3}
        ended = launch(to_words(plain), self.folder, self.folder / "split")
        assert ended.status == 0, ended
        shutil.copy(self.folder / "split" / "partition.json", self.folder / "split.json")

    def resume(self, chance: random.Random) -> Outcome:
        """Play a run whole, and in legs."""
        rounds = chance.choice([2, 3, 3, 4, 5])
        nervous = chance.random() < 0.2
        fixed = {"lr_schedule": chance.choice(["constant", "constant", "cosine"])}
        if nervous:
            fixed |= {"on_divergence": chance.choice(["stop", "rollback", "warn"]), "lr_schedule": "constant"}
        chosen = chosen_options.choose(chance, self.folder, fixed)
        for name in BY_SCORES:
            chosen.pop(name, None)
        before = {GUARD + name: value for name, value in NERVOUS.items()} if nervous else {}
        for name in ("whole", "run"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        case = Case(self.folder, chosen, rounds, before, chance)
        try:
            return case.play()
        except BaseException:
            print("\n".join(case.told), flush=True)
            raise


class Case:
    """Settings, a run left alone with them, and one that is played in legs."""

    def __init__(self, folder: Path, chosen: dict[str, Any], rounds: int, before: Mapping[str, Any],
                 chance: random.Random) -> None:
        self.folder, self.chosen, self.rounds, self.before, self.chance = folder, chosen, rounds, before, chance
        self.whole, self.run = folder / "whole", folder / "run"
        self.name = chance.choice(["", f"launch-{chance.random()}"])
        self.told: list[str] = []  # the commands so far, to be repeated by whoever looks for a fault
        self.legs: list[Leg] = []
        self.ends: set[int] = set()  # rounds that were the last of a leg
        self.begun_with: list[str] = []  # the command that made the run directory

    def play(self) -> Outcome:
        """Play both runs, stage by stage, and compare them. A cosine is another one after a run is prolonged, and so is
        the mean of a share of the rounds.
        """
        stages = [self.rounds]
        if self.chosen["lr_schedule"] == "cosine" and self.chance.random() < 0.3:
            stages.insert(0, self.chance.randint(1, self.rounds))
        for self.rounds in stages:
            alone = self._launch([*to_words(self.chosen | {"rounds": self.rounds, "evaluate_every": 1}), "--out",
                                  self.whole, "--resume", "auto"], self.whole)
            if alone.status == 2:
                return self._refused(alone)
            assert alone.status in (0, 1) and len(alone.said.splitlines()) == alone.status, alone
            for _ in range(self.chance.choice([1, 1, 2, 3])):
                self._play_leg(self._draw_leg(alone.occasions), alone)
            last = self._draw_leg(0)
            ended = self._play_leg(Leg(last.how, last.ranks, last.changes | {"rounds": self.rounds}), alone)
            assert ended.status == alone.status, ended
            if alone.status:
                break
        self._compare(bool(alone.status))
        return Outcome(alone.status, alone.said)

    def _refused(self, alone: Ended) -> Outcome:
        """What is refused is refused on two ranks too, in a sentence, and leaves nothing."""
        outcome = one_sentence(2, alone.said)
        if self.chance.random() < 0.3:
            again = self._launch([*to_words(self.chosen | {"rounds": self.rounds}), "--out", self.run], self.run, 2)
            assert again.status == 2, again
            one_sentence(2, again.said)
        assert not self.whole.exists() and not self.run.exists(), "a directory of a run that was refused"
        return outcome

    def _draw_leg(self, occasions: int) -> Leg:
        """Draw a leg; it falls at one of so many occasions, or at none."""
        chance, most = self.chance, 2 if self.chosen.get("cars", 3) > 1 else 1
        ranks = chance.randint(1, most)
        near = chance.choice(NEAR)
        fall = Fall(chance.choice(SIGNALS), chance.randrange(ranks), chance.randint(1, 10 if near else occasions), near
                    ) if occasions and chance.random() < 0.8 else None
        changes = {name: value_of(name, chance) for name in FREE
                   if name not in ("rounds", "data_root", *BY_SCORES) and chance.random() < 0.15}
        if "data_root" in self.chosen and chance.random() < 0.1:
            changes["data_root"] = f"{self.chosen['data_root']}-moved"
        by_rounds = self.chosen["lr_schedule"] != "constant" or "swa" in str(self.chosen.get("average_weights"))
        if occasions and not by_rounds and chance.random() < 0.5:
            changes["rounds"] = chance.randint(1, self.rounds)
        return Leg(chance.choice(["resume", "resume", "config", "auto", "again"]), ranks, changes, fall)

    def _words(self, leg: Leg) -> list[str]:
        """Return the command of a leg."""
        whole = self._whole(leg)
        begun = (self.run / "config.toml").exists()
        own = [word for name in NAMING if is_own(str(self.chosen.get(name, "")))
               for word in ("--" + name, self.chosen[name])]
        if not begun or leg.how == "auto":
            return [*whole, *(["--resume", "auto"] if leg.how == "auto" else [])]
        if leg.how == "again" and self.name and whole == self.begun_with and not self._has_ended():
            return whole
        config = ["--config", str(self.run / "config.toml")] if leg.how == "config" else []
        return ["--resume", str(self.run), *config, *own, *to_words(leg.changes)]

    def _whole(self, leg: Leg) -> list[str]:
        return to_words(self.chosen | {"rounds": self.rounds} | leg.changes | {"out": self.run})

    def _has_ended(self) -> bool:
        """torchrun starts no ranks again that have ended well."""
        return (self.run / "report" / "summary.md").exists()

    def _play_leg(self, leg: Leg, alone: Ended) -> Ended:
        """Play a leg; it ends as it should."""
        if (self.run / "config.toml").exists() and self.chance.random() < 0.25:
            self._try_another(alone)
        before = sorted((self.run / "checkpoints").glob("round-*.json"))
        begun = (self.run / "config.toml").exists()
        if leg.how == "again" and leg.fall:
            leg.changes = self.legs[0].changes if self.legs else leg.changes  # torchrun starts the same command again
        ended = self._launch(self._words(leg), self.run, leg.ranks, leg.fall)
        self.legs.append(leg)
        self.ends.add(leg.changes.get("rounds", self.rounds))
        if not begun and leg.how != "auto":
            self.begun_with = self._whole(leg)
        assert "Traceback" not in ended.said and "Error" not in ended.said, ended
        if ended.status == 2 and before and "has played" in ended.said:
            assert leg.changes["rounds"] < int(before[-1].stem[-6:]), ended
            one_sentence(2, ended.said)
        elif ended.status == 1 and leg.fall and leg.ranks > 1 and re.search(r"rank \d waited", ended.said):
            one_sentence(1, ended.said)  # of the rank that has lost the other one
        elif ended.status in (1, 2):
            assert ended.status == alone.status and plain(ended.said) == plain(alone.said), (ended, alone)
        elif not leg.fall:
            assert ended.status == 0, ended
        return ended

    def _try_another(self, alone: Ended) -> None:
        """Ask for another setting than the run's: that is refused and changes nothing, or means the same."""
        name = self.chance.choice(sorted({*chosen_options.names()} - {*FREE} - {"algo"}))
        words = self._words(Leg("resume", 1, {name: value_of(name, self.chance)}))
        before = fingerprint(self.run)
        ended = self._launch(words, self.run)
        if ended.status == 2:
            one_sentence(2, ended.said)
            assert fingerprint(self.run) == before, f"changed by what was refused: {ended}"
        else:
            self.legs.append(Leg("resume", 1))
            assert ended.status == alone.status or ended.status == 0, ended

    def _launch(self, words: list[Any], out: Path, ranks: int = 1, fall: Fall | None = None) -> Ended:
        words = [*map(str, words), "--quiet"]
        self.told.append(f"{ranks} rank(s), {fall}: {' '.join(words)}")
        return launch(words, self.folder, out, ranks=ranks, name=self.name, fall=fall, before=self.before)

    def _compare(self, failed: bool) -> None:
        """Assert that both runs have the same bits."""
        here, there = sameness.without_seconds(self.run), sameness.without_seconds(self.whole)
        assert len(here) == len(there), f"{len(here)} records, not {len(there)}"
        for record, alone in zip(here, there, strict=True):
            found, expected = (record, alone) if record["global"] else map(sameness.without_score, (record, alone))
            assert found == expected, difference(found, expected)
            every = [leg.changes.get("evaluate_every", self.chosen.get("evaluate_every", 1)) for leg in self.legs]
            due = [record["round"] % one == 0 for one in every]
            assert record["global"] if all(due) or (record["round"] == self.rounds and not failed) else (
                any(due) or record["round"] in self.ends or not record["global"]), f"score of round {record['round']}"
        self._compare_events()
        if failed:
            return  # the models and the checkpoint, if any, are those of a leg that ended before the round that fails
        assert sameness.models(self.run) == sameness.models(self.whole), "other models"
        mine, other = sameness.last_checkpoint(self.run), sameness.last_checkpoint(self.whole)
        different = [name for name in other if mine.get(name) != other[name]]
        assert not different and mine.keys() == other.keys(), f"checkpoints differ in {different}"

    def _compare_events(self) -> None:
        """Each step is there once, in order, with the value of the run left alone."""
        here = sameness.events(self.run)
        for tag, alone in sameness.events(self.whole).items():
            found = here.get(tag, [])
            steps = [event if isinstance(event, int) else event[0] for event in found]
            assert steps == sorted({*steps}), f"{tag} has {found}"
            if tag.partition("/")[2] in sameness.OF_A_SCORE:  # their steps are the same, but not their values
                found, alone = steps, [step for step, _ in alone]
            assert {*found} <= {*alone}, f"{tag} has {found}, not {alone}"
            assert OF_SCORES.search(tag) or len(found) == len(alone), f"{tag} has {found}, not {alone}"


def fingerprint(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*")
            if path.is_file() and path.name != "lock"}


def plain(said: str) -> str:
    """A sentence without what differs between launches: ranks, and why a run has stopped before."""
    return re.sub(r"rank \d+", "rank", said).partition("stopped, because")[0]


def difference(record: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    return f"round {record['round']}: " + "; ".join(
        f"{key} is {record.get(key)}, not {expected.get(key)}" for key in {*record, *expected}
        if record.get(key) != expected.get(key))
