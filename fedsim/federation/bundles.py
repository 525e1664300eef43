"""Bundles of what algorithms keep and send, taken apart and put together.

A bundle is None, a number, a dense tensor, or a tuple or NamedTuple of these. A contribution is a bundle too: a (d,)
tensor, or a NamedTuple of (d,) tensors and floats.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def is_group(bundle: Any) -> bool:
    """Return whether a bundle is a plain tuple or a NamedTuple, so that it has several parts."""
    return type(bundle) is tuple or (isinstance(bundle, tuple) and hasattr(bundle, "_fields"))


def parts_of(bundle: Any) -> tuple[Any, ...]:
    """Return the parts in order. A bundle that is no group is its own only part."""
    return tuple(bundle) if is_group(bundle) else (bundle,)


def names_of(name: str, bundle: Any) -> list[str]:
    """Name the parts of a bundle called `name`, in order: "name.field" or "name[0]"."""
    if type(bundle) is tuple:
        return [f"{name}[{index}]" for index in range(len(bundle))]
    return [f"{name}.{field}" for field in bundle._fields] if is_group(bundle) else [name]


def put_together(like: Any, parts: Sequence[Any]) -> Any:
    """Build a bundle of the type of `like` from its parts."""
    if not is_group(like):
        return parts[0]
    return tuple(parts) if type(like) is tuple else type(like)._make(parts)


def join(*bundles: Any) -> tuple[Any, ...]:
    """Return the parts of several bundles as one bundle, a plain tuple."""
    return tuple(part for bundle in bundles for part in parts_of(bundle))


def split(joined: tuple[Any, ...], *likes: Any) -> list[Any]:
    """Return the bundles that `join` has joined. likes: bundles of the same types, in order."""
    bundles, first = [], 0
    for like in likes:
        after = first + len(parts_of(like))
        bundles.append(put_together(like, joined[first:after]))
        first = after
    return bundles


def to_tensors(contribution: Any) -> list[Tensor]:
    """Return the parts of a contribution as tensors: vectors as they are, floats as 0-dim float64."""
    return [part if isinstance(part, Tensor) else torch.tensor(part, dtype=torch.float64)
            for part in parts_of(contribution)]


def from_tensors(tensors: Sequence[Tensor], like: Any) -> Any:
    """Build a contribution of the type of `like` from the tensors that `to_tensors` makes."""
    return put_together(like, [tensor if isinstance(part, Tensor) else float(tensor)
                               for tensor, part in zip(tensors, parts_of(like), strict=True)])


def is_alike(bundle: Any, other: Any) -> bool:
    """Return whether two bundles consist of the same types, and their tensors have the same shapes."""
    pairs = list(zip(parts_of(bundle), parts_of(other), strict=False))
    return type(bundle) is type(other) and len(parts_of(bundle)) == len(pairs) == len(parts_of(other)) and all(
        type(part) is type(was) and (not isinstance(part, Tensor) or (
            part.shape == was.shape and part.dtype == was.dtype and part.layout == was.layout))
        for part, was in pairs)


def kind_of(part: Any) -> str | None:
    """Describe a part's type for an error message. Return None if a bundle may not contain such a part."""
    if isinstance(part, Tensor) and part.layout is torch.strided:
        return f"a tensor of {tuple(part.shape)} {str(part.dtype).removeprefix('torch.')}"
    return "a number or None" if part is None or isinstance(part, int | float) else None
