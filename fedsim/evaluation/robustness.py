"""The scores of models on clean pictures and under driving perturbations.

After Hendrycks & Dietterich 2019 (arXiv:1903.12261), with mIoU instead of classification errors.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from fedsim.data.conditions import perturb_and_shrink
from fedsim.data.perturbations import Perturbation
from fedsim.data.scene_set import SceneSet
from fedsim.evaluation.evaluate import Network, batches_of, count_confusion
from fedsim.evaluation.metrics import Scores, mean_scores, scores


@dataclass(frozen=True)
class Subject:
    """Models that are scored together: a run's global model, or the personal models of all its cars."""

    name: str
    models: Sequence[Network]
    scenes: SceneSet  # pictures at the size of the models' input
    originals: SceneSet  # the same scenes with pictures of the data set's own size


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


def score_subjects(subjects: Sequence[Subject], perturbations: Iterable[Perturbation], seed: int,
                   advance: Callable[[], None] = lambda: None) -> list[Robustness]:
    """Score every subject on clean pictures and under every perturbation. `advance` is called after each of these.

    Pictures are perturbed once for all subjects that have the same scenes at the same size.
    """
    results = [Robustness(_score(subject, subject.scenes)) for subject in subjects]
    advance()
    for perturbation in perturbations:
        seen: dict[str, SceneSet] = {}
        for subject, result in zip(subjects, results, strict=True):
            key = subject.scenes.fingerprint
            if key not in seen:
                height, width = subject.scenes.images.shape[2:]
                images = perturb_and_shrink(subject.originals, (width, height), perturbation, seed)
                seen[key] = replace(subject.scenes, images=images)
            result.perturbed[perturbation] = _score(subject, seen[key])
        advance()
    return results


def _score(subject: Subject, scenes: SceneSet) -> Scores:
    """Return the mean of the scores of the subject's models, each on all scenes."""
    return mean_scores([scores(count_confusion(model, scenes, batches_of(scenes))) for model in subject.models])
