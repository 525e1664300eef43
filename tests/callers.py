"""Programs that call fedsim, in states of their own: no state changes what fedsim computes, or is changed by it."""

import asyncio
import contextlib
import faulthandler
import io
import json
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from damage import Outcome
from layouts import draw, write_segnet

import fedsim

cuda: Any = torch.backends.cuda
cudnn: Any = torch.backends.cudnn
mkldnn: Any = torch.backends.mkldnn
State = Callable[[], contextlib.AbstractContextManager[Any]]


@contextmanager
def changed(read: Callable[[], Any], write: Callable[[Any], object], value: Any) -> Iterator[None]:
    """Write a value while the block runs."""
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


def attribute(owner: Any, name: str, value: Any) -> State:
    return lambda: changed(lambda: getattr(owner, name), lambda new: setattr(owner, name, new), value)


class Bare:
    """A stream of a program's own, which can write and nothing else."""

    def write(self, text: str) -> None:
        pass


class Broken(Bare):
    """A stream that raises what no stream should."""

    def write(self, text: str) -> None:
        raise RuntimeError("the window is closed")

    flush = isatty = write


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def encoded(name: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=name)


def led(name: str, stream: Any) -> contextlib.AbstractContextManager[None]:
    return attribute(sys, name, stream)()


@contextmanager
def listening() -> Iterator[None]:
    """Handlers of Python's and of C's."""
    with ExitStack() as stack:
        stack.enter_context(changed(lambda: signal.getsignal(signal.SIGINT),
                                    lambda handler: signal.signal(signal.SIGINT, handler), lambda *_: None))
        stack.enter_context(changed(lambda: signal.getsignal(signal.SIGTERM),
                                    lambda handler: signal.signal(signal.SIGTERM, handler), signal.SIG_IGN))
        faulthandler.register(signal.SIGUSR1, file=2)
        stack.callback(faulthandler.unregister, signal.SIGUSR1)
        yield


@contextmanager
def logged() -> Iterator[None]:
    """A handler, a level and propagation of the program's own, as logging.config sets them."""
    log, handler = logging.getLogger("fedsim"), logging.NullHandler()
    before = log.handlers[:], log.level, log.propagate
    log.handlers[:], log.propagate = [handler], True
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.handlers[:], log.propagate = before[0], before[2]
        log.setLevel(before[1])


@contextmanager
def drawing() -> Iterator[None]:
    """Another thread that draws and seeds all the time."""
    ended = threading.Event()

    def draw_and_seed() -> None:
        while not ended.wait(0.0005):
            torch.manual_seed(3)
            torch.rand(100)

    thread = threading.Thread(target=draw_and_seed)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def warned(action: Any) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        yield


@contextmanager
def with_plots(**changes: Any) -> Iterator[None]:
    settings: Any = {name.replace("__", "."): value for name, value in changes.items()}
    with matplotlib.rc_context(settings):
        yield


def precision(owner: Any, value: str) -> State:
    return attribute(owner, "fp32_precision", value)


STATES: dict[str, State] = {
    "float64": lambda: changed(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "bfloat16": lambda: changed(torch.get_default_dtype, torch.set_default_dtype, torch.bfloat16),
    "device": lambda: torch.device("meta"),
    "default device": lambda: changed(lambda: None, torch.set_default_device, "meta"),
    "no_grad": torch.no_grad, "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": lambda: changed(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms,
                                     True),
    "warns only": lambda: changed(torch.are_deterministic_algorithms_enabled,
                                  lambda on: torch.use_deterministic_algorithms(on, warn_only=on), True),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    "threads": lambda: changed(torch.get_num_threads, torch.set_num_threads, 3),
    "older precision": lambda: changed(lambda: told(torch.get_float32_matmul_precision),
                                       torch.set_float32_matmul_precision, "medium"),
    "precision": precision(torch.backends, "tf32"), "precision of convolutions": precision(mkldnn.conv, "bf16"),
    "precision of products": precision(mkldnn.matmul, "bf16"), "precision of CUDA": precision(cuda.matmul, "tf32"),
    "flags of oneDNN": lambda: mkldnn.flags(enabled=False, deterministic=True, allow_tf32=None),
    "precision of oneDNN": lambda: mkldnn.flags(enabled=True, allow_tf32=None, fp32_precision="bf16"),
    "flags of cuDNN": lambda: cudnn.flags(enabled=False, benchmark=True, allow_tf32=False),
    "no denormals": lambda: changed(lambda: False, torch.set_flush_denormal, True),
    "numpy raises": lambda: np.errstate(all="raise"),
    "numpy prints": lambda: np.printoptions(precision=1, threshold=2, legacy="1.13"),
    "warnings raise": lambda: warned("error"), "warnings are hidden": lambda: warned("ignore"),
    "handlers": listening, "log": logged, "no log": lambda: changed(
        lambda: logging.root.manager.disable, logging.disable, logging.CRITICAL),
    "folder": lambda: changed(os.getcwd, os.chdir, "/"), "draws": drawing,
    "plots": lambda: with_plots(text__usetex=True, figure__dpi=30, savefig__bbox="tight", font__size=30),
    "more plots": lambda: with_plots(axes__grid=False, svg__fonttype="path", figure__constrained_layout__use=True),
    "truncated pictures": attribute(sys.modules["PIL.ImageFile"], "LOAD_TRUNCATED_IMAGES", True),
    "quiet log": lambda: changed(lambda: logging.getLogger("fedsim").level, logging.getLogger("fedsim").setLevel, 40),
    "words": attribute(sys, "argv", []),
    "stdout None": lambda: led("stdout", None), "stdout closed": lambda: led("stdout", closed()),
    "stdout bare": lambda: led("stdout", Bare()), "stdout broken": lambda: led("stdout", Broken()),
    "stdout text": lambda: led("stdout", io.StringIO()), "stdout ASCII": lambda: led("stdout", encoded("ascii")),
    "stdout cp1252": lambda: led("stdout", encoded("cp1252")), "stderr None": lambda: led("stderr", None),
    "stderr closed": lambda: led("stderr", closed()), "stderr broken": lambda: led("stderr", Broken()),
}

PRECISIONS = {"all": torch.backends, "products": mkldnn.matmul, "convolutions": mkldnn.conv, "cells": mkldnn.rnn,
              "CUDA": cuda.matmul, "cuDNN": cudnn, "cuDNN's": cudnn.conv}


def told(read: Callable[[], Any]) -> Any:
    """Return a value, or that torch cannot tell it."""
    try:
        return read()
    except RuntimeError:
        return "unknown"


def read_state(generators: bool = True) -> dict[str, Any]:
    """Return all that a program may have set. generators: with the states of random generators."""
    log = logging.getLogger("fedsim")
    state = {
        "type": torch.get_default_dtype(), "device": torch.get_default_device(), "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(), "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": (torch.are_deterministic_algorithms_enabled(),
                          torch.is_deterministic_algorithms_warn_only_enabled()),
        "anomaly": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "threads": torch.get_num_threads(), "product": told(torch.get_float32_matmul_precision),
        "precisions": {name: owner.fp32_precision for name, owner in PRECISIONS.items()},
        "oneDNN": (mkldnn.enabled, mkldnn.deterministic, mkldnn.fp32_precision),
        "cuDNN": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision),
        "denormals": sys.float_info.min / 2, "numpy": (np.geterr(), np.get_printoptions()),
        "warnings": [*warnings.filters], "streams": (sys.stdout, sys.stderr), "words": sys.argv,
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "folder": os.getcwd(), "environment": dict(os.environ), "plots": dict(matplotlib.rcParams),
        "log": (log.level, [*log.handlers], log.propagate, logging.root.manager.disable),
        "pictures": sys.modules["PIL.ImageFile"].LOAD_TRUNCATED_IMAGES,
    }
    if generators:
        state |= {"torch": torch.default_generator.get_state().tolist(), "Python": random.getstate(),
                  "numpys": repr(np.random.get_state(legacy=False))}
    return state


