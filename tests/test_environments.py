"""A few commands in odd environments; benchmarks/fuzz.py plays more of them."""

import random

from environments import Environments


def test_odd_environments_are_refused_in_a_sentence_or_change_nothing(tmp_path):
    """Catches tracebacks, hangs, and other models, because of a variable, a locale or a stream."""
    environments = Environments(tmp_path)
    try:
        outcomes = [environments.play(random.Random(f"few-{number}")).status for number in range(10)]
    finally:
        environments.close()
    assert {0, 2} <= {*outcomes}
