"""The scores of models on clean pictures and under driving perturbations.

After Hendrycks & Dietterich 2019 (arXiv:1903.12261), with mIoU instead of classification errors.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from fedsim.data.conditions import perturb_and_shrink
from fedsim.data.partition import Scored
from fedsim.data.perturbations import Perturbation
from fedsim.data.scene_set import SceneSet, Source
from fedsim.evaluation.evaluate import Network, batches_of, count_batch, count_by_drive
from fedsim.evaluation.metrics import Scores, mean_scores, scores, scores_by_drive
from fedsim.evaluation.views import PLAIN, View
from fedsim.system.threads import ahead


@dataclass(frozen=True)
class Subject:
    """Models that are scored together: a run's global model, or the personal models of all its cars."""

    name: str
    models: Sequence[Network]
    scenes: SceneSet  # pictures at the size of the models' input
    source: Source  # of the scenes
    scored: Scored  # what they are
    view: View = PLAIN  # of the pictures


@dataclass(frozen=True)
class Robustness:
    """A subject's scores on clean pictures and under each perturbation."""

    clean: Scores
    perturbed: dict[Perturbation, Scores] = field(default_factory=dict)

    def kinds(self) -> dict[str, list[Scores]]:
        """Return kind of perturbation -> scores, one for each severity."""
        found: dict[str, list[Scores]] = {}
        for perturbation, score in self.perturbed.items():
            found.setdefault(perturbation.kind, []).append(score)
        return found

    def miou(self, kind: str) -> float:
        """Return the mean mIoU of a kind over its severities."""
        return fmean(score.miou for score in self.kinds()[kind])

    def mean_miou(self) -> float:
        """Return the mean mIoU over kinds, of which each is a mean over severities."""
        return fmean(self.miou(kind) for kind in self.kinds())

    def worst_class(self, kind: str) -> tuple[int, float] | None:
        """Return the class that loses most IoU under a kind, averaged over severities, and its change of IoU."""
        changes = []
        for index, clean in enumerate(self.clean.class_iou):
            under = [iou for score in self.kinds()[kind] if (iou := score.class_iou[index]) is not None]
            if clean is not None and under:
                changes.append((fmean(under) - clean, index))
        return (min(changes)[1], min(changes)[0]) if changes else None

    def relative_degradation(self, reference: "Robustness") -> float | None:
        """Return the mIoU lost, summed over kinds, over that of a reference. Below 1 is more robust than the reference.

        Hendrycks & Dietterich 2019, §4.2, relative mCE, which the paper averages over kinds. None if the reference
        loses nothing.
        """
        lost, lost_there = (sum(one.clean.miou - one.miou(kind) for kind in self.kinds()) for one in (self, reference))
        return lost / lost_there if lost_there > 0 else None


def score_subjects(subjects: Sequence[Subject], perturbations: Sequence[Perturbation], seed: int,
                   advance: Callable[[], None] = lambda: None) -> list[Robustness]:
    """Score every subject on clean pictures and under every perturbation. `advance` is called `count_steps` times.

    Pictures of the data set's own size are read batch by batch, once for all perturbations and all subjects that have
    the same scenes at the same size. So memory holds one batch of them, whatever their number.
    """
    results = [Robustness(_score_clean(subject)) for subject in subjects]
    advance()
    for group in _group(subjects) if perturbations else ():
        tallies = _count_perturbed([subjects[place] for place in group], perturbations, seed, advance)
        for place, by_perturbation in zip(group, tallies, strict=True):
            results[place].perturbed.update({one: _score(counted) for one, counted in by_perturbation.items()})
    return results


def count_steps(subjects: Sequence[Subject], perturbations: Sequence[Perturbation]) -> int:
    """Return the number of steps in which `score_subjects` advances."""
    return 1 + sum(len(batches_of(subjects[group[0]].scenes)) for group in _group(subjects) if perturbations)


def _group(subjects: Sequence[Subject]) -> list[list[int]]:
    """Return the places of the subjects that have the same scenes at the same size, together."""
    groups: dict[str, list[int]] = {}
    for place, subject in enumerate(subjects):
        groups.setdefault(subject.scenes.fingerprint, []).append(place)
    return list(groups.values())


def _count_perturbed(group: Sequence[Subject], perturbations: Sequence[Perturbation], seed: int,
                     advance: Callable[[], None]) -> list[dict[Perturbation, list[Tensor]]]:
    """Return the confusion matrices of each subject's models under each perturbation."""
    source, split, scenes = group[0].source, group[0].scored.on_disk, group[0].scenes
    height, width = scenes.images.shape[2:]
    nothing = torch.zeros(len(scenes.classes), len(scenes.classes), dtype=torch.int64)
    tallies = [{one: [nothing.clone() for _ in subject.models] for one in perturbations} for subject in group]
    for indices in batches_of(scenes):
        names = [scenes.names[index] for index in indices]
        originals = list(ahead(partial(source.picture, split), names))
        for perturbation in perturbations:
            images = np.stack([perturb_and_shrink(image, name, (width, height), perturbation, seed)
                               for image, name in zip(originals, names, strict=True)])
            for subject, counted in zip(group, tallies, strict=True):
                for tally, model in zip(counted[perturbation], subject.models, strict=True):
                    tally += count_batch(model, scenes, indices, images, subject.view)
        advance()
    return tallies


def _score_clean(subject: Subject) -> Scores:
    """Return the mean of the scores of a subject's models on the pictures as they are, by drive too."""
    scenes = subject.scenes
    return mean_scores([scores_by_drive(count_by_drive(model, scenes, batches_of(scenes), subject.view),
                                        scenes.drive_names)
                        for model in subject.models])


def _score(tallies: Iterable[Tensor]) -> Scores:
    """Return the mean of the scores of the models that have these confusion matrices."""
    return mean_scores([scores(tally) for tally in tallies])
