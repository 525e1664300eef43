"""Bundles: None, a number, a dense tensor, or a tuple or NamedTuple of these; what algorithms keep and send."""

from typing import Any

import torch
from torch import Tensor


def is_group(bundle: Any) -> bool:
    """A plain tuple or a NamedTuple: a bundle of several parts."""
    return type(bundle) is tuple or (isinstance(bundle, tuple) and hasattr(bundle, "_fields"))


def parts_of(bundle: Any) -> tuple[Any, ...]:
    """The parts, in order; of a single thing that itself."""
    return tuple(bundle) if is_group(bundle) else (bundle,)


def names_of(name: str, bundle: Any) -> list[str]:
    """What the parts of a bundle called `name` are called, in order."""
    if type(bundle) is tuple:
        return [f"{name}[{place}]" for place in range(len(bundle))]
    return [f"{name}.{field}" for field in bundle._fields] if is_group(bundle) else [name]


def put_together(like: Any, parts: list[Any]) -> Any:
    """The parts put together as those of `like` are."""
    if not is_group(like):
        return parts[0]
    return tuple(parts) if type(like) is tuple else type(like)._make(parts)


def is_alike(bundle: Any, other: Any) -> bool:
    """Whether two bundles consist of the same types, and of tensors with the same shapes."""
    pairs = list(zip(parts_of(bundle), parts_of(other), strict=False))
    return type(bundle) is type(other) and len(parts_of(bundle)) == len(pairs) == len(parts_of(other)) and all(
        type(part) is type(was) and (not isinstance(part, Tensor) or (
            part.shape == was.shape and part.dtype == was.dtype and part.layout == was.layout))
        for part, was in pairs)


def kind_of(part: Any) -> str | None:
    """What a part is made like, in words; None where it is none."""
    if isinstance(part, Tensor) and part.layout is torch.strided:
        return f"a tensor of {tuple(part.shape)} {str(part.dtype).removeprefix('torch.')}"
    return "a number or None" if part is None or isinstance(part, int | float) else None
