"""A user's own algorithm, watched while it works: what it returns, and what it writes to.

Every function is called twice with the same input. It must return the same bits, and leave what it was given unchanged.
Otherwise the result would depend on the number of ranks and on resumes.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsim.algorithms import Algorithm, Local
from fedsim.distributed.world import World
from fedsim.errors import FedsimError, RankError, SettingsError
from fedsim.experiment.blame import describe, is_ctrl_c, place_of
from fedsim.federation.bundles import is_alike, is_group, names_of, parts_of
from fedsim.federation.memories import check_memory
from fedsim.record.part_files import DTYPES

REAL = (torch.float32, torch.float64)
NEEDED = "whatever it needs later belongs in the shared state or in a car's memory"


class Mark(NamedTuple):
    """A tensor's count of writes, its place and its requires_grad, which are seen without reading its numbers."""

    version: int  # counts writes in place
    place: int
    requires_grad: bool

    @classmethod
    def of(cls, tensor: Tensor) -> "Mark":
        return cls(0 if tensor.is_inference() else tensor._version, tensor.data_ptr(), tensor.requires_grad)


class Watched(Algorithm):
    """An own algorithm and all that it says of itself, with every call of its functions watched."""

    def __init__(self, own: Algorithm, blame: Callable[[str], FedsimError], thorough: bool = False) -> None:
        """blame: makes an error of a sentence on the algorithm. thorough: also compare numbers before and after a call.

        Writes through `.data` or through numpy are seen only by comparing numbers.
        """
        self.own, self.thorough = own, thorough
        self._blame = blame
        self._sent: Any = None  # the first contribution, after which all others are modelled
        vars(self).update({name: getattr(own, name) for name in Algorithm.__annotations__})

    @property
    def needs_step_length(self) -> bool:
        return self.own.needs_step_length

    @property
    def damping(self) -> float:
        return self.own.damping

    def init_shared(self, theta: Tensor) -> Any:
        shared = self._call("init_shared", theta)
        if not is_group(shared) or not isinstance(getattr(shared, "theta", None), Tensor):
            raise self.fault("init_shared", "init_shared must return a NamedTuple with a theta, of tensors shaped as "
                                            "theta and numbers")
        self._check_shared("init_shared", shared, theta, (theta.dtype,))
        return shared

    def init_memory(self, theta: Tensor) -> Any:
        memory = self._call("init_memory", theta)
        try:
            check_memory(memory, memory)
        except SettingsError as error:
            raise self.fault("init_memory", str(error)) from error
        if self.personal:
            self._check_vector("init_memory", memory, theta, (theta.dtype,))
        self._check_parts("init_memory", memory)
        return memory

    def begin_round(self, shared: Any, step_length: float | None) -> Any:
        after = self._call("begin_round", shared, step_length)
        self._check_next("begin_round", after, shared)
        return after

    def receive(self, shared: Any, memory: Any, step_length: float | None) -> tuple[Any, Any]:
        result = self._call("receive", shared, memory, step_length)
        if type(result) is not tuple or len(result) != 2:
            raise self.fault("receive", "receive must return a pair: the shared state and the memory with which the "
                                        "car begins its round")
        self._check_next("receive", result[0], shared)
        return result

    def start(self, shared: Any, memory: Any) -> Tensor:
        start = self._call("start", shared, memory)
        self._check_vector("start", start, shared.theta, REAL)
        self._check_finite("start", start, (shared, memory))
        return start  # type: ignore[no-any-return]

    def correction(self, w: Tensor, shared: Any, memory: Any) -> Tensor | None:
        correction = self._call("correction", w, shared, memory)
        if correction is not None:
            self._check_vector("correction", correction, w, REAL)
            self._check_finite("correction", correction, (w, shared, memory))
        return correction  # type: ignore[no-any-return]

    def contribute(self, local: Local, shared: Any, memory: Any) -> tuple[Any, Any]:
        result = self._call("contribute", local, shared, memory)
        if type(result) is not tuple or len(result) != 2:
            raise self.fault("contribute", "contribute must return a pair: what the car sends, and its new memory")
        sent, kept = result
        self._check_sent(sent, shared.theta)
        try:
            check_memory(kept, memory)
        except SettingsError as error:
            raise self.fault("contribute", str(error)) from error
        self._check_parts("contribute", kept)
        if not torch.equal(local.w, shared.theta):
            self._check_finite("contribute", sent, (local, shared, memory))
        return sent, kept

    def unit(self, contribution: Any) -> float:
        return self._number("unit", self._call("unit", contribution))

    def update(self, shared: Any, mean: Any, participation: float) -> Any:
        after = self._call("update", shared, mean, participation)
        self._check_next("update", after, shared)
        self._check_finite("update", after.theta, (shared, mean))
        return after

    def step_scale(self, participation: float) -> float:
        return self._number("step_scale", self._call("step_scale", participation))

    def penalty(self, shared: Any) -> float | None:
        penalty = self._call("penalty", shared)
        return None if penalty is None else self._number("penalty", penalty)

    def local_vector(self, memory: Any) -> Tensor | None:
        return self._vector_or_none("local_vector", memory)

    def dual(self, memory: Any) -> Tensor | None:
        return self._vector_or_none("dual", memory)

    def _vector_or_none(self, method: str, memory: Any) -> Tensor | None:
        vector = self._call(method, memory)
        if vector is not None and not (isinstance(vector, Tensor) and vector.ndim == 1 and vector.dtype in REAL):
            raise self.fault(method, f"{method} returns {_describe(vector)}; return a tensor shaped as theta, or None")
        return vector  # type: ignore[no-any-return]

    def fault(self, method: str, what: str) -> FedsimError:
        """Return the error that says what is wrong with a method, and where the method is."""
        return self._blame(f"{what} ({place_of(self.own, method)})")

    def _call(self, method: str, *given: Any) -> Any:
        """Call a method twice, and return what it returns.

        Raises the error of `blame` if it fails, writes to what it was given, changes torch's modes, or returns
        something else the second time.
        """
        tensors = list(_tensors(given))
        marks, numbers = [Mark.of(tensor) for tensor in tensors], [t.clone() for t in tensors] if self.thorough else []
        modes = _modes()
        try:
            result, again = [getattr(self.own, method)(*given) for _ in range(2)]
        except torch.OutOfMemoryError:
            raise  # the device is too small for all together
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            raise self._blame(f"it raises {describe(error, type(self.own))}") from error
        if [Mark.of(tensor) for tensor in tensors] != marks or not all(map(is_same, tensors, numbers)):
            raise self.fault(method, f"{method} writes to a tensor that it was given, and that others hold: make a new "
                                     "tensor instead")
        if modes != _modes():
            raise self.fault(method, f"{method} changes torch's grad mode, default dtype or default device for all "
                                     "that comes after it: set it back")
        if not is_same(result, again):
            raise self.fault(method, f"{method} returns something else when it is called again with the same input: it "
                                     "draws random numbers, or keeps something of its own between calls; " + NEEDED)
        return result

    def _check_next(self, method: str, after: Any, shared: Any) -> None:
        """Check that a shared state is like the one before it."""
        if type(after) is not type(shared) or len(after) != len(shared):
            raise self.fault(method, f"{method} must return a shared state like the one that it was given")
        floats = (*REAL, shared.theta.dtype) if method == "update" else (shared.theta.dtype,)
        self._check_shared(method, after, shared.theta, floats)
        for name, value, was in zip(shared._fields, after, shared, strict=True):
            if isinstance(value, Tensor) != isinstance(was, Tensor):
                raise self.fault(method, f"{method} must return a shared state like the one that it was given, but "
                                         f"{name} is {_describe(value)} and was {_describe(was)}")
            if name in self.server_only and isinstance(was, Tensor) and value.dtype != was.dtype:
                raise self.fault(method, f"{method} returns {name} as {_describe(value)}, but it was {_describe(was)}, "
                                         f"and no checkpoint gives that back: let init_shared return {name} as "
                                         f"{_type(value.dtype)} too, or convert it")

    def _check_shared(self, method: str, shared: Any, theta: Tensor, floats: tuple[torch.dtype, ...]) -> None:
        self._check_vector(method, shared.theta, theta, floats, "theta")
        for name, value in shared._asdict().items():
            if isinstance(value, Tensor):
                if value.shape != theta.shape:
                    raise self.fault(method, f"{method} must return a shared state of tensors shaped as theta and "
                                             f"numbers, but {name} is {_describe(value)}")
                # What cars are sent is rounded to theta's type in every round.
                kept = tuple(DTYPES) if name in self.server_only else floats
                self._check_vector(method, value, theta, kept, name)
            elif not isinstance(value, int | float):
                raise self.fault(method, f"{method} must return a shared state of tensors shaped as theta and numbers, "
                                         f"but {name} is {_describe(value)}")

    def _check_sent(self, sent: Any, theta: Tensor) -> None:
        allowed = "what contribute sends must be a tensor shaped as theta, or a NamedTuple of such tensors and floats"
        parts = parts_of(sent)
        if type(sent) is tuple or not parts or not isinstance(parts[0], Tensor) or parts[0].shape != theta.shape:
            raise self.fault("contribute", allowed)
        for name, part in zip(names_of("contribution", sent), parts, strict=True):
            if isinstance(part, Tensor):
                if part.shape not in (theta.shape, ()):
                    raise self.fault("contribute", f"{allowed}, but {name} is {_describe(part)}")
                self._check_kept("contribute", part, theta.device if part.ndim else part.device, name)
            elif not isinstance(part, int | float):
                raise self.fault("contribute", f"{allowed}, but {name} is {_describe(part)}")
        self._sent = sent if self._sent is None else self._sent
        if not _is_like(sent, self._sent):
            raise self.fault("contribute", f"contribute sends {_describe_all(sent)}, but sent "
                                           f"{_describe_all(self._sent)} before: every car must send the same types in "
                                           "every round")

    def _check_vector(self, method: str, vector: Any, theta: Tensor, floats: tuple[torch.dtype, ...],
                      name: str = "") -> None:
        what = f"{method} returns {f'{name} as ' if name else ''}"
        if not isinstance(vector, Tensor) or vector.shape != theta.shape:
            raise self.fault(method, f"{method} must return a tensor shaped as theta, {tuple(theta.shape)}; "
                                     f"{what}{_describe(vector)}")
        if vector.dtype not in floats:
            raise self.fault(method, f"{what}{_describe(vector)}; it must be "
                                     f"{' or '.join(_type(one) for one in dict.fromkeys(floats))}")
        self._check_kept(method, vector, theta.device, name)

    def _check_parts(self, method: str, bundle: Any) -> None:
        for name, part in zip(names_of("memory", bundle), parts_of(bundle), strict=True):
            if isinstance(part, Tensor):
                self._check_kept(method, part, part.device, name)

    def _check_kept(self, method: str, tensor: Tensor, device: torch.device, name: str) -> None:
        """Check what concerns every tensor that is kept or sent."""
        what = f"{method} returns {f'{name} as ' if name else ''}a tensor"
        if tensor.requires_grad:
            raise self.fault(method, f"{what} that requires a gradient: add .detach()")
        if tensor.device != device:
            raise self.fault(method, f"{what} on {tensor.device}; theta is on {device}")
        if tensor.layout is not torch.strided or tensor.dtype not in DTYPES:
            raise self.fault(method, f"{what} of {_type(tensor.dtype)}, {tensor.layout}, which no checkpoint can hold")

    def _check_finite(self, method: str, result: Any, given: Any) -> None:
        """Blame a method for numbers that are not finite, if all vectors that it was given are finite."""
        if not _is_finite(result) and all(_is_finite(tensor) for tensor in _tensors(given)):
            raise self.fault(method, f"{method} returns numbers that are not finite, although the vectors that it was "
                                     "given are")

    def _number(self, method: str, value: Any) -> float:
        if not isinstance(value, int | float):
            raise self.fault(method, f"{method} returns {_describe(value)}; it must return a number")
        return value


