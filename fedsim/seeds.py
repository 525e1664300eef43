"""Named random streams: a generator for each seed, purpose and keys.

So there is no random state to save. The shuffle of car 3 in round 7 is always the same: it depends neither on earlier
draws, nor on the rank that plays the car, nor on whether the run was resumed.
"""

import hashlib

import numpy as np
import torch


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
