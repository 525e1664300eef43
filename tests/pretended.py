"""A pretended accelerator: its tensors hold CPU numbers, refuse to meet CPU tensors, and log every wait of the host.

The device is registered for a whole process and cannot be taken back, so tests use it in a process of its own. It tests
neither kernels nor drivers.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.utils.backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"
WAITS: list[str] = []  # of the host for the device, by operation
PLAYED: set[str] = set()  # the operations that the device has played
# What the host waits for: numbers, and shapes that depend on numbers.
WAITING = ("_local_scalar_dense", "nonzero", "bincount", "equal", "masked_select", "_unique2", "repeat_interleave")
COPIES = ("_to_copy", "copy_")


def begin() -> torch.device:
    """Register the device and return it."""
    torch.utils.backend_registration._setup_privateuseone_for_python_backend(NAME)
    torch.autograd.set_multithreading_enabled(False)
    torch.set_num_threads(1)
    return torch.device(NAME, 0)


class Pretended(torch.Tensor):
    """A tensor of the pretended device. `inner` holds its numbers on the CPU."""

    is_cuda = True

    def __new__(cls, inner):
        own = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=torch.device(NAME, 0),
            storage_offset=inner.storage_offset())
        own.inner = inner
        return own

    def _set_data(self, other):
        self.inner = other.inner
        torch.Tensor.data.__set__(self, other)

    data = property(torch.Tensor.data.__get__, _set_data)

    def numpy(self):
        raise TypeError("numpy of a device tensor")

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        return play(op, args, kwargs or {})


class Playing(TorchDispatchMode):
    """A block in which tensors can be made on the pretended device."""

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        return play(op, args, kwargs or {})


def count(action: Callable[[], Any]) -> int:
    """Return how often the host waits for the device in an action."""
    WAITS.clear()
    action()
    return len(WAITS)


def play(op, args, kwargs):
    """Play an operation on the CPU for tensors of either device. Tensors with axes are all on one device."""
    name = op.overloadpacket.__name__
    if name == "is_pinned":
        return getattr(args[0], "pinned", False)
    if name == "_pin_memory":
        copy = args[0].clone()
        copy.pinned = True
        return copy
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = {id(one.inner): one for one in tensors if isinstance(one, Pretended)}
    assert name in COPIES or not there or all(isinstance(one, Pretended) or not one.ndim for one in tensors), \
        f"{op}: tensors on two devices"
    goes = _goes_there(name, args, kwargs.get("device"), bool(there))
    if _waits(name, tensors, goes, bool(there), bool(kwargs.get("non_blocking"))):
        WAITS.append(name)
    if goes:
        PLAYED.add(name)
    args, kwargs = tree_map(lambda leaf: leaf.inner if isinstance(leaf, Pretended) else leaf, (args, kwargs))
    found = op(*args, **kwargs | ({"device": "cpu"} if kwargs.get("device") is not None else {}))

    def wrap(leaf):
        if id(leaf) in there:
            return there[id(leaf)]
        return Pretended(leaf) if goes and isinstance(leaf, torch.Tensor) else leaf

    return tree_map(wrap, found)


def _goes_there(name, args, asked, any_there):
    """Return whether the results are on the pretended device."""
    if asked is not None:
        return torch.device(asked).type == NAME
    return isinstance(args[0], Pretended) if name == "copy_" else any_there


def _waits(name, tensors, goes, any_there, non_blocking):
    """Return whether the host waits. Only from page-locked memory does a copy to the device run by itself."""
    crosses = name in COPIES and {isinstance(one, Pretended) for one in tensors} | {goes} == {True, False}
    by_itself = goes and non_blocking and all(
        isinstance(one, Pretended) or getattr(one, "pinned", False) for one in tensors)
    return (crosses and not by_itself) or (any_there and name in WAITING)
