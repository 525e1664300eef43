"""fedsim evaluate: runs that have ended, scored again, as their scenes are and under driving perturbations."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import torch

from fedsim.dealing import source_of
from fedsim.errors import SettingsError
from fedsim.record.past_run import PastRun
from fedsim.record.robustness_report import Scored, write_report
from fedsim.record.run_directory import default_path, make_empty
from fedsim.record.waiting import waiting
from fedsim.robustness import Subject, score_subjects
from fedsim.scenes import cache
from fedsim.scenes.conditions import own_size
from fedsim.scenes.perturbations import PERTURBATIONS, SEVERITIES, Perturbation
from fedsim.settings import CHOICES
from fedsim.world import World


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--perturb", "asked", multiple=True, metavar="all|KIND|KIND:SEVERITY",
              help="Perturb the pictures too; may be given several times. A kind alone is all of its severities, 1 to "
                   f"{SEVERITIES}. Kinds: {', '.join(PERTURBATIONS)}.")
@click.option("--eval-split", type=click.Choice(CHOICES["eval_split"]), help="Split to score on.  [default: the run's]")
@click.option("--data-root", metavar="DIR", help="Folder of the data set.  [default: the run's]")
@click.option("--seed", default=0, metavar="N", help="Seed of the perturbations' draws.  [default: 0]")
@click.option("--device", type=click.Choice(CHOICES["device"]), default="auto", help="[default: auto]")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: the cores there are]")
@click.option("--out", metavar="DIR", help="Where tables and figures go, new or empty.  "
                                           "[default: evaluations/RUN-TIME]")
def evaluate(runs: tuple[str, ...], asked: tuple[str, ...], eval_split: str | None, data_root: str | None, seed: int,
             device: str, threads: int | None, out: str | None) -> None:
    """Score the models of runs on a split, as it is and under driving perturbations.

    Of several runs, each is compared with the centralised one, or else with the first: what it loses under
    perturbations, relative to what that one loses.
    """
    perturbations = expand(asked)
    opened = [PastRun.open(Path(run)) for run in runs]
    opened = [replace(run, settings=replace(run.settings, eval_split=eval_split or run.settings.eval_split,
                                            data_root=data_root or run.settings.data_root)) for run in opened]
    if len({run.settings.eval_split for run in opened}) > 1:
        raise SettingsError("the runs were scored on different splits; name one with --eval-split")
    world = World.join(device, threads=threads)
    subjects = [_subject(run, world.device) for run in opened]
    if out:
        make_empty(folder := Path(out))
    else:
        folder = default_path("evaluations", "-".join(run.name for run in opened)[:80])
    with waiting("scoring", 1 + len(perturbations)) as advance:
        results = score_subjects(subjects, perturbations, seed, advance)
    scored = [Scored(str(run.directory.path), run.settings.algo, result)
              for run, result in zip(opened, results, strict=True)]
    write_report(scored, subjects[0].originals, opened[0].settings.eval_split, seed, folder)


def expand(asked: Iterable[str]) -> list[Perturbation]:
    """The perturbations asked for, each once, in the order of kinds and severities. Raises SettingsError."""
    found = set()
    for text in asked:
        if text == "all" or text in PERTURBATIONS:
            kinds = PERTURBATIONS if text == "all" else [text]
            found |= {Perturbation(kind, severity) for kind in kinds for severity in range(1, SEVERITIES + 1)}
        else:
            found.add(Perturbation.parse(text))
    order = list(PERTURBATIONS)
    return sorted(found, key=lambda one: (order.index(one.kind), one.severity))


def _subject(run: PastRun, device: torch.device) -> Subject:
    """The run's models, and the scenes that they are scored on."""
    settings = run.settings
    source = source_of(settings, settings.cars or 1)  # more only tell what streets trains on
    load = partial(cache.load, source, settings.eval_split, progress=print)
    scenes = load(settings.input_size())
    return Subject(run.name, run.models(source, device), scenes, load(own_size(scenes)))
