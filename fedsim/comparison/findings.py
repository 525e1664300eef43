"""The facts that a comparison reads from its runs or computes with their models."""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fedsim.classes import ClassTable
from fedsim.comparison.trials import Trial
from fedsim.data.partition import PARTITIONS, SPLIT_FILE
from fedsim.data.partition.dealt import Dealt
from fedsim.data.scene_set import SceneSet
from fedsim.distributed.world import World
from fedsim.errors import OutputError
from fedsim.evaluation.evaluate import BATCH, count_confusion, segment
from fedsim.evaluation.metrics import scores
from fedsim.experiment.past_run import PastRun
from fedsim.inference.segmenter import Segmenter
from fedsim.record.metrics_file import check_records, read_metrics
from fedsim.record.run_directory import START_FILE
from fedsim.report.scenes import Shown, load_shown, shown_indices
from fedsim.settings.fields import Settings


@dataclass(frozen=True)
class Findings:
    """The facts on which a comparison reports."""

    trials: list[Trial]
    classes: ClassTable
    trained: np.ndarray  # (C,) int64 labelled pixels of every class in training
    scored: np.ndarray  # (C,) int64, in the evaluated split
    shown: Shown
    predictions: dict[str, list[np.ndarray]]  # path of an ended run -> (h, w) uint8 of each shown scene


def examine(runs: Sequence[PastRun], world: World, trust: Collection[str], advance: Callable[[], None]) -> Findings:
    """Read runs and score their models; `advance` is called after each run.

    trust: as in `Segmenter.load`. Raises UserError if a run has no score yet, or if its scenes or its weights are
    missing or damaged.
    """
    trials, predictions = [], {}
    first = None
    for run in runs:
        path, records = str(run.directory.path), read_metrics(run.directory.metrics)
        check_records(records, run.directory.metrics)
        if not any(record["global"] for record in records):
            raise OutputError(f"{path} has no score yet: let it play a round, or leave it out")
        dealt = run.deal_again(world)
        first = first or dealt  # all runs must have its scenes, or they cannot be compared
        own_scenes = {}
        if run.has_ended():
            models = [Segmenter.load(file, world.device, trust) for file in run.directory.weights()]
            own_scenes = {} if dealt.own_test_set else _score_own_scenes(models, dealt)
            predictions[path] = segment(models[0], dealt.eval_set, shown_indices(dealt.eval_set),
                                        models[0].view)
        trials.append(Trial(path, _comparable_settings(run), records, own_scenes, _digest(dealt.eval_set),
                            _digest(dealt.train_set)))
        advance()
    assert first is not None, "no run at all"
    trained, scored = first.train_set.histograms.sum(0), first.eval_set.histograms.sum(0)
    shown = load_shown(first.eval_set, first.source, first.scored.on_disk)
    return Findings(trials, first.source.classes, trained, scored, shown, predictions)


def _score_own_scenes(models: Sequence[Segmenter], dealt: Dealt) -> dict[str, float]:
    """Return each car's mIoU on its training scenes, with the global model or, without one, with the car's own."""
    mious = {}
    for car, shard in enumerate(dealt.shards):
        batches = np.split(shard.indices, range(BATCH, len(shard.indices), BATCH))
        model = models[car % len(models)]
        tally = count_confusion(model, dealt.train_set, batches, model.view)
        if tally.sum():  # all pixels of a car may be void
            mious[shard.name] = scores(tally).miou
    return mious


def _digest(scenes: SceneSet) -> str:
    """Return a digest of scenes and classes that does not depend on the size at which a network sees them."""
    names = json.dumps([scenes.names, scenes.classes.names]).encode()
    return hashlib.sha256(names + np.ascontiguousarray(scenes.histograms).tobytes()).hexdigest()


def _comparable_settings(run: PastRun) -> Settings:
    """Return the run's settings. Files are named by their digests, because each run has its own copies of them."""
    copies = {"partition": SPLIT_FILE} if run.settings.partition not in PARTITIONS else {}
    copies |= {"init": START_FILE} if run.settings.init is not None else {}
    named: dict[str, Any] = {}
    for name, file in copies.items():
        if not (run.directory.path / file).is_file():
            raise OutputError(f"{run.directory.path / file} is missing; restore it, or leave the run out")
        digest = hashlib.sha256((run.directory.path / file).read_bytes()).hexdigest()
        named[name] = f"file-{digest[:6]}"
    return replace(run.settings, **named)
