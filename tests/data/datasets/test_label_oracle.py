"""fedsim reads of made-up label files what an independent reader finds in them, or refuses them in a sentence.

A short form of benchmarks/fuzz.py. Seen to fail with palettes read by number alone, with grey of fewer than 8 bits
scaled, and with files that are not used and not named.
"""

import random

import numpy as np
import pytest
from label_oracle import judge, plain
from label_sets import TWISTS, LabelSet
from readings import Readings, composed


@pytest.fixture
def readings(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path / "cache"))
    return Readings(tmp_path)


@pytest.mark.parametrize("twist", dict.fromkeys(TWISTS), ids=lambda twist: twist.__name__)
def test_labels_are_read_as_the_independent_reader_does(readings, twist):
    statuses = {readings.read_labels(random.Random(seed), [twist]).status for seed in range(16)}
    assert 0 in statuses, "all are refused"


OTHERS = [twist for twist in TWISTS if twist != LabelSet.words]  # which leave the table as it is


@pytest.mark.parametrize("twist", OTHERS, ids=lambda twist: twist.__name__)
def test_the_independent_reader_finds_what_was_meant(tmp_path, twist):
    """So that the test above says something. Where a refusal is right as well, the meaning may be another one."""
    agreed = 0
    for seed in range(30):
        made = LabelSet(tmp_path, random.Random(seed))
        twist(made)
        classes = {number: plain(name) for number, name, _ in made.table}
        for split in ("train", "val"):
            right = judge(tmp_path, split)
            for path, numbers in made.meant.items():
                name = composed("/".join(path.with_suffix("").parts[-2:]))
                if path.parts[-3] == split and name in right.labels and not (right.must or right.may):
                    found = np.array([*right.names, "void"])[np.minimum(right.labels[name], len(right.names))]
                    assert (found == np.vectorize(classes.get)(numbers)).all(), (seed, name)
                    agreed += 1
    assert agreed > 5
