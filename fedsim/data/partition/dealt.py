"""The scenes of a run after they are dealt to cars, and warnings about the split."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fedsim.data.partition import CLOSE, Scored
from fedsim.data.partition.own_test import warn_of_gaps
from fedsim.data.partition.schemes import Shard
from fedsim.data.partition.skew import close_in_time
from fedsim.data.scene_set import SceneSet, Source

STRETCHED = 1.02  # pictures whose shapes differ by more than this factor are seen stretched
NAMED = 3  # sizes that a warning names


@dataclass(frozen=True)
class Dealt:
    """The scenes to train on, dealt to cars, and the scenes to score on."""

    source: Source
    train_source: Source  # the same, with training scenes under the conditions of their cars
    train_set: SceneSet  # without a drive that is held out
    eval_set: SceneSet
    scored: Scored  # what eval_set is
    shards: list[Shard]  # one a car

    @cached_property
    def own_test_set(self) -> SceneSet | None:
        """The scenes that are held out from cars; None if there are no such scenes, or not one labelled pixel in them.

        Each stands under the name of its car instead of that of its drive, so that scores by drive are scores by car.
        """
        chosen = self.train_set.take(np.concatenate([shard.own_test for shard in self.shards]))
        if not chosen.histograms.any():
            return None
        return replace(chosen, drives=tuple(shard.name for shard in self.shards for _ in shard.own_test))

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprints of the scenes that are trained on and of those that are scored, by split."""
        return {"train": self.train_set.fingerprint, self.scored.split: self.eval_set.fingerprint}

    def warnings(self) -> Iterator[str]:
        """Yield warnings on the files, on the sizes of pictures, and on the split.

        Of the split: training scenes that no car has, and scored scenes of drives that are trained on.
        """
        sets = {"train": self.train_set, self.scored.split: self.eval_set}
        yield from dict.fromkeys(note for split in ("train", self.scored.on_disk) for note in self.source.notes(split))
        for split, scenes in sets.items():
            for remark, names in scenes.remarks.items():
                yield f"{remark}: {len(names)} of {len(scenes)} {split} scenes, first {names[0]}"
        yield from _warn_of_sizes(sets)
        name = self.source.name
        yield from warn_of_gaps(self.shards, self.train_set)
        shared = sorted(set(self.train_set.drives) & set(self.eval_set.drives))
        if self.scored.split == "train" or not shared:
            return
        near = len(close_in_time(self.train_set, self.eval_set, CLOSE))
        how_near = (f"{near} of its {len(self.eval_set)} scenes lie within {CLOSE:g} seconds of a training scene"
                    if near else "neighbouring frames may stand on both sides")
        yield (f"{name}'s {self.scored.name} shares drives with train ({', '.join(shared)}): {how_near}, so "
               "scores tell little about unseen drives")


def _warn_of_sizes(sets: Mapping[str, SceneSet]) -> Iterator[str]:
    """Yield a warning if the scenes of the splits have several sizes: how the network sees them, and their scores."""
    sizes: Counter[tuple[int, int]] = Counter()
    for scenes in sets.values():
        sizes.update((int(width), int(height)) for height, width in scenes.labels.shapes)
    if len(sizes) < 2:
        return
    height, width = next(iter(sets.values())).images.shape[2:]
    ratios = [own_width / own_height for own_width, own_height in sizes]
    stretched = ", which stretches some of them" if max(ratios) > STRETCHED * min(ratios) else ""
    by_split = "; ".join(f"{split}: {_list_sizes(scenes)}" for split, scenes in sets.items())
    yield (f"pictures have {len(sizes)} sizes ({by_split}): the network sees each at {width}x{height}{stretched}, and "
           "each is scored at its own size")


def _list_sizes(scenes: SceneSet) -> str:
    """List the sizes of a set's scenes, the most frequent first."""
    counts = Counter((int(width), int(height)) for height, width in scenes.labels.shapes)
    listed = [f"{count} of {width}x{height}" for (width, height), count in counts.most_common(NAMED)]
    return ", ".join(listed) + (" and others" if len(counts) > NAMED else "")
