"""The state between two rounds as named tensors, and back, to the bit.

A checkpoint has a part for the coordinator and one for each car. No part holds what every rank can make
anew from the settings, such as the state before the first round.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedsim.federation.bundles import names_of, parts_of, put_together
from fedsim.federation.divergence import Watch
from fedsim.federation.federation import Federation
from fedsim.federation.state import State

# The content of a part, by name. A number is a float64, int64 or bool tensor without axes, None an empty vector.
Tensors = dict[str, Tensor]
COUNTS = ("round", "pictures", "sequential_steps")


class InvalidPart(ValueError):
    """A part that does not fit this run; the message says why."""


def global_tensors(state: State) -> Tensors:
    """Return the coordinator's part of a state."""
    tensors: Tensors = {}
    for name, bundle in (*_global(state).items(), *((name, getattr(state, name)) for name in (*COUNTS, "lr_factor"))):
        _add(tensors, name, bundle)
    for name in ("steps", "duals"):
        tensors[f"watch.{name}"] = torch.tensor(getattr(state.watch, name), dtype=torch.float64)
    _add(tensors, "watch.warned", int(state.watch.warned))
    return tensors


def restore_global(state: State, tensors: Tensors) -> State:
    """Return the state that the coordinator's part describes, without the cars' parts.

    state: that of round 0. Raises InvalidPart.
    """
    counts = {name: _take(tensors, name, 0) for name in COUNTS}
    lr_factor, warned = _take(tensors, "lr_factor", 1.0), _take(tensors, "watch.warned", 0)
    if not all(type(count) is int and count >= 0 for count in counts.values()):
        raise InvalidPart("its round counters are missing or negative")
    if type(lr_factor) is not float or not 0 < lr_factor <= 1:
        raise InvalidPart("its lr_factor is not a number above 0 and at most 1")
    steps, duals = (tuple(_take_floats(tensors, f"watch.{name}")) for name in ("steps", "duals"))
    found = replace(state, **{name: _take(tensors, name, like) for name, like in _global(state).items()}, **counts,
                    lr_factor=lr_factor, watch=Watch(steps, duals, bool(warned)))
    _check_finite(found.shared.theta, *found.norms, *(() if found.average is None else (found.average,)))
    return found


def car_tensors(federation: Federation, state: State, car: int) -> Tensors:
    """Return the part of a car of this rank that has taken part: its memory, and its norms if it has its own."""
    tensors: Tensors = {}
    _add(tensors, "memory", federation.kept(state, car))
    if car in state.own_norms:
        _add(tensors, "norms", state.own_norms[car])
    return tensors


def restore_car(federation: Federation, state: State, car: int, tensors: Tensors) -> State:
    """Return the state with the memory and the norms of a car of this rank. Raises InvalidPart."""
    memory = _take(tensors, "memory", state.initial_memory)
    state = replace(state, memories=state.memories | {car: federation.memories.save(car, memory, None)})
    if not federation.has_own_models:
        return state
    norms = _take(tensors, "norms", state.initial_norms)
    _check_finite(*norms)
    return replace(state, own_norms=state.own_norms | {car: norms})


def is_empty(state: State, tensors: Tensors) -> bool:
    """Return whether a car's part holds no number, and held none before the car took part.

    Such a part need not be written.
    """
    initial: Tensors = {}
    _add(initial, "memory", state.initial_memory)
    return not any(tensor.numel() for tensor in (*initial.values(), *tensors.values()))


def restore_bundle(bundle: Any, like: Any) -> Any:
    """Return what a checkpoint gives back of a bundle. It must be of the same form as `like`. Raises InvalidPart."""
    tensors: Tensors = {}
    _add(tensors, "state", bundle)
    return _take(tensors, "state", like)


def max_part_bytes(state: State) -> int:
    """Return an upper bound, in bytes, on the tensors of any part except its watch. state: that of round 0."""
    bundles = [*_global(state).values(), state.initial_memory]
    return sum(part.numel() * part.itemsize for bundle in bundles for part in parts_of(bundle)
               if isinstance(part, Tensor))


def _global(state: State) -> dict[str, Any]:
    shared = {"shared": state.shared, "server": state.server, "norms": state.norms, "mean_dual": state.mean_dual}
    return shared | {name: bundle for name in ("momentum", "average") if (bundle := getattr(state, name)) is not None}


def _add(tensors: Tensors, name: str, bundle: Any) -> None:
    """Add a bundle, part by part, under names that begin with `name`."""
    for own, value in zip(names_of(name, bundle), parts_of(bundle), strict=True):
        tensors[own] = value if isinstance(value, Tensor) else _to_tensor(value)


def _to_tensor(number: float | None) -> Tensor:
    if number is None:
        return torch.empty(0)
    kind = torch.bool if isinstance(number, bool) else torch.float64 if isinstance(number, float) else torch.int64
    return torch.tensor(number, dtype=kind)


def _take(tensors: Tensors, name: str, like: Any) -> Any:
    """Return the bundle that `_add` added as `name`; it must be of the same form as `like`. Raises InvalidPart."""
    return put_together(like, [_take_one(tensors, own, was) for own, was in
                               zip(names_of(name, like), parts_of(like), strict=True)])


def _take_one(tensors: Tensors, name: str, like: Any) -> Any:
    if name not in tensors:
        raise InvalidPart(f"it has no {name}")
    value = tensors[name]
    if not isinstance(like, Tensor):
        return _to_number(name, value)
    if value.shape != like.shape or value.dtype != like.dtype:
        raise InvalidPart(f"its {name} is {tuple(value.shape)} {value.dtype}, not {tuple(like.shape)} {like.dtype}")
    return value.to(like.device)


def _to_number(name: str, value: Tensor) -> int | float | None:
    if value.shape == (0,):
        return None
    if value.shape != () or value.dtype not in (torch.float64, torch.int64, torch.bool):
        raise InvalidPart(f"its {name} is not a number")
    return value.item()


def _take_floats(tensors: Tensors, name: str) -> list[float]:
    value = tensors.get(name)
    if value is None or value.ndim != 1 or value.dtype != torch.float64 or not bool(value.isfinite().all()):
        raise InvalidPart(f"its {name} are not numbers")
    return value.tolist()


def _check_finite(*tensors: Tensor) -> None:
    """Raise InvalidPart if the model has NaN or infinity. A memory may: algorithms keep what they like."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise InvalidPart("its model holds numbers that are not finite")
