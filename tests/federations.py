"""Federations in tests: made and altered by the names of their fields, whatever group a field belongs to."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from fedsim.distributed.world import World
from fedsim.federation.federation import Federation, Fleet, Method, Schedule, make_kept
from fedsim.federation.local_training import LocalTraining
from fedsim.federation.memories import make_memories
from fedsim.models.flat import FlatModel

GROUPS = {"method": Method, "schedule": Schedule, "fleet": Fleet}


def build(world: World, model: FlatModel, training: LocalTraining, folder: Path | None = None,
          **values: Any) -> Federation:
    """Make a federation of the values of all fields. folder: where memories lie in files; None for RAM."""
    groups = {group: kind(**{name: values.pop(name) for name in names_of(kind) & values.keys()})
              for group, kind in GROUPS.items()}
    assert not values, f"a federation has no {', '.join(values)}"
    kept = make_kept(groups["method"].algorithm, training, model.theta, model.parameters)
    memories = make_memories(kept, list(groups["fleet"].scenes), folder)
    return Federation(world=world, model=model, training=training, memories=memories, **groups)


def altered(made: Federation, **values: Any) -> Federation:
    """Return a federation with other values, whose cars remember nothing yet."""
    known = {name: getattr(getattr(made, group), name) for group, kind in GROUPS.items() for name in names_of(kind)}
    own = {name: getattr(made, name) for name in ("world", "model", "training")}
    return build(folder=made.memories.folder, **own | known | values)


def names_of(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}
