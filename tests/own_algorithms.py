"""Algorithms of a user's own, written by chance: right ones of all sorts, and wrong ones with one fault each."""

import random
from typing import NamedTuple

HEAD = """
import dataclasses, os, random, time
from dataclasses import dataclass
from typing import NamedTuple
import numpy as np
import torch
from fedsim.algorithms import Algorithm, FedADMM, FedAvg, FedProx, Local, Scaffold

"""
# A method of FedAvg with a body of its own, for faults that need no state.
METHODS = {
    "init_shared": "self, theta", "init_memory": "self, theta", "begin_round": "self, shared, step_length",
    "start": "self, shared, memory", "correction": "self, w, shared, memory",
    "contribute": "self, local, shared, memory", "update": "self, shared, mean, participation"}


class Fault(NamedTuple):
    """A class with a fault in one of its methods."""

    method: str
    body: str  # lines of the method
    says: str  # part of the sentence
    before: str = ""  # lines above the class
    others: str = ""  # lines of other methods

    def source(self) -> str:
        """Return the module, with a class Mine."""
        lines = "\n".join(f"        {line}" for line in self.body.splitlines())
        return (f"{HEAD}{self.before}\nclass Mine(FedAvg):\n    sends_model = True\n{self.others}\n"
                f"    def {self.method}({METHODS[self.method]}):\n{lines}\n")


SHARED = "class S(NamedTuple):\n    theta: object\n    c: object\n"
KEEPS = "    def init_memory(self, theta): return theta.new_zeros(theta.shape)\n"
COUNTS = "    def init_shared(self, theta): return S(theta, 0)\n"
SEEN = "    def update(self, shared, mean, participation): return shared._replace(theta=mean, c=shared.c + 1)\n"
LATE = "if shared.c == 4: "  # rounds from the start

