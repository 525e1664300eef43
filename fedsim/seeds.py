"""Named random streams: a generator for each seed, purpose and keys.

So there is no random state to save. The shuffle of car 3 in round 7 is always the same: it depends neither on earlier
draws, nor on the rank that plays the car, nor on whether the run was resumed.
"""

import hashlib
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

# Functions of torch, its tensors and torch.nn.init that draw from a generator.
DRAWING = frozenset({
    "bernoulli", "bernoulli_", "cauchy_", "exponential_", "geometric_", "kaiming_uniform_", "log_normal_",
    "multinomial", "normal", "normal_", "poisson", "rand", "randint", "randn", "random_", "randperm", "uniform_"})


def derive(seed: int, purpose: str, *keys: int | str) -> int:
    """Return a seed of 63 bits for this purpose and these keys. Another purpose or key gives another seed."""
    name = "/".join([str(seed), purpose, *map(str, keys)])
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


def stream(seed: int, purpose: str, *keys: int | str) -> np.random.Generator:
    """Return a numpy generator. It serves draws that are cheap on the CPU: shuffles, samples, layouts."""
    return np.random.Generator(np.random.PCG64(derive(seed, purpose, *keys)))


def seed_torch(seed: int, purpose: str, *keys: int | str) -> None:
    """Seed torch's own generators, from which dropout and the initial weights are drawn."""
    # torch.manual_seed would format a stack trace in each call while CUDA is not in use, which takes 1 ms.
    derived = derive(seed, purpose, *keys)
    torch.default_generator.manual_seed(derived)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(derived)


class OwnDraws(TorchFunctionMode):
    """A block in which torch draws from a generator of its own, in this thread and on the CPU.

    It draws the numbers that `seed_torch` would give, whatever other threads draw or seed meanwhile. Afterwards torch's
    own generator goes on where the block has stopped.
    """

    def __init__(self, seed: int, purpose: str, *keys: int | str) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(derive(seed, purpose, *keys))

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.default_generator.set_state(self._generator.get_state())

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in DRAWING:
            kwargs = {"generator": self._generator} | {name: value for name, value in (kwargs or {}).items()
                                                       if value is not None}
        return function(*args, **(kwargs or {}))
