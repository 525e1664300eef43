"""Which drives there are: their names, the kind of place and the light of each.

Training drives are numbered without end, and drive k is the same however many there are. The drives
kept for validation and test are others, of all kinds and lights.
"""

from typing import NamedTuple

# Every kind in every light. The first four are the four cars of the default job, chosen to differ.
COMBINATIONS = (
    ("town", "day"), ("suburb", "dusk"), ("country", "rain"), ("town", "fog"),
    ("suburb", "day"), ("country", "dusk"), ("town", "rain"), ("suburb", "fog"),
    ("country", "day"), ("town", "dusk"), ("suburb", "rain"), ("country", "fog"),
)
# Two drives of each kind, all four lights; none is a combination of the first four training drives.
VAL_COMBINATIONS = (4, 5, 6, 7, 9, 11)

FRAMES = {"train": 100, "val": 12, "test": 10}  # scenes of a drive


class Drive(NamedTuple):
    """One recording: a place, a light and (through split and number) a seed of its own."""

    split: str
    number: int  # counts from 0 in its split
    kind: str
    light: str

    @property
    def name(self) -> str:
        """Such as "town-day-00"; drives kept from training carry their split, "test-town-day-00"."""
        held_out = "" if self.split == "train" else f"{self.split}-"
        return f"{held_out}{self.kind}-{self.light}-{self.number:02d}"


def drive_of(split: str, number: int) -> Drive:
    """The drive of this number in a split."""
    if split == "val":
        return Drive(split, number, *COMBINATIONS[VAL_COMBINATIONS[number]])
    return Drive(split, number, *COMBINATIONS[number % len(COMBINATIONS)])


def drives_of(split: str, train_drives: int) -> tuple[Drive, ...]:
    """All drives of a split: `train_drives` to train on, 6 to validate on, 12 to test on."""
    count = {"train": train_drives, "val": len(VAL_COMBINATIONS), "test": len(COMBINATIONS)}[split]
    return tuple(drive_of(split, number) for number in range(count))
