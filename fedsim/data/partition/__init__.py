"""Partitions: which car has which scenes."""

from typing import NamedTuple

PARTITIONS = ("drive", "iid", "dirichlet", "classes", "quantity", "condition")
DEFAULT_ALPHA = {"dirichlet": 0.5, "classes": 2.0, "quantity": 1.0}  # the partitions that read --alpha
SPLIT_FILE = "partition.json"  # in the directory of a run or an inspection
CLOSE = 5.0  # seconds; frames of a drive that lie closer look alike
HELD_OUT = "held-out"  # the scored "split" that is a drive of the training split, which no car trains on


class Scored(NamedTuple):
    """The scenes that a model is scored on."""

    split: str  # a split of the data set, or HELD_OUT
    drive: str | None = None  # the drive that no car trains on

    @property
    def on_disk(self) -> str:
        """The split of the data set in which the scenes lie."""
        return "train" if self.split == HELD_OUT else self.split

    @property
    def name(self) -> str:
        """The name of the scenes in a sentence, without an article: "val split", or "held-out drive 0001TP"."""
        if self.split == HELD_OUT:
            return f"held-out drive {self.drive}"
        without = f" without drive {self.drive}" if self.split == "train" and self.drive is not None else ""
        return f"{self.split} split{without}"
