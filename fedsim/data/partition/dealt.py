"""The scenes of a run after they are dealt to cars, and warnings about the split."""

from collections.abc import Iterator
from dataclasses import dataclass

from fedsim.data.partition.schemes import Shard
from fedsim.data.partition.skew import close_in_time
from fedsim.data.partition.split_file import count_left_out
from fedsim.data.scene_set import SceneSet, Source

CLOSE = 5.0  # seconds; frames of a drive that lie closer look alike


@dataclass(frozen=True)
class Dealt:
    """The scenes to train on, dealt to cars, and the scenes to score on."""

    source: Source
    train_set: SceneSet
    eval_set: SceneSet
    eval_split: str
    shards: list[Shard]  # one a car

    def warnings(self) -> Iterator[str]:
        """Yield warnings: training scenes that no car has, and scored scenes of drives that are trained on."""
        name = self.source.name
        if missing := count_left_out(self.shards, self.train_set):
            yield f"{missing} of {len(self.train_set)} training scenes belong to no car"
        shared = sorted(set(self.train_set.drives) & set(self.eval_set.drives))
        if self.eval_split == "train" or not shared:
            return
        near = len(close_in_time(self.train_set, self.eval_set, CLOSE))
        how_near = (f"{near} of its {len(self.eval_set)} scenes lie within {CLOSE:g} seconds of a training scene"
                    if near else "neighbouring frames may stand on both sides")
        yield (f"{name}'s {self.eval_split} split shares drives with train ({', '.join(shared)}): {how_near}, so "
               "scores tell little about unseen drives")