def check_kept(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Assert that nothing was changed, and name what was."""
    assert not {name: (value, after[name]) for name, value in before.items() if value != after[name]}


class Callers:
    """A tiny run, whose numbers every call must give again, whatever the state of the program."""

    def __init__(self, folder: Path) -> None:
        names = {split: [f"{split}{drive}_{scene:05d}" for drive in range(2) for scene in range(3)]
                 for split in ("train", "val")}
        for split, scenes in names.items():
            write_segnet(folder / "scenes", {name: draw(12, seed) for seed, name in enumerate(scenes)}, split)
        self.folder, self.number = folder, 0
        self.picture = np.random.default_rng(0).integers(0, 256, (36, 48, 3), np.uint8)
        self.whole = folder / "undisturbed"
        self.expected = self.play(self.whole)
        self.labels = fedsim.load(self.whole, "cpu").labels([self.picture])[0].copy()

    def play(self, out: Path) -> list[Any]:
        result = fedsim.run(data="camvid", data_root=str(self.folder / "scenes"), cars=2, rounds=1, batch_size=4,
                            width=2, image_size="32x24", threads=1, device="cpu", out=str(out))
        return [(record["theta_sha256"], record["global"]["miou"]) for record in result.metrics]

    def check_run(self) -> None:
        self.number += 1
        assert self.play(self.folder / f"run-{threading.get_ident()}-{self.number}") == self.expected

    def check_labels(self) -> None:
        segmenter = fedsim.load(self.whole, "cpu")
        assert all(parameter.dtype == torch.float32 for parameter in segmenter.module.parameters())
        assert (segmenter.labels([self.picture])[0] == self.labels).all()

    def check_refusal(self) -> None:
        """A run that is refused when its network is made already."""
        try:
            self.play(self.whole)
        except fedsim.FedsimError as error:
            assert "undisturbed" in str(error) and len(str(error).splitlines()) == 1
        else:
            raise AssertionError("a finished run was overwritten")

    def check(self, call: Callable[[], None], names: list[str]) -> None:
        """Call in these states, each within the one before."""
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(STATES[name]())
            before = read_state("draws" not in names)
            call()
            check_kept(before, read_state("draws" not in names))

    def call_at_random(self, chance: random.Random) -> Outcome:
        """Call from one to four states, in one of several ways."""
        names = chance.sample([*STATES], chance.choice([1, 1, 2, 3, 4]))
        call = chance.choice([self.check_run, self.check_run, self.check_labels, self.check_refusal])
        way = chance.choice(["here", "here", "thread", "threads", "loop"])
        if way == "here":
            self.check(call, names)
        elif way == "loop":
            asyncio.run(self._called(call, names))
        elif way == "thread":  # where Python lets nobody listen to signals
            names = [name for name in names if name != "handlers"]
            in_threads([lambda: self.check(call, names)])
        else:
            self.check(lambda: in_threads([call] * 3), [name for name in names if name != "handlers"])
        return Outcome(0, json.dumps(names))

    async def _called(self, call: Callable[[], None], names: list[str]) -> None:
        self.check(call, names)


def in_threads(calls: list[Callable[[], None]]) -> None:
    """Call each in a thread of its own, all at once, and raise what they raise."""
    errors: list[BaseException] = []

    def caught(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=caught, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error
