"""A trial of a user's own algorithm before training: a few rounds of its functions, without any training.

It finds what would make a result depend on the number of ranks or on a resume, or end a run in its middle.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedsim.algorithms import Algorithm, Local
from fedsim.errors import SettingsError
from fedsim.experiment.watched import NEEDED, Watched, is_same
from fedsim.federation.bundles import from_tensors, parts_of, to_tensors
from fedsim.record.snapshot import InvalidPart, restore_bundle

ROUNDS = (((0,), 0.5), ((1,), 0.5), ((0, 1), 1.0))  # the cars of each round, and their share of all weight
SHORT = 2**12  # numbers of a vector
STEPS = 2  # of a car in a round
MOVE = 0.01  # deviation of a car's steps in each coordinate


def check_algorithm(algorithm: Algorithm, theta: Tensor, name: str, step_length: float | None = 1.0,
                    robust: bool = False) -> None:
    """Play a few rounds of an algorithm from theta (d,). Raises SettingsError if one of its functions is wrong.

    name: the value of --algo. step_length: of a car's local steps, None if the local optimiser has no such length.
    robust: whether the contributions are stored one by one, for another rule than the mean.
    """
    def try_out(vector: Tensor, thorough: bool) -> None:
        watched = Watched(algorithm, lambda said: SettingsError(f"--algo {name}: {said}"), thorough)
        if wrong := next(_wrong_words(algorithm), None):
            raise watched.fault("", wrong)
        if thorough:
            _play_twice(watched, vector, step_length, robust)
        else:
            _Trial(watched, vector, step_length, robust).play(ROUNDS[:1])

    if theta.numel() > SHORT:  # every number is looked at many times, which takes long for millions of them
        try_out(theta, thorough=False)
        with suppress(SettingsError):  # an algorithm may need the vector as long as it is
            try_out(theta[:SHORT].clone(), thorough=True)
            return
    try_out(theta, thorough=True)


def _play_twice(watched: Watched, theta: Tensor, step_length: float | None, robust: bool) -> None:
    """Play the same rounds twice. Raises the error of `watched` if the second time is another."""
    first = _Trial(watched, theta, step_length, robust).play(ROUNDS)
    kept = _own_state(watched.own)
    again = _Trial(watched, theta, step_length, robust).play(ROUNDS)
    for (method, result), (_, other) in zip(first, again, strict=False):
        if result != other:
            raise watched.fault(method, f"{method} returns something else when the same rounds are played again: it "
                                        f"keeps something of its own between calls; {NEEDED}")
    for place, value in _own_state(watched.own).items():
        if kept.get(place) != value:
            raise watched.fault("", f"it changes {place} while it works, which neither a resumed run nor another rank "
                                    f"knows of; {NEEDED}")


def _wrong_words(algorithm: Algorithm) -> Iterator[str]:
    """Yield in words what is wrong with what an algorithm says of itself."""
    if algorithm.weighting not in ("images", "uniform"):
        yield f'weighting is {algorithm.weighting!r}; it must be "images" or "uniform"'
    if not isinstance(algorithm.server_only, tuple) or "theta" in algorithm.server_only:
        yield (f"server_only is {algorithm.server_only!r}; it must be a tuple of names of fields, such as ('h',), "
               "without theta")


class _Trial:
    """Some rounds of an algorithm. It keeps a fingerprint of all that the algorithm's functions return."""

    def __init__(self, watched: Watched, theta: Tensor, step_length: float | None, robust: bool) -> None:
        self.watched, self.theta, self.step_length, self.robust = watched, theta, step_length, robust
        self.results: list[tuple[str, tuple[Any, ...]]] = []
        self.draw = torch.Generator().manual_seed(1)

    def play(self, rounds: Sequence[tuple[Sequence[int], float]]) -> list[tuple[str, tuple[Any, ...]]]:
        """Play the rounds, and return (function, fingerprint of what it returned) for every call, in order."""
        watched, theta = self.watched, self.theta
        start = shared = self._note("init_shared", watched.init_shared(theta))
        memory = self._note("init_memory", watched.init_memory(theta))
        memories = {0: memory, 1: memory}
        for number, (cars, share) in enumerate(rounds):
            given = shared
            shared = self._note("begin_round", watched.begin_round(shared, self.step_length))
            hidden = self._hide(given, shared)
            if not number:
                watched.contribute(Local(theta, STEPS, 1, self.step_length),
                                   *watched.receive(shared, memory, self.step_length))
            sent = []
            for car in cars:
                contribution, memories[car] = self._play_car(car, shared, hidden, memories[car])
                sent.append(to_tensors(contribution))
            mean = from_tensors([sum(part.double() for part in parts) / len(cars) for parts in zip(*sent, strict=True)],
                                contribution)
            shared = self._note("update", watched.update(shared, mean, share))
            shared = self._resume("update", "the shared state", self._send(shared), start)
            memories = {car: self._resume("contribute", "the memory of a car", own, memory)
                        for car, own in memories.items()}
        return self.results

    def _play_car(self, car: int, shared: Any, hidden: Any, memory: Any) -> tuple[Any, Any]:
        """Let a car take some steps, and return what it sends and keeps.

        hidden: the shared state with other values in all fields that cars are not sent.
        """
        watched = self.watched
        received = self._note("receive", watched.receive(shared, memory, self.step_length))
        hidden, other = watched.receive(hidden, memory, self.step_length)
        self._compare("receive", received[1], other)
        shared, memory = received
        w = self._note("start", watched.start(shared, memory)).to(self.theta.dtype)
        self._compare("start", w, watched.start(hidden, memory))
        for _ in range(STEPS):
            step = torch.randn(w.shape, generator=self.draw, dtype=w.dtype).to(w.device)
            correction = self._note("correction", watched.correction(w, shared, memory))
            self._compare("correction", correction, watched.correction(w, hidden, memory))
            w = w - MOVE * (step if correction is None else step + correction.to(w.dtype))
        local = Local(w, STEPS, 1 + car, self.step_length)
        result = self._note("contribute", watched.contribute(local, shared, memory))
        self._compare("contribute", result, watched.contribute(local, hidden, memory))
        self._check_records(shared, result, memory)
        return result

    def _check_records(self, shared: Any, result: tuple[Any, Any], memory: Any) -> None:
        """Call the functions that clipping and the record need, and check what the aggregator needs."""
        watched, (sent, kept) = self.watched, result
        watched.unit(sent)
        watched.penalty(shared)
        for method in ("dual", "local_vector"):
            if (getattr(watched, method)(kept) is None) != (getattr(watched, method)(memory) is None):
                raise watched.fault(method, f"{method} returns a vector for some memories and None for others: return "
                                            "one for all or for none")
        kinds = {part.dtype for part in to_tensors(sent) if part.ndim}
        if self.robust and kinds != {self.theta.dtype}:
            raise watched.fault("contribute", "an aggregator other than mean needs all vectors of a contribution to be "
                                              f"{self.theta.dtype}, like theta".replace("torch.", ""))

    def _hide(self, given: Any, shared: Any) -> Any:
        """Return the shared state of a round as another rank has it: with other values in `server_only` fields."""
        names = [name for name in self.watched.server_only if name in shared._fields]
        if not names:
            return shared
        other = self.watched.begin_round(given._replace(**{name: _other(getattr(given, name)) for name in names}),
                                         self.step_length)
        sent = set(shared._fields) - set(names)
        for name in sorted(sent):
            self._compare("begin_round", getattr(shared, name), getattr(other, name))
        return shared._replace(**{name: _other(getattr(shared, name)) for name in names})

    def _compare(self, method: str, result: Any, other: Any) -> None:
        if not is_same(result, other if not isinstance(result, Tensor) else other.to(result.dtype)):
            raise self.watched.fault(method, f"{method} reads a field of the shared state that server_only names, "
                                             "which only the coordinator has: take the field out of server_only")

    def _send(self, shared: Any) -> Any:
        """Return a shared state as it is after it has been sent: rounded to theta's type."""
        return shared._replace(**{
            name: value.to(self.theta.dtype) for name, value in shared._asdict().items()
            if isinstance(value, Tensor) and name not in self.watched.server_only})

    def _resume(self, method: str, what: str, bundle: Any, like: Any) -> Any:
        """Return a bundle as a run that continues reads it from a checkpoint."""
        try:
            back = restore_bundle(bundle, like)
        except (InvalidPart, RuntimeError, OverflowError) as error:
            raise self.watched.fault(method, f"{what} does not come back from a checkpoint: {error}") from error
        if not is_same(bundle, back):
            raise self.watched.fault(method, f"{what} comes back from a checkpoint as something else")
        return back

    def _note(self, method: str, result: Any) -> Any:
        if self.watched.thorough:
            self.results.append((method, tuple(_fingerprint(result))))
        return result


