"""Algorithms and networks of a user's own, made up by chance, and what fedsim makes of them.

Right ones must give the same bits on one rank and on two, and when a run is resumed. Wrong ones must be refused in a
sentence that names the class or the tensor, and the place.
"""

import contextlib
import importlib
import io
import json
import random
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import own_algorithms
import own_networks
import torch
from damage import Outcome, one_sentence
from federations import altered
from layouts import draw, write_segnet
from scenery import CLASSES, CPU, ONE_AT_A_TIME, federation, on_ranks, training
from torch import nn

from fedsim.federation import batchnorm, local_training
from fedsim.federation.federation import Federation
from fedsim.federation.rounds import initial_state, run_round
from fedsim.main import main
from fedsim.models.flat import FlatModel
from fedsim.settings.registry import algorithm_class

ROUNDS = 3
LATE_ROUNDS = 5  # those of the faults that show late
SIZES = [3, 1, 2]
OPTIONS = [[], [], ["--participation", "0.67"], ["--aggregator", "median"], ["--batchnorm", "pooled"],
           ["--batchnorm", "local"], ["--batchnorm", "local-statistics"], ["--car-states", "disk"],
           ["--optimizer", "adam", "--lr", "0.01"], ["--car-failures", "0.3"], ["--weighting", "uniform"],
           ["--clip-norm", "0.1"], ["--local-epochs", "1:2"]]


class OwnParts:
    """A folder with scenes, and modules of a user's own one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "own"
        for seed, split in enumerate(("train", "val")):
            names = [f"{split}{drive}_{scene:05d}" for drive, count in enumerate(SIZES) for scene in range(count)]
            write_segnet(self.folder / "camvid", {name: draw(12, seed + place) for place, name in enumerate(names)},
                         split)
        self.number = 0

    def play(self, chance: random.Random) -> Outcome:
        """Play a run with parts of a user's own."""
        kind = chance.choice(["right", "right", "right", "algorithm", "algorithm", "late", "network"])
        algorithm, network, says = own_algorithms.draw(chance), own_networks.draw(chance), None
        if kind in ("algorithm", "late"):
            faults = own_algorithms.FAULTS if kind == "algorithm" else own_algorithms.LATE_FAULTS
            fault = faults[chance.choice([*faults])]
            algorithm, says = fault.source(), fault.says
        elif kind == "network":
            network, says = own_networks.FAULTS[chance.choice([*own_networks.FAULTS])]
        options = chance.choice(OPTIONS) if says is None else []
        try:
            with self._installed(algorithm, network) as name:
                return self._refused(name, says, kind) if says else self._same(name, options, network, chance)
        except AssertionError as error:
            raise AssertionError(f"{kind}, {options}, {network}, {algorithm}:\n{error}") from error
        finally:
            torch.set_grad_enabled(True)  # which a wrong algorithm may have changed
            shutil.rmtree(self.folder / "runs", ignore_errors=True)

    @contextlib.contextmanager
    def _installed(self, algorithm: str, network: Callable[[int], nn.Module]) -> Iterator[str]:
        """Yield the value of --algo for a source; --model segnet-small is the network meanwhile."""
        self.number += 1
        module = f"own_{self.number}"
        (self.folder / f"{module}.py").write_text(algorithm)
        sys.path.insert(0, str(self.folder))
        importlib.invalidate_caches()
        make = partial(_made, network)
        try:
            with mock.patch("fedsim.experiment.assembly.build_model", make), \
                    mock.patch("fedsim.models.card.build_model", make), \
                    mock.patch("fedsim.experiment.journal.Journal.finish"):  # figures, which take longer than the run
                yield f"{module}:Mine"
        finally:
            sys.path.remove(str(self.folder))
            sys.modules.pop(module, None)

    def _refused(self, name: str, says: str, kind: str) -> Outcome:
        status, said = self._run("refused", "--algo", name, "--rounds", str(LATE_ROUNDS))
        assert status == (1 if kind == "late" else 2), f"status {status}: {said}"
        outcome = one_sentence(status, said)
        place = "--model segnet-small: " if kind == "network" else f"--algo {name}: "
        assert says in said and place in said, said
        assert kind == "network" or f"{name.partition(':')[0]}.py" in said, said
        assert kind == "late" or not (self.folder / "runs" / "refused").exists(), "left a folder"
        return outcome

    def _same(self, name: str, options: list[str], network: Callable[[int], nn.Module],
              chance: random.Random) -> Outcome:
        outcome = one_sentence(*self._run("whole", "--algo", name, *options))
        if outcome.status:
            assert "raise" not in outcome.said and "Mine" not in outcome.said, outcome.said
            return outcome
        stop = chance.randrange(1, ROUNDS)
        assert self._run("halves", "--algo", name, *options, "--rounds", str(stop)) == (0, "")
        resume = ["--resume", str(self.folder / "runs" / "halves"), "--algo", name, "--rounds", str(ROUNDS)]
        assert self._main(resume) == (0, "")
        whole, halves = (self._digests(run) for run in ("whole", "halves"))
        assert whole == halves, f"resumed after {stop} rounds: {whole}, {halves}"
        rule = options[1] if "--batchnorm" in options else "recalibrate"
        alone, = on_ranks(1, partial(_digest, name, network, rule))
        assert isinstance(alone, str), f"on one rank: {alone!r}"
        for there in on_ranks(2, partial(_digest, name, network, rule)):
            assert there == alone, f"on two ranks: {there!r}"
        return outcome

    def _run(self, out: str, *options: str) -> tuple[int, str]:
        return self._main(["--data", "camvid", "--data-root", str(self.folder / "camvid"), "--cars", "3", "--rounds",
                           str(ROUNDS), "--batch-size", "2", "--image-size", "32x24", "--threads", "1", "--lr-schedule",
                           "constant", "--evaluate-every", "9", *options, "--out", str(self.folder / "runs" / out)])

    def _main(self, arguments: list[str]) -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, on layers that are old
            status = main(arguments)
        text = said.getvalue()
        return status, text if status else "".join(
            line for line in text.splitlines(keepends=True) if "Traceback" in line)

    def _digests(self, run: str) -> list[str]:
        lines = (self.folder / "runs" / run / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["theta_sha256"] for line in lines]


def _made(network: Callable[[int], nn.Module], name: str, classes: int, width: int | None, norm: str) -> nn.Module:
    return network(classes)


def _digest(name: str, network: Callable[[int], nn.Module], rule: str, world: Any) -> str:
    """Return the digest of the state after some rounds on the ranks of a world. Torch's generator is theirs in turn."""
    with ONE_AT_A_TIME:
        torch.manual_seed(1)
        module = network(CLASSES)
    made: Federation = federation(algorithm_class(name)(), SIZES, world=world, batchnorm=rule, local=training())
    made = altered(made, participation=0.67, model=FlatModel(module, CPU, batchnorm.NORM_RULES[rule].own_affine))
    state = initial_state(made)
    with mock.patch("fedsim.federation.car.train_locally", _in_turn(local_training.train_locally)), \
            mock.patch("fedsim.federation.measuring.recalibrated_moments", _in_turn(batchnorm.recalibrated_moments)):
        for _ in range(2):
            state = run_round(made, state).state
    return state.digest()


def _in_turn(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **keys: Any) -> Any:
        with ONE_AT_A_TIME:
            return function(*arguments, **keys)

    return call
