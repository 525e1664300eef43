"""Settings of a process that calls fedsim: at their defaults while fedsim works, and the caller's again afterwards.

torch, numpy and Python keep settings for a whole process or thread, and read them in silence: a default type, a
precision, warnings that raise. A command finds them at their defaults. A call from a program works with the same
defaults, so that it computes the same bits.
"""

import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import ImageFile
from torch.backends import cuda, cudnn, mkldnn

from fedsim.errors import SettingsError

LEAST_NORMAL = sys.float_info.min
_turn: threading.Lock
_holder: int | None  # the thread whose turn it is


class _Setting(NamedTuple):
    """A setting that is read and written by functions."""

    read: Callable[[], Any]
    write: Callable[[Any], object]
    default: Any

    def use_default(self) -> Callable[[], None]:
        """Write the default, and return the function that puts back what was there."""
        try:
            before = self.read()
        except RuntimeError:  # its parts differ, so that it has no value of its own
            return lambda: None
        if before != self.default:
            self.write(self.default)
        return lambda: self._put_back(before)

    def keep(self) -> Callable[[], None]:
        """Return the function that puts back what is there, in case that another setting writes it."""
        return partial(self._put_back, self.read())

    def _put_back(self, before: Any) -> None:
        if self.read() != before:
            self.write(before)


def _attribute(owner: Any, name: str, default: Any) -> _Setting:
    """Return a setting that is an attribute. A version of torch that lacks it has its default."""
    return _Setting(lambda: getattr(owner, name, default), lambda value: setattr(owner, name, value), default)


def _precision(owner: Any, part: str, default: str = "none") -> _Setting:
    return _attribute(getattr(owner, part, None), "fp32_precision", default)


def _autocast(kind: str) -> _Setting:
    return _Setting(lambda: torch.is_autocast_enabled(kind), partial(torch.set_autocast_enabled, kind), False)


_PLAIN = [
    _Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    _Setting(lambda: (torch.are_deterministic_algorithms_enabled(),
                      torch.is_deterministic_algorithms_warn_only_enabled()),
             lambda both: torch.use_deterministic_algorithms(both[0], warn_only=both[1]), (False, False)),
    _Setting(lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
             lambda both: torch.autograd.set_detect_anomaly(*both), (False, True)),
    _attribute(mkldnn, "enabled", True), _attribute(mkldnn, "deterministic", False),
    _attribute(torch.utils.deterministic, "fill_uninitialized_memory", True),
    *(_attribute(cudnn, name, name == "enabled") for name in ("enabled", "benchmark", "deterministic")),
    _attribute(ImageFile, "LOAD_TRUNCATED_IMAGES", False),
]
# The precision of float32: of everything, of each library, and of its kinds of operations. What has none of its own has
# that of what stands before it.
_OF_LIBRARIES = [
    _precision(torch, "backends"), _precision(torch.backends, "cudnn"),
    _Setting(lambda: getattr(mkldnn, "fp32_precision", "none"),
             lambda value: mkldnn.set_flags(_fp32_precision=value), "none")]
_OF_OPERATIONS = [
    *(_precision(mkldnn, part) for part in ("matmul", "conv", "rnn")), _precision(cuda, "matmul"),
    _precision(cudnn, "conv", "tf32"), _precision(cudnn, "rnn", "tf32")]
# The older names of some of them. Each writes several of the above.
_OLDER = [
    _Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    _attribute(cudnn, "allow_tf32", True)]
# Of a thread.
_OF_THREAD = [
    _autocast("cpu"), _autocast("cuda"),
    _Setting(lambda: LEAST_NORMAL / 2 == 0, torch.set_flush_denormal, False),
]