FAULTS = {
    "half theta": Fault("update", "return shared._replace(theta=mean.half())", "float16"),
    "whole theta": Fault("update", "return shared._replace(theta=mean.long())", "int64"),
    "theta of another shape": Fault("update", "return shared._replace(theta=mean[None])", "(1, "),
    "theta elsewhere": Fault("update", "return shared._replace(theta=mean.to('meta'))", "on meta"),
    "theta as a list": Fault("update", "return shared._replace(theta=[1.0])", "a list"),
    "theta as an array": Fault("update", "return shared._replace(theta=mean.numpy())", "a ndarray"),
    "double shared": Fault("init_shared", "return S(theta, theta.double())", "float64", SHARED),
    "start in half": Fault("start", "return shared.theta.half()", "float16"),
    "start None": Fault("start", "return None", "start must return a tensor"),
    "begin_round None": Fault("begin_round", "return None", "must return a shared state"),
    "writes theta": Fault("contribute", "shared.theta.add_(0.1)\nreturn local.w, memory", "writes to a tensor"),
    "writes w": Fault("correction", "w.mul_(1.0)\nreturn None", "writes to a tensor"),
    "writes through data": Fault("correction", "w.data[0] += 1\nreturn None", "writes to a tensor"),
    "writes through numpy": Fault("contribute", "local.w.numpy()[:] = 0\nreturn local.w, memory",
                                  "writes to a tensor"),
    "writes its memory": Fault("contribute", "memory.add_(local.w)\nreturn local.w, memory", "writes to a tensor",
                               others=KEEPS),
    "writes the mean": Fault("update", "return shared._replace(theta=mean.mul_(0.5))", "writes to a tensor"),
    "writes theta at the server": Fault("update", "shared.theta.copy_(mean)\nreturn shared", "writes to a tensor"),
    "wants a gradient": Fault("correction", "w.requires_grad_()\nreturn None", "writes to a tensor"),
    "returns a gradient": Fault("correction", "return (w.clone().requires_grad_() * 0.1)", "requires a gradient"),
    "keeps a gradient": Fault("contribute", "return local.w, local.w.clone().requires_grad_()", "requires a gradient",
                              others=KEEPS),
    "sends a gradient": Fault("contribute", "return local.w.clone().requires_grad_(), memory", "requires a gradient"),
    "no gradients any more": Fault("contribute", "torch.set_grad_enabled(False)\nreturn local.w, memory", "grad mode"),
    "torch's random numbers": Fault("contribute", "return local.w + torch.randn_like(local.w), memory", "random"),
    "numpy's random numbers": Fault("update", "return shared._replace(theta=mean * np.random.rand())", "random"),
    "Python's random numbers": Fault("start", "return shared.theta * (1 + random.random())", "random"),
    "a generator of its own": Fault("correction", "return w * GENERATOR.random()", "random",
                                    "GENERATOR = np.random.default_rng(0)\n"),
    "the time": Fault("begin_round", "return shared._replace(theta=shared.theta * (1 + time.time() % 1))",
                      "called again"),
    "counts on self": Fault("update", "self.count = getattr(self, 'count', 0) + 1\n"
                                      "return shared._replace(theta=mean / self.count)", "called again"),
    "counts later on self": Fault("update", "self.count = getattr(self, 'count', 0) + 1\n"
                                            "return shared._replace(theta=mean / (1 + (self.count > 50)))",
                                  "changes self.count"),
    "counts on the class": Fault("update", "Mine.count += 1\n"
                                           "return shared._replace(theta=mean * (1 + Mine.count // 60))",
                                 "changes Mine.count", others="    count = 0\n"),
    "counts in the module": Fault("update", "global COUNT\nCOUNT += 1\nreturn shared._replace(theta=mean)", "COUNT",
                                  "COUNT = 0\n"),
    "a buffer on self": Fault("update", "self.v = 0.9 * getattr(self, 'v', 0) + mean - shared.theta\n"
                                        "return shared._replace(theta=shared.theta + self.v)", "called again"),
    "a list in a default": Fault("contribute", "SEEN.append(local.w)\nreturn sum(SEEN) / len(SEEN), memory",
                                 "called again", "SEEN = []\n"),
    "a double server field": Fault("update", "return shared._replace(theta=mean, c=mean - shared.theta)",
                                   "no checkpoint gives that back", SHARED,
                                   "    server_only = ('c',)\n"
                                   "    def init_shared(self, theta): return S(theta, theta.new_zeros(theta.shape))\n"),
    "reads a server field": Fault("contribute", "return local.w + shared.c, memory", "server_only", SHARED,
                                  "    server_only = ('c',)\n" + COUNTS + SEEN),
    "one name for server_only": Fault("contribute", "return local.w, memory", "server_only", SHARED,
                                      "    server_only = 'c'\n" + COUNTS + SEEN),
    "an unknown weighting": Fault("contribute", "return local.w, memory", "weighting is 'size'",
                                  others="    weighting = 'size'\n"),
    "memory of another shape": Fault("contribute", "return local.w, memory[:2]", "does not keep", others=KEEPS),
    "memory of another type": Fault("contribute", "return local.w, memory.double()", "does not keep", others=KEEPS),
    "memory of another kind": Fault("contribute", "return local.w, (memory, 1)", "does not keep", others=KEEPS),
    "a complex memory": Fault("init_memory", "return theta.to(torch.complex64)", "complex64"),
    "NaN": Fault("update", "return shared._replace(theta=mean / 0 * 0)", "not finite"),
    "an infinite contribution": Fault("contribute", "return local.w / 0, memory", "not finite"),
    "a correction of NaN": Fault("correction", "return w * float('nan')", "not finite"),
    "a list of numbers": Fault("contribute", "return local.w.tolist(), memory", "must be a tensor shaped as theta"),
    "an exception": Fault("correction", "raise ValueError('too\\nmuch')", "it raises ValueError: too much"),
    "an OSError": Fault("contribute", "open('/nowhere/at/all')", "it raises FileNotFoundError"),
    "an exit": Fault("update", "raise SystemExit(0)", "it raises SystemExit: 0"),
    "the end of an iterator": Fault("update", "next(iter([]))", "it raises StopIteration"),
    "an exit of another kind": Fault("start", "raise GeneratorExit", "it raises GeneratorExit"),
}
# What shows only in a late round, by the count of rounds in the shared state, in a module that begins with SHARED.
LATE_FAULTS = {
    "late: an OSError": Fault("contribute", f"{LATE}open('/nowhere/at/all')\nreturn local.w, memory",
                              "raises FileNotFoundError"),
    "late: an exit": Fault("start", f"{LATE}raise SystemExit(0)\nreturn shared.theta", "raises SystemExit: 0"),
    "late: an interrupt": Fault("correction", f"{LATE}raise KeyboardInterrupt\nreturn None",
                                "raises KeyboardInterrupt"),
    "late: NaN": Fault("correction", f"{LATE}return w * float('nan')\nreturn None", "not finite"),
    "late: half": Fault("start", f"{LATE}return shared.theta.half()\nreturn shared.theta", "float16"),
    "late: a write": Fault("contribute", f"{LATE}shared.theta.mul_(1.5)\nreturn local.w, memory", "writes to a tensor"),
    "late: random numbers": Fault("contribute", f"{LATE}return local.w + torch.rand(()), memory\n"
                                                "return local.w, memory", "called again"),
    "late: a gradient": Fault("correction", f"{LATE}return w.clone().requires_grad_()\nreturn None",
                              "requires a gradient"),
    "late: another memory": Fault("contribute", f"{LATE}return local.w, memory[1:]\nreturn local.w, memory",
                                  "does not keep", others=KEEPS),
}
LATE_FAULTS = {name: fault._replace(before=SHARED, others=COUNTS + SEEN + fault.others)
               for name, fault in LATE_FAULTS.items()}