def watch(algorithm: Algorithm, name: str, world: World) -> Algorithm:
    """Return a user's own algorithm watched, so that its faults in a run are told.

    An algorithm of fedsim itself is returned as it is. name: the value of --algo.
    """
    def blame(said: str) -> FedsimError:
        return RankError(f"rank {world.rank}, while {world.doing}: --algo {name}: {said}")

    return Watched(algorithm, blame) if ":" in name else algorithm


def unwrap(algorithm: Algorithm) -> Algorithm:
    """Return the algorithm inside of a watched one. Any other algorithm is returned as it is."""
    return algorithm.own if isinstance(algorithm, Watched) else algorithm


def is_same(one: Any, other: Any) -> bool:
    """Return whether two bundles are the same to the bit. NaN is the same as NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and one.device == other.device and (
            one.is_meta or torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all()))
    if is_group(one) and is_group(other):
        return type(one) is type(other) and len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return type(one) is type(other)  # of no type that an algorithm may return: it is refused for that


def _tensors(bundle: Any) -> Iterator[Tensor]:
    """Yield the tensors of a bundle, at any depth."""
    if isinstance(bundle, Tensor):
        yield bundle
    elif isinstance(bundle, tuple):
        for part in bundle:
            yield from _tensors(part)


def _modes() -> tuple[object, ...]:
    return torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device()


def _is_finite(bundle: Any) -> bool:
    return all(bool(part.isfinite().all()) if isinstance(part, Tensor) else part is None or math.isfinite(part)
               for part in parts_of(bundle))


def _is_like(sent: Any, first: Any) -> bool:
    """Return whether two contributions have the same parts. A float and a whole number are both numbers."""
    return type(sent) is type(first) and len(parts_of(sent)) == len(parts_of(first)) and all(
        is_alike(part, was) if isinstance(part, Tensor) else not isinstance(was, Tensor)
        for part, was in zip(parts_of(sent), parts_of(first), strict=True))


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {tuple(value.shape)} {_type(value.dtype)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _describe_all(bundle: Any) -> str:
    return ", ".join(map(_describe, parts_of(bundle)))


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
