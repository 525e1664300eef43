"""fedsim evaluate: score trained models again, on clean pictures and under driving perturbations."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch

from fedsim.classes import ClassTable
from fedsim.cli.command import PATH, Command, options_given, trust_option, view_options
from fedsim.comparison.matrix import Matrix, score_matrix, write_matrix
from fedsim.data import cache
from fedsim.data.datasets import SOURCES
from fedsim.data.partition import HELD_OUT
from fedsim.data.partition.held_out import check_drive, scored_scenes
from fedsim.data.perturbations import PERTURBATIONS, SEVERITIES, Perturbation
from fedsim.data.scene_set import SceneSet, Source
from fedsim.distributed.world import World
from fedsim.errors import SettingsError
from fedsim.evaluation.robustness import Subject, count_steps, score_subjects
from fedsim.experiment.dealing import source_of
from fedsim.experiment.past_run import PastRun
from fedsim.inference.segmenter import Segmenter
from fedsim.record.output_folder import make_output_folder
from fedsim.report.robustness import ScoredRun, write_report
from fedsim.settings.compatible import check_data
from fedsim.settings.fields import CHOICES, MOST_THREADS, Settings
from fedsim.system.console import LOG, show_steps


@dataclass(frozen=True)
class Opened:
    """Models that are scored together, a run's or a file's, and the settings that tell their scenes."""

    path: Path
    name: str  # the run's, or the file's
    settings: Settings
    models: Sequence[Segmenter]  # of one kind, trained on the same scenes

    @classmethod
    def open(cls, path: Path, device: torch.device, trust: Collection[str], view: Mapping[str, Any]) -> "Opened":
        """Open a run's directory, or a .safetensors file of a run. trust, view: as in `Segmenter.load`.

        Raises UserError.
        """
        if path.suffix == ".safetensors":
            model = Segmenter.load(path, device, trust, view)
            settings = Settings.from_values(model.card.settings, origin=f"the model card of {path}")
            return cls(path, model.name, settings, [model])
        run = PastRun.open(path)
        models = [Segmenter.load(file, device, trust, view) for file in run.directory.weights()]
        return cls(path, path.resolve().name, run.settings_here, models)

    def find_scenes(self) -> Source:
        """Return the data set that the models are scored on. Raises UserError if it lacks the split."""
        settings, split = self.settings, self.settings.scored().on_disk
        if split != "train":  # only the training scenes of streets depend on the partition
            settings = replace(settings, partition=Settings.partition)
        source = source_of(settings, settings.cars or 1)
        _check_classes(self.path, self.models[0].card.classes, source)
        source.count(split)
        if split == "train":
            check_drive(source, settings.hold_out_drive)
        return source

    def subject(self, source: Source) -> Subject:
        """Load the scenes that the models are scored on. Raises UserError."""
        scenes = self.load(source, self.models[0].card.input_size)
        return Subject(self.name, self.models, scenes, source, self.settings.scored(), self.models[0].view)

    def load(self, source: Source, size: tuple[int, int]) -> SceneSet:
        """Load these scenes with pictures of a size (width, height) in pixels. Raises UserError."""
        return scored_scenes(lambda split: cache.load(source, split, size, LOG.info), self.settings.scored())


@click.command(cls=Command)
@click.argument("models", nargs=-1, required=True, type=PATH, metavar="MODEL...")
@click.option("--perturb", "asked", multiple=True, metavar="all|KIND|KIND:SEVERITY",
              help="Perturb the pictures too; may be given several times. A kind alone means all severities, 1 to "
                   f"{SEVERITIES}. Kinds: {', '.join(PERTURBATIONS)}.")
@click.option("--matrix", is_flag=True,
              help="Score every model of the runs, also those of single cars, on the scenes that --own-test holds out "
                   "from each car, and tell what a car gains over training alone if a run of local is among them.")
@click.option("--eval-split", type=click.Choice(CHOICES["eval_split"]),
              help="Split to score on; held-out is the drive that the model's cars have not seen.  [default: the "
                   "model's own]")
@click.option("--data", type=click.Choice(list(SOURCES)), help="Data set to score on, of the same classes.  [default: "
                                                               "the one that the model was trained on]")
@click.option("--data-root", type=PATH, metavar="DIR",
              help="Folder of the data set.  [default: where it was in training]")
@click.option("--classes", type=click.INT, metavar="N", help="Number of classes, if there is a choice.  [default: "
                                                             "as in training]")
@click.option("--seed", default=0, metavar="N", help="Seed of the perturbations' draws.  [default: 0]")
@click.option("--device", type=click.Choice(CHOICES["device"]), default="auto", help="[default: auto]")
@click.option("--threads", type=click.IntRange(1, MOST_THREADS), metavar="N",
              help="CPU threads.  [default: the number of cores]")
@click.option("--out", type=PATH, metavar="DIR",
              help="Directory for tables and figures, new or empty.  [default: evaluations/MODEL-TIME]")
@view_options()
@trust_option()
def evaluate(models: tuple[str, ...], asked: tuple[str, ...], matrix: bool, eval_split: str | None, data: str | None,
             data_root: str | None, classes: int | None, seed: int, device: str, threads: int | None,
             out: str | None, trust: tuple[str, ...], **view: Any) -> None:
    """Score trained models on a split, as it is and under driving perturbations.

    MODEL is the directory of a run that has ended, or a .safetensors file of one. If there are several, each is
    compared with that of central, or else of central-wide, or else with the first: its loss of mIoU under
    perturbations, divided by the loss of that one.
    """
    perturbations = expand(asked)
    world = World.join(device, threads=threads)
    opened = _name_apart([Opened.open(path, world.device, trust, options_given(view))
                          for path in dict.fromkeys(map(Path, models))])
    opened = [replace(one, settings=_on(one.settings, data, data_root, classes, eval_split)) for one in opened]
    if len({one.settings.scored().name for one in opened}) > 1:
        raise SettingsError("the runs were scored on different splits or drives; name one with --eval-split")
    if len({one.models[0].view for one in opened}) > 1:
        raise SettingsError("the runs were scored with different views of the pictures; say one for all with "
                            "--test-scales, --test-flip or --no-test-flip, and --tile")
    sources = [one.find_scenes() for one in opened]  # of all models, before the scenes of one are read
    subjects = [one.subject(source) for one, source in zip(opened, sources, strict=True)]
    for one, subject in zip(opened[1:], subjects[1:], strict=True):
        if subject.scenes.classes.names != subjects[0].scenes.classes.names:
            raise SettingsError(f"{one.name} and {subjects[0].name} have different classes; score each by itself")
        if not _have_same_scenes(one, subject, subjects[0]):
            raise SettingsError(f"{one.name} and {subjects[0].name} would be scored on different scenes; name one "
                                "data set for all with --data and --data-root")
    by_car = _score_by_car(opened, world, trust, options_given(view)) if matrix else None
    folder = make_output_folder(out, "evaluations", "-".join(one.name for one in opened)[:80])
    with show_steps("scoring", count_steps(subjects, perturbations)) as advance:
        results = score_subjects(subjects, perturbations, seed, advance)
    scored = [ScoredRun(one.name, str(one.path), one.settings.algo, result)
              for one, result in zip(opened, results, strict=True)]
    write_report(scored, subjects[0], seed, folder)
    if by_car is not None:
        write_matrix(by_car, folder)


def _score_by_car(opened: Sequence[Opened], world: World, trust: Collection[str], view: Mapping[str, Any]) -> Matrix:
    """Score all models of runs on the held-out scenes of every car. Raises UserError."""
    if files := [one.path for one in opened if one.path.suffix == ".safetensors"]:
        raise SettingsError(f"--matrix needs runs, whose directories say which scenes are held out from which car, and "
                            f"{files[0]} is a file of weights: name the run")
    with show_steps("scoring by car", len(opened)) as advance:
        return score_matrix({one.name: PastRun.open(one.path) for one in opened}, world, trust, view, advance)


def _have_same_scenes(opened: Opened, one: Subject, other: Subject) -> bool:
    """Return whether two subjects, the first that of `opened`, have the same scenes, at whatever sizes of the input."""
    if one.scenes.names != other.scenes.names:
        return False
    if one.source.name == other.source.name and (
            one.source.identity(one.scored.on_disk) == other.source.identity(other.scored.on_disk)):
        return True
    height, width = other.scenes.images.shape[2:]
    return opened.load(one.source, (width, height)).fingerprint == other.scenes.fingerprint


def _name_apart(opened: Sequence[Opened]) -> list[Opened]:
    """Return the models under names that differ: if several share a name, each is called by its path."""
    names = [one.name for one in opened]
    return [replace(one, name=str(one.path)) if names.count(one.name) > 1 else one for one in opened]


def _on(settings: Settings, data: str | None, data_root: str | None, classes: int | None,
        eval_split: str | None) -> Settings:
    """Return settings with other scenes to score on. Another data set has another folder and other classes.

    Raises SettingsError.
    """
    if data is not None:
        if data != settings.data:  # whose drives are others
            split = None if settings.eval_split == HELD_OUT else settings.eval_split
            settings = replace(settings, hold_out_drive=None, eval_split=split)
        settings = replace(settings, data=data, data_root=None, classes=None, partition=Settings.partition)
    given: dict[str, Any] = {"data_root": data_root, "classes": classes, "eval_split": eval_split}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    check_data(settings)
    return settings


def _check_classes(path: Path, own: ClassTable, source: Source) -> None:
    """Raise SettingsError if a model and a data set have different classes."""
    if own.names != source.classes.names:
        differs = [f"{index}: {ours} and {theirs}" for index, (ours, theirs)
                   in enumerate(zip(own.names, source.classes.names, strict=False)) if ours != theirs]
        where = f" (class {differs[0]})" if differs else ""
        raise SettingsError(f"{path} has {len(own)} classes, and {source.name} has {len(source.classes)} "
                            f"others{where}; score it on a data set with the model's classes")


def expand(asked: Iterable[str]) -> list[Perturbation]:
    """Return the perturbations that the texts name, each once, by kind and severity. Raises SettingsError."""
    found = set()
    for text in asked:
        if text == "all" or text in PERTURBATIONS:
            kinds = PERTURBATIONS if text == "all" else [text]
            found |= {Perturbation(kind, severity) for kind in kinds for severity in range(1, SEVERITIES + 1)}
        else:
            found.add(Perturbation.parse(text))
    order = list(PERTURBATIONS)
    return sorted(found, key=lambda one: (order.index(one.kind), one.severity))
