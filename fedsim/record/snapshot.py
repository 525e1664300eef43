"""The state between rounds as named tensors, and back, to the bit.

What every rank makes anew from the settings, the state before the first round, is not kept.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedsim.federation.bundles import names_of, parts_of, put_together
from fedsim.federation.divergence import Watch
from fedsim.federation.federation import Federation
from fedsim.federation.state import State

# Some of a state. A number is a float64, int64 or bool without axes, None an empty vector.
Part = dict[str, Tensor]
COUNTS = ("round", "pictures", "sequential_steps")


class Unfit(ValueError):
    """A part that is not one of this run's; the message says why."""


def global_part(state: State) -> Part:
    """What the coordinator keeps."""
    part: Part = {}
    for name, bundle in (*_global(state).items(), *((name, getattr(state, name)) for name in (*COUNTS, "lr_factor"))):
        _take_apart(part, name, bundle)
    for name in ("steps", "duals"):
        part[f"watch.{name}"] = torch.tensor(getattr(state.watch, name), dtype=torch.float64)
    _take_apart(part, "watch.warned", int(state.watch.warned))
    return part


def with_global(state: State, part: Part) -> State:
    """The state that a global part is of; `state` is that of round 0. Raises Unfit."""
    counts = {name: _put_together(part, name, 0) for name in COUNTS}
    lr_factor, warned = _put_together(part, "lr_factor", 1.0), _put_together(part, "watch.warned", 0)
    if not all(type(count) is int and count >= 0 for count in counts.values()):
        raise Unfit("its counts are none")
    if type(lr_factor) is not float or not 0 < lr_factor <= 1:
        raise Unfit("its lr_factor is none")
    steps, duals = (tuple(_floats(part, f"watch.{name}")) for name in ("steps", "duals"))
    found = replace(state, **{name: _put_together(part, name, like) for name, like in _global(state).items()}, **counts,
                    lr_factor=lr_factor, watch=Watch(steps, duals, bool(warned)))
    _check_finite(found.shared.theta, *found.norms)
    return found


def car_part(federation: Federation, state: State, car: int) -> Part:
    """What a car of this rank keeps, which has taken part."""
    part: Part = {}
    _take_apart(part, "memory", federation.memory(state, car))
    if car in state.own_norms:
        _take_apart(part, "norms", state.own_norms[car])
    return part


def with_car(federation: Federation, state: State, car: int, part: Part) -> State:
    """The state with what a car of this rank keeps. Raises Unfit."""
    memory = _put_together(part, "memory", state.initial_memory)
    state = replace(state, memories=state.memories | {car: federation.memories.save(car, memory, None)})
    if not federation.has_own_models:
        return state
    norms = _put_together(part, "norms", state.initial_norms)
    _check_finite(*norms)
    return replace(state, own_norms=state.own_norms | {car: norms})


def keeps_nothing(state: State, part: Part) -> bool:
    """Whether a car's part is empty, as that of a car that has not taken part: it need not be written."""
    initial: Part = {}
    _take_apart(initial, "memory", state.initial_memory)
    return not any(tensor.numel() for tensor in (*initial.values(), *part.values()))


def part_bytes(state: State) -> int:
    """More than the tensors of any part of a run take up, whose state before the first round this is."""
    bundles = [*_global(state).values(), state.initial_memory]
    return 16 * len(state.watch.steps) + sum(
        part.numel() * part.itemsize for bundle in bundles for part in parts_of(bundle) if isinstance(part, Tensor))


def _global(state: State) -> dict[str, Any]:
    return {"shared": state.shared, "server": state.server, "norms": state.norms, "mean_dual": state.mean_dual}


def _take_apart(part: Part, name: str, bundle: Any) -> None:
    for own, value in zip(names_of(name, bundle), parts_of(bundle), strict=True):
        part[own] = value if isinstance(value, Tensor) else _number(value)


def _number(value: float | None) -> Tensor:
    if value is None:
        return torch.empty(0)
    kind = torch.bool if isinstance(value, bool) else torch.float64 if isinstance(value, float) else torch.int64
    return torch.tensor(value, dtype=kind)


def _put_together(part: Part, name: str, like: Any) -> Any:
    """The bundle of a part that is called `name`, made like another."""
    return put_together(like, [_value(part, own, was) for own, was in
                               zip(names_of(name, like), parts_of(like), strict=True)])


def _value(part: Part, name: str, like: Any) -> Any:
    if name not in part:
        raise Unfit(f"it has no {name}")
    value = part[name]
    if not isinstance(like, Tensor):
        return _from_number(name, value)
    if value.shape != like.shape or value.dtype != like.dtype:
        raise Unfit(f"its {name} is {tuple(value.shape)} {value.dtype}, not {tuple(like.shape)} {like.dtype}")
    return value.to(like.device)


def _from_number(name: str, value: Tensor) -> int | float | None:
    if value.shape == (0,):
        return None
    if value.shape != () or value.dtype not in (torch.float64, torch.int64, torch.bool):
        raise Unfit(f"its {name} is no number")
    return value.item()


def _check_finite(*tensors: Tensor) -> None:
    """Of the model alone: algorithms may keep what they like."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise Unfit("its model holds numbers that are not finite")


def _floats(part: Part, name: str) -> list[float]:
    value = part.get(name)
    if value is None or value.ndim != 1 or value.dtype != torch.float64 or not bool(value.isfinite().all()):
        raise Unfit(f"its {name} are no numbers")
    return value.tolist()
