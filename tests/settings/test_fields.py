"""The words that settings take are those of the tables they choose from.

The command line names them without importing the tables, which import torch. Seen to fail with a word too many and one
too few.
"""

import dataclasses

import pytest

from fedsim import models
from fedsim.data import AUGMENTATIONS
from fedsim.federation.attacks import ATTACKS
from fedsim.federation.batchnorm import NORM_RULES
from fedsim.federation.divergence import ACTIONS
from fedsim.losses.class_weights import CLASS_WEIGHTS
from fedsim.settings.fields import CHOICES, MOST_CHANNELS, Settings


@pytest.mark.parametrize(("setting", "table"), [
    ("attack", ATTACKS), ("batchnorm", NORM_RULES), ("on_divergence", ACTIONS), ("class_weights", CLASS_WEIGHTS),
    ("norm", models.NORMS), ("augment", AUGMENTATIONS)])
def test_choices_are_those_of_the_table(setting, table):
    assert CHOICES[setting] == tuple(table)


def test_models_and_widths_are_those_of_the_networks():
    suggested = {one.name: one.metadata["suggests"] for one in dataclasses.fields(Settings)}
    assert suggested["model"] == models.MODELS and models.MOST_CHANNELS == MOST_CHANNELS
