"""Checkpoints that an earlier fedsim has written: 0.1.0, before its modules were put into packages.

`old_checkpoints` holds the state after three rounds of the federations below, in checkpoints of format 1. Whoever
raises FORMAT replaces them; nobody else does.
"""

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import quadratics
from quadratics import UNEQUAL, bowls

from fedsim.algorithms import FedADMM, Scaffold
from fedsim.federation.rounds import initial_state, run_round
from fedsim.record.checkpoints import Checkpoints

OLD = Path(__file__).parent / "old_checkpoints"
ALGORITHMS = {"admm": FedADMM(rho=4.0), "scaffold": Scaffold()}


def content(folder: Path) -> dict:
    """What the checkpoint names: its parts with their sizes and digests, whatever version wrote it."""
    record = json.loads((folder / "round-000003.json").read_text())["checkpoint"]
    return {key: value for key, value in record.items() if key != "fedsim"}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_old_checkpoint_is_read_and_written_again_to_the_byte(name, tmp_path):
    """Catches the name of a tensor that follows that of a field, a tensor more or less, and other types of numbers."""
    made = quadratics.federation(ALGORITHMS[name], bowls(images=UNEQUAL), participation=0.4, steps=1)
    state = Checkpoints(OLD / name, made, "this run").load(initial_state(made), Mock(warning=pytest.fail))
    assert state.round == 3 and sorted(state.memories) == [0, 1, 2, 3]
    Checkpoints(tmp_path, made, "this run").save(state)
    old, new = ({path.name: path.read_bytes() for path in folder.glob("*.safetensors")} for folder in (OLD / name,
                                                                                                    tmp_path))
    assert old == new and content(OLD / name) == content(tmp_path)
    assert run_round(made, state).state.round == 4