def draw(chance: random.Random) -> str:
    """Write a right algorithm: with fields, memory, contribution and steps by chance."""
    sent, server = chance.random() < 0.5, chance.random() < 0.5
    kind = chance.choice(["None", "m", "(m, 0)", "Kept(m, m.double(), 0, None)", "Kept(m.double(), m, 2, None)"])
    numbers = chance.random() < 0.5
    double = chance.choice([".double()", ".float()"])
    vector = {"None": "shared.theta", "m": "memory", "(m, 0)": "memory[0]"}.get(kind, "memory.w")
    kept = {"None": "None", "m": "0.5 * memory + move", "(m, 0)": "(memory[0] + move, memory[1] + 1)"}.get(
        kind, "Kept((0.5 * memory.w + move).to(memory.w.dtype), memory.y - move, memory.k + 1, float(move.norm()))")
    move = chance.choice(["local.w - shared.theta", "0.5 * (local.w - shared.theta)",
                          "(local.w - shared.theta) / local.steps", "local.w - shared.theta + noise(local.w)"])
    contribution = chance.choice(["move", "Sent(move, float(move @ move))", "More(move, move.abs(), 1.0)"])
    first = "mean" if contribution == "move" else "mean.move"
    return f"""{HEAD}
class S(NamedTuple):
    theta: object
    c: object
    h: object
    n: int
    r: float

class Kept(NamedTuple):
    w: object
    y: object
    k: int
    last: object

class Sent(NamedTuple):
    move: object
    length: float

class More(NamedTuple):
    move: object
    size: object
    one: float

def noise(w):
    draw = torch.Generator().manual_seed(int(w.view(torch.int32).sum()))
    return 1e-4 * torch.randn(w.shape, generator=draw)

class Mine(Algorithm):
    weighting = "{chance.choice(["images", "uniform"])}"
    free_server_step = {chance.random() < 0.5}
    server_only = ({"'h'," if server else ""})

    def init_shared(self, theta):
        zero = theta.new_zeros(theta.shape)
        return S(theta, {"zero" if sent else "0.0"}, zero{double if server else ""}, 0, 1.0)

    def init_memory(self, theta):
        m = theta.new_zeros(theta.shape)
        return {kind}

    def begin_round(self, shared, step_length):
        return shared._replace(r={"shared.r * 0.9" if numbers else "step_length or 0.5"})

    def start(self, shared, memory):
        return shared.theta{chance.choice(["", f" + 0.01 * ({vector} - shared.theta)"])}

    def correction(self, w, shared, memory):
        return {chance.choice(["None", "0.1 * (w - shared.theta)", "0.01 * shared.r * (w - shared.theta) + shared.c",
                               f"0.01 * {vector}"])}

    def contribute(self, local, shared, memory):
        move = {move}
        return {contribution}, {kept}

    def update(self, shared, mean, participation):
        step = {first}
        h = (shared.h + 0.1 * step){double if server else ".float()"}
        return S(shared.theta + {chance.choice(["step", "participation * step", "0.5 * step + 0.1 * h"])},
                 {"0.01 * step" if sent else "0.0"}, h, shared.n + 1, shared.r{" / 2" if numbers else ""})
"""