def _fingerprint(value: Any) -> Iterator[Any]:
    """Yield numbers that hardly ever agree for two bundles that differ."""
    for part in value if isinstance(value, tuple) else parts_of(value):
        if isinstance(part, tuple):
            yield from _fingerprint(part)
        elif isinstance(part, Tensor):
            flat = part.detach().reshape(-1).contiguous().view(torch.uint8)
            words = flat[: flat.numel() // 4 * 4].view(torch.int32)
            yield part.dtype, part.shape, int(words.sum()), int(words[::3].sum()), int(flat[-4:].sum())
        else:
            yield repr(part)


def _other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, Tensor) or abs(value) < 1e15 else type(value)(1)


def _own_state(algorithm: Algorithm) -> dict[str, Any]:
    """Return what an algorithm keeps of its own: numbers, arrays and generators, by the place where they are."""
    classes = [kind for kind in type(algorithm).__mro__ if not kind.__module__.startswith(("fedsim.", "builtins"))]
    modules = {name: vars(sys.modules[name]) for kind in classes if (name := kind.__module__) in sys.modules}
    places = {"self": vars(algorithm)} if hasattr(algorithm, "__dict__") else {}
    places |= {kind.__name__: dict(vars(kind)) for kind in classes} | modules
    return {f"{place}.{name}": seen for place, values in places.items() for name, value in values.items()
            if (seen := _seen(value)) is not None}


def _seen(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(_fingerprint(value))
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    return repr(value) if isinstance(value, int | float | complex) else None
