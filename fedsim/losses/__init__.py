"""The training losses by name, a file for each paper, and those of a user's own."""

from fedsim.losses.base import Loss
from fedsim.losses.cross_entropy import CrossEntropy
from fedsim.losses.dice import Dice
from fedsim.losses.focal import Focal
from fedsim.losses.lovasz import LovaszSoftmax
from fedsim.losses.ohem import OHEM

LOSSES: dict[str, type[Loss]] = {loss.name: loss for loss in (CrossEntropy, OHEM, Focal, Dice, LovaszSoftmax)}

__all__ = ["LOSSES", "OHEM", "CrossEntropy", "Dice", "Focal", "Loss", "LovaszSoftmax"]