@contextmanager
def use_defaults() -> Iterator[None]:
    """Run the block with the settings that a command has, in this thread and in the process.

    Threads share the settings of the process. If several are in such a block, the first one takes them to their
    defaults, and the last one puts them back. It is a decorator too.
    """
    with _SHARED.entered(), ExitStack() as thread:
        for setting in _OF_THREAD:
            thread.callback(setting.use_default())
        thread.enter_context(torch.inference_mode(False))
        thread.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            thread.enter_context(torch.device("cpu"))
        thread.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        yield


class _Shared:
    """The settings of the process, which several threads may need at their defaults."""

    def __init__(self) -> None:
        self._lock, self._blocks, self._before = threading.Lock(), 0, ExitStack()

    @contextmanager
    def entered(self) -> Iterator[None]:
        with self._lock:
            if not self._blocks:
                with ExitStack() as undone:  # if a setting cannot be written, none is
                    self._take(undone)
                    self._before = undone.pop_all()
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self._before.close()

    @staticmethod
    def _take(stack: ExitStack) -> None:
        stack.enter_context(_no_warning_raises())
        stack.enter_context(_kept_environment())
        stack.enter_context(_any_plot_backend())
        for setting in (*_PLAIN, *_OF_LIBRARIES):
            stack.callback(setting.use_default())
        for setting in _OF_OPERATIONS:
            stack.callback(setting.keep())
        for setting in (*_OLDER, *_OF_OPERATIONS):
            stack.callback(setting.use_default())


_SHARED = _Shared()


@contextmanager
def _no_warning_raises() -> Iterator[None]:
    """Show the warnings that a program has turned into errors: those of other packages would end a call."""
    with warnings.catch_warnings():
        tamed = [("default" if one[0] == "error" else one[0], *one[1:]) for one in warnings.filters]
        warnings.resetwarnings()
        warnings.filters.extend(tamed)  # type: ignore[attr-defined]
        yield


@contextmanager
def _kept_environment() -> Iterator[None]:
    """Put back the environment variables: ranks that meet set some, and a program hands its own to its children."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


@contextmanager
def _any_plot_backend() -> Iterator[None]:
    """Let matplotlib be imported whatever MPLBACKEND is: an unknown name ends its import, and figures need no display.

    If matplotlib is imported in the block, the program's own figures have its backend afterwards.
    """
    name = os.environ.get("MPLBACKEND")
    if name is None or "matplotlib" in sys.modules:
        yield
        return
    os.environ["MPLBACKEND"] = "agg"
    try:
        yield
    finally:
        os.environ["MPLBACKEND"] = name
        if "matplotlib" in sys.modules:
            with suppress(ValueError):
                sys.modules["matplotlib"].rcParams["backend"] = name


@contextmanager
def keep_randomness(gpus: bool) -> Iterator[None]:
    """Put back, after the block, the states of all generators that a program shares: torch's, numpy's, Python's.

    gpus: whether the block may use GPUs. The number of torch's threads is put back too.
    """
    threads, numpys, pythons = torch.get_num_threads(), np.random.get_state(), random.getstate()
    devices = range(torch.cuda.device_count()) if gpus or torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            np.random.set_state(numpys)
            random.setstate(pythons)


@contextmanager
def take_turn(what: str, waits: bool) -> Iterator[None]:
    """Run the block when no other thread of this process runs it.

    what: the name of the work, for messages. waits: whether a call waits for another thread. Raises SettingsError if it
    need not wait, or would wait for itself.
    """
    global _holder
    if _holder == threading.get_ident():
        raise SettingsError(f"{what} is called inside of {what}: call it when the first one has ended")
    if not _turn.acquire(blocking=waits):
        raise SettingsError(f"another thread of this process is in {what}, and with several ranks one run must end "
                            "before the next one begins: call them one after another")
    _holder = threading.get_ident()
    try:
        yield
    finally:
        _holder = None
        _turn.release()


def _begin_anew() -> None:
    """Forget, in a process that was forked, what threads of its parent do."""
    global _turn, _holder
    _turn, _holder = threading.Lock(), None


_begin_anew()
os.register_at_fork(after_in_child=_begin_anew)
