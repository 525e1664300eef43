"""Named random streams: every draw comes from a generator seeded by (seed, purpose, keys).

Randomness therefore has no state to save: the shuffle of car 3 in round 7 is the same whatever was
drawn before it, on whichever rank the car is played, in a fresh run or in a resumed one.
"""

import hashlib

import numpy as np
import torch


def derive(seed: int, purpose: str, *keys: int | str) -> int:
    """A 63-bit seed that belongs to this purpose and these keys alone."""
    name = "/".join([str(seed), purpose, *map(str, keys)])
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


def stream(seed: int, purpose: str, *keys: int | str) -> np.random.Generator:
    """A numpy generator for draws that cost nothing to place on the CPU: shuffles, samples, layouts."""
    return np.random.Generator(np.random.PCG64(derive(seed, purpose, *keys)))


def seed_torch(seed: int, purpose: str, *keys: int | str) -> None:
    """Seed torch's own generators, which layers such as dropout and weight initialisation draw from."""
    # Not torch.manual_seed: where CUDA is not in use yet, it formats a stack trace, 1 ms a call.
    number = derive(seed, purpose, *keys)
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
